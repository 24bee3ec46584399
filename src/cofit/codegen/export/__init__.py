"""Networks in the formats of others: ONNX and torch's exported programs."""

from cofit.codegen.export.onnx_file import export_onnx, onnx_model
from cofit.codegen.export.pt2_file import export_pt2

__all__ = ["export_onnx", "export_pt2", "onnx_model"]
