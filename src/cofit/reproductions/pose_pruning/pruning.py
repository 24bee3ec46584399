"""Which layers to prune by how much: measured sensitivities and times, exact allocation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from cofit.codegen import compile
from cofit.core import ModelError
from cofit.core.allocate import Allocation, Choice, allocate
from cofit.ir import Graph
from cofit.structures import Structure, family

FAMILY = "block8x4"
"""Blocks of 8 output and 4 input channels at one kernel position, for 3x3 and 1x1 alike."""


def prunable(model: nn.Module) -> tuple[str, ...]:
    """Weights that can carry the blocks: no first layer, no depthwise layer, no last 1x1 of a head.

    Raises:
        ModelError: there is none.
    """
    form = family(FAMILY)(2.0)
    convolutions = [
        (name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    ]
    found = tuple(
        f"{name}.weight"
        for name, module in convolutions[1:]
        if module.groups == 1
        and not name.endswith((".heatmaps.2", ".pafs.2"))
        and form.applies(tuple(module.weight.shape)) is None
    )
    if not found:
        raise ModelError(f"no layer of the network can carry {FAMILY}")
    return found


def sensitivities(
    model: nn.Module,
    names: Sequence[str],
    rates: Sequence[float],
    quality: Callable[[], float],
    progress: Callable[[str, int, int], None],
) -> dict[str, list[float]]:
    """Loss of quality when one layer alone is projected, by weight name, one value per rate.

    Nothing is retrained; the model is left as it was.

    Args:
        model: whose weights are projected for a moment.
        names: of weights.
        rates: of `FAMILY`.
        quality: of the model as it is; larger is better.
        progress: called with (stage, done, total).
    """
    before = quality()
    found: dict[str, list[float]] = {}
    for done, name in enumerate(names):
        weight = model.get_parameter(name)
        kept = weight.detach().clone()
        found[name] = []
        for rate in rates:
            with torch.no_grad():
                weight.copy_(family(FAMILY)(rate).project(kept))
            found[name].append(before - quality())
        with torch.no_grad():
            weight.copy_(kept)
        progress("sensitivity", done + 1, len(names))
    return found


def layer_times(
    graph: Graph, names: Sequence[str], rates: Sequence[float]
) -> tuple[float, dict[str, list[float]]]:
    """Seconds of the compiled network, and of every layer at rate 1 and at each rate.

    The network is compiled once per rate, all layers pruned alike.
    """
    rows: list[Mapping[str, float]] = []
    whole = 0.0
    for rate in (1.0, *rates):
        structures = {name: family(FAMILY)(rate) for name in names} if rate > 1 else {}
        measured = compile(projected(graph, structures)).measure()
        whole = whole or measured.latency_s
        rows.append(measured.per_step_s)
    ops = {weight.name: op.output for op, weight in graph.weighted()}
    return whole, {name: [row[ops[name]] for row in rows] for name in names}


def plan(
    losses: Mapping[str, Sequence[float]],
    times: Mapping[str, Sequence[float]],
    rates: Sequence[float],
    limit_s: float,
) -> tuple[dict[str, float], Allocation]:
    """Rates that lose least within a time: the multiple-choice knapsack, solved exactly.

    Losses below zero (noise) count as none.

    Args:
        losses: of every layer, one per rate.
        times: of every layer, at rate 1 and then one per rate.
        rates: above 1.
        limit_s: of the sum of the layers' times.

    Returns:
        The rate of every layer, 1 where it stays dense, and the allocation.

    Raises:
        InfeasibleError: no choice is fast enough.
    """
    items = [
        [
            Choice(max(loss, 0.0), {"latency": time})
            for loss, time in zip((0.0, *losses[name]), times[name], strict=True)
        ]
        for name in losses
    ]
    found = allocate(items, {"latency": limit_s})
    every = (1.0, *rates)
    return {name: every[pick] for name, pick in zip(losses, found.picks, strict=True)}, found


def structures_of(rates: Mapping[str, float]) -> dict[str, Structure]:
    """The structure of each layer that is pruned."""
    return {name: family(FAMILY)(rate) for name, rate in rates.items() if rate > 1}


def projected(graph: Graph, structures: Mapping[str, Structure]) -> Graph:
    """The graph with weights projected onto their structures, and saying so."""
    changed = {}
    for name, structure in structures.items():
        weight = graph.tensors[name]
        data = structure.project(torch.tensor(np.asarray(weight.data))).numpy()
        changed[name] = replace(weight, data=data, structure=structure.text)
    return graph.with_tensors(changed)
