"""Accuracy of integer graphs: what a deployed 8-bit network would answer."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cofit.data import Split
from cofit.ir import Graph, calibrate, quantise, quantise_input, run_integer
from cofit.reproductions.harness.training import EVALUATION_BATCH


def quantised(
    graph: Graph, calibration: torch.Tensor, weight_bits: Mapping[str, int] | int = 8
) -> Graph:
    """The integer graph of a float graph, ranges taken from a calibration batch (N, ...)."""
    return quantise(graph, calibrate(graph, [calibration]), weight_bits=weight_bits)


def integer_accuracy(graph: Graph, split: Split) -> float:
    """Fraction of a split whose highest output is its class, in integer arithmetic throughout."""
    right = 0
    for x, y in zip(
        split.inputs.split(EVALUATION_BATCH), split.targets.split(EVALUATION_BATCH), strict=True
    ):
        stored = quantise_input(graph, x.numpy())
        scores = run_integer(graph, {graph.inputs[0]: stored})[graph.outputs[0]]
        right += int((torch.from_numpy(scores).long().argmax(1) == y).sum())
    return right / len(split)
