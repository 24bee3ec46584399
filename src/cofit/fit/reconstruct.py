"""Least-squares reconstruction: what a layer keeps makes up for what it lost, before any training.

The kept weights and the bias of a pruned layer are solved anew, so that on training inputs the
layer gives, from the activations of the pruned network, the outputs it had in the dense one:

    min ||W X + b - Y||^2 + ridge ||W - W_0||^2   over W with the zeros of W_0,

layer after layer, so that each also makes up for the errors that reach it (He, Zhang and Sun, ICCV
2017, equation 1 with the support given; the order of layers as in their section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cofit.core import torch_generator
from cofit.fit.progress import Progress
from cofit.ir import Graph, Op
from cofit.ir import attributes as at
from cofit.ir.execute import apply
from cofit.structures import Structure

EQUATIONS = 64
"""Equations per unknown: enough that solving does not learn the sample by heart."""

RIDGE = 1e-4
"""Weight of the starting point, relative to the mean square of the layer's inputs."""

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
    generator = torch_generator(0, "reconstruct")
    for index, op in enumerate(graph.ops):
        progress("reconstruct", index, len(graph.ops))
        whole = dense.producer[op.output]
        with torch.no_grad():
            if _is_changed(graph, dense, op, structures):
                target = apply(_linear(whole), _arguments(dense, whole, wanted))
                graph = _solved(graph, op, found[op.inputs[0]], target, generator)
            wanted[op.output] = apply(whole, _arguments(dense, whole, wanted))
            found[op.output] = apply(op, _arguments(graph, op, found))
        for values, of in ((wanted, dense), (found, graph)):
            _forget(values, of, graph.ops[index + 1 :])
    progress("reconstruct", len(graph.ops), len(graph.ops))
    return graph


def _is_changed(graph: Graph, dense: Graph, op: Op, structures: Mapping[str, Structure]) -> bool:
    """Whether a layer still has all its outputs, but not all its weights."""
    if not isinstance(op.attributes, at.Conv2d | at.Linear):
        return False
    if isinstance(op.attributes, at.Conv2d) and op.attributes.groups > 1:
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


def _solved(
    graph: Graph, op: Op, x: torch.Tensor, target: torch.Tensor, generator: torch.Generator
) -> Graph:
    weight, bias = (graph.tensors[name] for name in op.inputs[1:])
    start = np.asarray(weight.data, np.float64).reshape(weight.shape[0], -1)
    start = np.concatenate([start, np.asarray(bias.data, np.float64)[:, None]], axis=1)
    gram, moment = _equations(op, weight.shape, x, target, generator)
    moment -= start @ gram  # of what is missing from the outputs
    support = start != 0
    support[:, -1] = True
    solution = start.copy()
    for rows, kept in _alike(support):
        part = gram[np.ix_(kept, kept)]
        part[np.diag_indices_from(part)] += RIDGE * max(np.trace(part) / len(kept), 1e-30)
        step = np.linalg.solve(part, moment[np.ix_(rows, kept)].T).T
        solution[np.ix_(rows, kept)] += step
    return graph.with_tensors(
        {
            weight.name: replace(
                weight, data=solution[:, :-1].reshape(weight.shape).astype(np.float32)
            ),
            bias.name: replace(bias, data=solution[:, -1].astype(np.float32)),
        }
    )


def _equations(
    op: Op, shape: tuple[int, ...], x: torch.Tensor, y: torch.Tensor, generator: torch.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X X^T (n, n) and Y X^T (K, n) over a sample of output positions; X ends in a row of ones."""
    unknowns = math.prod(shape[1:]) + 1
    if isinstance(op.attributes, at.Conv2d):
        a = op.attributes
        top, bottom, left, right = a.padding
        x = F.pad(x, (left, right, top, bottom))
        positions = math.prod(y.shape[2:])
        share = min(1.0, EQUATIONS * unknowns / (positions * len(x)))
        pick = torch.randperm(positions, generator=generator)[: math.ceil(share * positions)]
        columns = torch.cat(
            [
                F.unfold(part, shape[2:], dilation=a.dilation, stride=a.stride)[..., pick]
                for part in x.split(16)
            ]
        )
        columns = columns.transpose(0, 1).flatten(1)
        y = y.flatten(2)[..., pick].transpose(0, 1).flatten(1)
    else:
        columns, y = x.flatten(0, -2).T, y.flatten(0, -2).T
    rows = torch.cat([columns, columns.new_ones(1, columns.shape[1])]).double()
    return (rows @ rows.T).numpy(), (y.double() @ rows.T).numpy()


def _alike(support: NDArray[np.bool_]) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows with the same support, and that support as indices."""
    patterns, owner = np.unique(support, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        yield np.flatnonzero(owner.ravel() == index), np.flatnonzero(pattern)


def _forget(values: dict[str, torch.Tensor], graph: Graph, later: Iterable[Op]) -> None:
    """Drop activations that no later op reads."""
    needed = {name for op in later for name in graph.producer[op.output].inputs}
    for name in [name for name in values if name not in needed]:
        del values[name]
