"""Least-squares reconstruction: what a layer keeps makes up for what it lost, before any training.

The kept weights and the bias of a pruned layer are solved anew, so that on training inputs the
layer gives, from the activations of the pruned network, the outputs it had in the dense one:

    min ||W X + b - Y||^2 + ridge ||W - W_0||^2   over W with the zeros of W_0,

layer after layer, so that each also makes up for the errors that reach it (after He, Zhang and Sun,
Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, with the support given).
What a recurrent layer multiplies by its state is solved for the states of the dense network: its
own are not known before it is solved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from cofit.fit.least_squares import solve_kept, windows
from cofit.fit.products import Product, products
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
    changed = [p for p in products(graph) if _is_changed(graph, dense, p, structures)]
    if not changed:
        return graph
    whole = {(p.op.output, p.side): p for p in products(dense)}
    inputs = inputs[: max(1, ACTIVATION_ELEMENTS // largest)]
    wanted, found = ({g.inputs[0]: inputs} for g in (dense, graph))
    for index, op in enumerate(graph.ops):
        progress("reconstruct", index, len(graph.ops))
        before = dense.producer[op.output]
        with torch.no_grad():
            wanted[op.output] = apply(before, _arguments(dense, before, wanted))
            found[op.output] = wanted[op.output]
            for product in (p for p in changed if p.op is op):
                target = _outputs(dense, whole[op.output, product.side], wanted)
                graph = _solved(graph, product, product.reads(found), target)
            found[op.output] = apply(op, _arguments(graph, op, found))
        for values, of in ((wanted, dense), (found, graph)):
            _forget(values, of, graph.ops[index + 1 :])
    progress("reconstruct", len(graph.ops), len(graph.ops))
    return graph


def _is_changed(
    graph: Graph, dense: Graph, product: Product, structures: Mapping[str, Structure]
) -> bool:
    """Whether a product still has all its outputs, but not all its weights.

    What remains of a layer that lost outputs gives what it gave.
    """
    if not product.is_plain:
        return False
    now, before = (g.tensors[product.weight].shape for g in (graph, dense))
    return now[0] == before[0] and (now != before or product.weight in structures)


def _outputs(graph: Graph, product: Product, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What a product gives, before any activation."""
    x = product.reads(values)
    weight, bias = (
        torch.from_numpy(np.asarray(graph.tensors[name].data))
        for name in (product.weight, product.bias)
    )
    attributes = product.op.attributes
    if isinstance(attributes, at.Conv2d):
        linear = replace(product.op, attributes=replace(attributes, fused="none"))
        return apply(linear, [x, weight, bias])
    return F.linear(x, weight, bias)


def _arguments(graph: Graph, op: Op, values: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    return [
        values[name] if graph.tensors[name].data is None
        else torch.from_numpy(np.asarray(graph.tensors[name].data))
        for name in op.inputs
    ]  # fmt: skip


def _solved(graph: Graph, product: Product, x: torch.Tensor, target: torch.Tensor) -> Graph:
    weight, bias = (graph.tensors[name] for name in (product.weight, product.bias))
    rows, positions = windows(product.op, weight.shape, x)
    rows = torch.cat([rows, rows.new_ones(1, rows.shape[1])]).double()  # the bias multiplies ones
    if isinstance(product.op.attributes, at.Conv2d):
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
