"""Floor 1: the typed operator graph, its float and its integer meaning."""

from cofit.ir import attributes
from cofit.ir.calibrate import Ranges, calibrate
from cofit.ir.execute import run_float
from cofit.ir.integer import dequantise_output, quantise_input, run_integer
from cofit.ir.module import GraphModule
from cofit.ir.quantise import quantise
from cofit.ir.serialise import load_graph, save_graph
from cofit.ir.shapes import kept_macs, macs
from cofit.ir.types import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor

__all__ = [
    "DType",
    "Graph",
    "GraphModule",
    "Op",
    "QuantSpec",
    "Quantisation",
    "Ranges",
    "Rounding",
    "Tensor",
    "attributes",
    "calibrate",
    "dequantise_output",
    "kept_macs",
    "load_graph",
    "macs",
    "quantise",
    "quantise_input",
    "run_float",
    "run_integer",
    "save_graph",
]
