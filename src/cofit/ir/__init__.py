"""Floor 1: the typed operator graph, its float and its integer meaning."""

from cofit.ir import attributes
from cofit.ir.calibrate import Ranges, calibrate
from cofit.ir.channels import (
    ChannelGroup,
    Member,
    channel_groups,
    keep_map,
    permute,
    remove,
)
from cofit.ir.equivalence import (
    Equivalence,
    assert_equivalent,
    compare,
    probes,
    randomise_statistics_,
)
from cofit.ir.execute import run_float
from cofit.ir.integer import dequantise_output, quantise_input, run_integer
from cofit.ir.merge import Composite, compose, merge, merge_blocks, without_activations
from cofit.ir.module import GraphModule
from cofit.ir.passes import simplify
from cofit.ir.printing import describe, live_bytes
from cofit.ir.quantise import quantise
from cofit.ir.serialise import load_graph, save_graph
from cofit.ir.shapes import kept_macs, macs
from cofit.ir.trace import trace
from cofit.ir.types import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor

__all__ = [
    "ChannelGroup",
    "Composite",
    "DType",
    "Equivalence",
    "Graph",
    "GraphModule",
    "Member",
    "Op",
    "QuantSpec",
    "Quantisation",
    "Ranges",
    "Rounding",
    "Tensor",
    "assert_equivalent",
    "attributes",
    "calibrate",
    "channel_groups",
    "compare",
    "compose",
    "dequantise_output",
    "describe",
    "keep_map",
    "kept_macs",
    "live_bytes",
    "load_graph",
    "macs",
    "merge",
    "merge_blocks",
    "permute",
    "probes",
    "quantise",
    "quantise_input",
    "randomise_statistics_",
    "remove",
    "run_float",
    "run_integer",
    "save_graph",
    "simplify",
    "trace",
    "without_activations",
]
