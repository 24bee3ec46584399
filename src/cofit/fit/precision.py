"""From a trained float graph to the graph that is compiled, in fp32 or in int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.data import Split
from cofit.ir import Graph, calibrate, quantise, run_float
from cofit.ir.integer import dequantise_output, quantise_input, run_integer
from cofit.structures import PairGrid, couples_filters, parse

Precision = Literal["fp32", "int8"]

BATCH = 250
"""Images per forward pass when evaluating: bounds memory, not the result."""


@dataclass(frozen=True)
class Lowering:
    """How float graphs of one subject become deployable graphs.

    Attributes:
        precision: arithmetic of the program.
        calibration: training inputs (N, ...), already preprocessed.
    """

    precision: Precision
    calibration: torch.Tensor

    def lower(self, graph: Graph, weight_bits: Mapping[str, int] | None = None) -> Graph:
        """The graph to compile; int8 by calibration, with corrected biases."""
        if self.precision == "fp32":
            return graph
        batches = [b.numpy() for b in self.calibration.split(BATCH)]
        ranges = calibrate(graph, batches)
        bits = {name: b for name, b in (weight_bits or {}).items() if b < 8}
        pairs = {
            weight.name: PairGrid()
            for _, weight in graph.weighted()
            if weight.structure is not None and couples_filters(parse(weight.structure))
        }
        return quantise(graph, ranges, weight_bits=bits or 8, bias_correction=batches, grids=pairs)


Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Class scores (N, classes) of inputs (N, ...)."""


def reference_scores(graph: Graph) -> Scores:
    """The meaning of a graph: the bit-exact integer reference, or float32 in torch."""

    def integer(x: NDArray[np.float32]) -> NDArray[np.float32]:
        stored = run_integer(graph, {graph.inputs[0]: quantise_input(graph, x)})
        return dequantise_output(graph, stored[graph.outputs[0]])

    def real(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            out: NDArray[np.float32] = run_float(graph, {graph.inputs[0]: torch.from_numpy(x)})[
                graph.outputs[0]
            ].numpy()
        return out

    return integer if graph.is_integer else real


def count_correct(scores: Scores, split: Split) -> int:
    """Examples whose highest score is their class; the first wins among equals."""
    correct = 0
    for x, y in zip(split.inputs.split(BATCH), split.targets.split(BATCH), strict=True):
        predicted = scores(np.ascontiguousarray(x.numpy())).argmax(axis=1)
        correct += int((predicted == y.numpy()).sum())
    return correct


def accuracy(scores: Scores, split: Split) -> float:
    """Fraction of examples whose highest score is their class."""
    return count_correct(scores, split) / len(split)
