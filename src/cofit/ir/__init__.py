"""Floor 1: the typed operator graph, its float and its integer meaning."""

from cofit.ir import attributes
from cofit.ir.execute import run_float
from cofit.ir.serialise import load_graph, save_graph
from cofit.ir.shapes import kept_macs, macs
from cofit.ir.types import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor

__all__ = [
    "DType",
    "Graph",
    "Op",
    "QuantSpec",
    "Quantisation",
    "Rounding",
    "Tensor",
    "attributes",
    "kept_macs",
    "load_graph",
    "macs",
    "run_float",
    "save_graph",
]
