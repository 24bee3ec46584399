"""Floor 1: the typed operator graph, its float and its integer meaning."""

from cofit.ir import attributes
from cofit.ir.equivalence import (
    Equivalence,
    assert_equivalent,
    compare,
    probes,
    randomise_statistics_,
)
from cofit.ir.execute import run_float
from cofit.ir.passes import simplify
from cofit.ir.printing import describe, live_bytes
from cofit.ir.serialise import load_graph, save_graph
from cofit.ir.shapes import kept_macs, macs
from cofit.ir.trace import trace
from cofit.ir.types import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor

__all__ = [
    "DType",
    "Equivalence",
    "Graph",
    "Op",
    "QuantSpec",
    "Quantisation",
    "Rounding",
    "Tensor",
    "assert_equivalent",
    "attributes",
    "compare",
    "describe",
    "kept_macs",
    "live_bytes",
    "load_graph",
    "macs",
    "probes",
    "randomise_statistics_",
    "run_float",
    "save_graph",
    "simplify",
    "trace",
]
