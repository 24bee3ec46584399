"""What is measured of the networks: equality, latency of compiled programs, throughput, memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from cofit.codegen import compile as compile_program
from cofit.data import Split
from cofit.ir import Graph, GraphModule, calibrate, macs, quantise, run_float
from cofit.targets import HostTarget, target

IMAGES = 1000
"""Test images on which the merged network is compared with the one it came from."""


@dataclass(frozen=True)
class Equality:
    """Differences between a network and its merged form.

    Attributes:
        pixels: largest difference over all pixels of all merged blocks' outputs, each relative to
            the largest magnitude of its block.
        logits: largest absolute difference of logits.
        same: share of images with the same class.
    """

    pixels: float
    logits: float
    same: float


def equality(
    before: Graph, after: Graph, removed: tuple[str, ...], images: torch.Tensor
) -> Equality:
    """Compare two graphs on images (N, C, H, W), in float32."""
    under = tuple(f"{block}." for block in removed)
    names = [
        op.output for op in after.ops
        if op.output.startswith(under) and op.output in before.tensors
    ]  # fmt: skip
    outputs = (*names, *after.outputs)
    found = [_values(graph, outputs, images) for graph in (before, after)]
    pixels = [
        float((a - b).abs().max() / a.abs().max().clamp_min(1e-12))
        for a, b in zip(found[0][:-1], found[1][:-1], strict=True)
    ]
    logits = found[0][-1], found[1][-1]
    return Equality(
        max(pixels, default=0.0),
        float((logits[0] - logits[1]).abs().max()),
        float((logits[0].argmax(1) == logits[1].argmax(1)).float().mean()),
    )


def latencies(graphs: Mapping[str, Graph]) -> dict[str, float]:
    """Seconds of one inference of compiled and verified programs on this CPU, timed in turn.

    Every inference is timed for itself, and medians are taken: on a machine that others use too,
    the mean of a series is that of its interruptions.
    """
    programs = [compile_program(graph, "host") for graph in graphs.values()]
    costs = HostTarget().compare(programs)
    return {name: cost.latency_s for name, cost in zip(graphs, costs, strict=True)}


def throughputs(
    graphs: Mapping[str, Graph], images: torch.Tensor, rounds: int = 9
) -> dict[str, float]:
    """Images per second of torch on a batch, channels last: medians of rounds taken in turn."""
    x = images.contiguous(memory_format=torch.channels_last)
    modules = {
        name: GraphModule(graph).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, graph in graphs.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in modules}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for name, module in modules.items():
                started = time.perf_counter()
                module(x)
                seconds[name].append(time.perf_counter() - started)
    return {name: len(x) / float(np.median(found[1:])) for name, found in seconds.items()}


def on_board(graphs: Mapping[str, Graph], split: Split) -> dict[str, dict[str, float]]:
    """Of int8 programs on a Cortex-M4: cycles' time, RAM, multiply-accumulates, by name."""
    board = target("cortex-m4")
    found = {}
    for name, graph in graphs.items():
        ranges = calibrate(graph, [split.inputs[:64]])
        integer = quantise(graph, ranges)
        cost = board.cost(integer)
        found[name] = {
            "latency_s": cost.latency_s,
            "ram_bytes": float(cost.ram_bytes),
            "macs": float(sum(macs(graph, op) for op in graph.ops)),
        }
    return found


def _values(graph: Graph, names: tuple[str, ...], images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        batches = [run_float(graph, {graph.inputs[0]: x}, keep=True) for x in images.split(250)]
    return [torch.cat([batch[name] for batch in batches]) for name in names]
