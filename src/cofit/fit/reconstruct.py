"""Least-squares reconstruction: what a layer keeps makes up for what it lost, before any training.

The kept weights and the bias of a pruned layer are solved anew, so that on training inputs the
layer gives, from the activations of the pruned network, the outputs it had in the dense one:

    min ||W X + b - Y||^2 + ridge ||W - W_0||^2   over W with the zeros of W_0,

layer after layer, so that each also makes up for the errors that reach it (after He, Zhang and Sun,
Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, with the support given).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch

from cofit.fit.least_squares import is_plain, solve_kept, windows
from cofit.fit.progress import Progress
from cofit.ir import Graph, Op
from cofit.ir import attributes as at
from cofit.ir.execute import apply
from cofit.structures import Structure

ACTIVATION_ELEMENTS = 1 << 26
"""Elements of the largest activation: bounds memory by taking fewer inputs."""


def reconstruct(
    graph: Graph,
    dense: Graph,
    inputs: torch.Tensor,
    structures: Mapping[str, Structure],
    progress: Progress,
) -> Graph:
    """The graph with the structured layers, and those that lost inputs, solved anew.

    Args:
        graph: float graph whose weights lie in their structures; channels may be gone from it.
        dense: the float graph it came from, with the same op names.
        inputs: training inputs (N, ...).
        structures: by weight name.
        progress: told (stage, ops done, all ops).
    """
    largest = max(math.prod(t.shape[1:]) for t in dense.tensors.values() if t.data is None)
    if not any(_is_changed(graph, dense, op, structures) for op in graph.ops):
        return graph
    inputs = inputs[: max(1, ACTIVATION_ELEMENTS // largest)]
    wanted, found = ({g.inputs[0]: inputs} for g in (dense, graph))
    for index, op in enumerate(graph.ops):
        progress("reconstruct", index, len(graph.ops))
        whole = dense.producer[op.output]
        with torch.no_grad():
            if _is_changed(graph, dense, op, structures):
                target = apply(_linear(whole), _arguments(dense, whole, wanted))
                graph = _solved(graph, op, found[op.inputs[0]], target)
            wanted[op.output] = apply(whole, _arguments(dense, whole, wanted))
            found[op.output] = apply(op, _arguments(graph, op, found))
        for values, of in ((wanted, dense), (found, graph)):
            _forget(values, of, graph.ops[index + 1 :])
    progress("reconstruct", len(graph.ops), len(graph.ops))
    return graph


def _is_changed(graph: Graph, dense: Graph, op: Op, structures: Mapping[str, Structure]) -> bool:
    """Whether a layer still has all its outputs, but not all its weights.

    What remains of a layer that lost outputs gives what it gave.
    """
    if not is_plain(op):
        return False
    now, before = (g.tensors[op.inputs[1]].shape for g in (graph, dense))
    return now[0] == before[0] and (now != before or op.inputs[1] in structures)


def _linear(op: Op) -> Op:
    """The op without the activation that is fused into it."""
    assert isinstance(op.attributes, at.Conv2d | at.Linear)
    return replace(op, attributes=replace(op.attributes, fused="none"))


def _arguments(graph: Graph, op: Op, values: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    return [
        values[name] if graph.tensors[name].data is None
        else torch.from_numpy(np.asarray(graph.tensors[name].data))
        for name in op.inputs
    ]  # fmt: skip


def _solved(graph: Graph, op: Op, x: torch.Tensor, target: torch.Tensor) -> Graph:
    weight, bias = (graph.tensors[name] for name in op.inputs[1:])
    rows, positions = windows(op, weight.shape, x)
    rows = torch.cat([rows, rows.new_ones(1, rows.shape[1])]).double()  # the bias multiplies ones
    if isinstance(op.attributes, at.Conv2d):
        y = target.flatten(2)[..., positions].transpose(0, 1).flatten(1)
    else:
        y = target.flatten(0, -2).T
    flat = np.asarray(weight.data, np.float64).reshape(weight.shape[0], -1)
    start = np.column_stack([flat, np.asarray(bias.data, np.float64)])
    kept = np.column_stack([flat != 0, np.ones(len(flat), bool)])
    solution = solve_kept(start, kept, (rows @ rows.T).numpy(), (y.double() @ rows.T).numpy())
    solution = solution.astype(np.float32)
    return graph.with_tensors(
        {
            weight.name: replace(weight, data=solution[:, :-1].reshape(weight.shape)),
            bias.name: replace(bias, data=solution[:, -1]),
        }
    )


def _forget(values: dict[str, torch.Tensor], graph: Graph, later: Iterable[Op]) -> None:
    """Drop activations that no later op reads."""
    needed = {name for op in later for name in graph.producer[op.output].inputs}
    for name in [name for name in values if name not in needed]:
        del values[name]
