"""Rewrites of float graphs that keep the function; each is a pure function Graph -> Graph.

A value may be removed only if nobody else sees it: it has one reader and is no output of the graph.
Arithmetic on constants is done in float64 and kept in the constants' own type.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.ir import attributes as at
from cofit.ir.types import Graph, Op, Tensor

Array = NDArray[Any]


def simplify(graph: Graph) -> Graph:
    """All rewrites, in the order that lets each feed the next."""
    passes = (
        merge_slices, merge_reshapes, flatten_means, absorb_padding, fold_affine,
        affine_to_depthwise, fold_affine, fuse_activations, fold_products, merge_additions,
    )  # fmt: skip
    return reduce(lambda current, rewrite: rewrite(current), passes, graph)


def merge_slices(graph: Graph) -> Graph:
    """Make one slice of a slice of a slice."""
    edit = _Edit(graph)
    for op in graph.ops:
        before = edit.private(op)
        if before is None:
            continue
        match op.attributes, before.attributes:
            case at.Slice() as outer, at.Slice() as inner:
                spans = zip(inner.start, inner.step, outer.start, outer.step, strict=True)
                start, step = zip(*((a + b * s, s * t) for a, s, b, t in spans), strict=True)
                sizes = zip(start, step, edit.tensors[op.output].shape, strict=True)
                stop = tuple(a + (n - 1) * s + 1 for a, s, n in sizes)
                edit.merge(op, replace(before, attributes=at.Slice(start, stop, step)))
    return edit.done()


def merge_reshapes(graph: Graph) -> Graph:
    """Make one reshape of several, and none of one that changes nothing."""
    edit = _Edit(graph)
    for op in graph.ops:
        before = edit.private(op)
        if (
            before is not None
            and isinstance(op.attributes, at.Reshape)
            and edit.tensors[before.output].shape == op.attributes.shape
        ):
            edit.merge(op, before)
            continue
        if before is None:
            continue
        match op.attributes, before.attributes:
            case at.Reshape(), at.Reshape():
                edit.merge(op, replace(before, attributes=op.attributes))
    return edit.done()


def flatten_means(graph: Graph) -> Graph:
    """Let a global mean drop the two axes that a reshape behind it drops."""
    edit = _Edit(graph)
    for op in graph.ops:
        before = edit.private(op)
        if before is None:
            continue
        match op.attributes, before.attributes:
            case at.Reshape(shape=shape), at.GlobalMean(keep=True) if len(shape) == 2:
                edit.merge(op, replace(before, attributes=at.GlobalMean(keep=False)))
    return edit.done()


def absorb_padding(graph: Graph) -> Graph:
    """Move zero padding of height and width into the convolutions that read it."""
    edit = _Edit(graph)
    for op in graph.ops:
        before = edit.producer(op.inputs[0])
        if before is None:
            continue
        match op.attributes, before.attributes:
            case at.Conv2d() as conv, at.Pad(pads=((0, 0), (0, 0), rows, columns)):
                top, bottom, left, right = np.add(conv.padding, (*rows, *columns)).tolist()
                padded = replace(conv, padding=(top, bottom, left, right))
                edit.put(Op(op.output, padded, (before.inputs[0], *op.inputs[1:])))
    return edit.done()


def fold_affine(graph: Graph) -> Graph:
    """Fold a per-channel `mul` or `add` of constants into the conv2d or linear before it.

    This is how BatchNorm disappears: it is traced as a `mul` and an `add`.
    """
    edit = _Edit(graph)
    for op in graph.ops:
        layer = edit.private(op)
        if layer is None or not isinstance(layer.attributes, at.Conv2d | at.Linear):
            continue
        axis = 1 if layer.kind == "conv2d" else len(graph.tensors[layer.output].shape) - 1
        affine = _affine(graph, op, axis)
        if affine is None or layer.attributes.fused != "none":
            continue
        scale, shift, fused = affine
        x, weight, bias = layer.inputs
        values = _values(edit.tensors[weight])
        if (scale != 1).any():
            weight = edit.update(weight, (values.T * scale).T)
        bias = edit.update(bias, _values(edit.tensors[bias]) * scale + shift)
        attributes = replace(layer.attributes, fused=fused)
        edit.merge(op, Op(layer.output, attributes, (x, weight, bias)))
    return edit.done()


def affine_to_depthwise(graph: Graph) -> Graph:
    """Turn the first of two per-channel affine ops on an image into a depthwise 1x1 conv2d.

    `fold_affine` then folds the second into it: a BatchNorm that follows no convolution becomes
    one op. An affine op on its own stays what it is, and so does a pair of scalars.
    """
    edit = _Edit(graph)
    for op in graph.ops:
        shape = graph.tensors[op.output].shape
        if len(shape) != 4 or not edit.sole(op.output) or op.inputs[0] in edit.changed:
            continue
        reader = graph.consumers[op.output][0]
        affine = _affine(graph, op, 1)
        if affine is None or _affine(graph, reader, 1) is None:
            continue
        if graph.tensors[op.inputs[1]].size == graph.tensors[reader.inputs[1]].size == 1:
            continue
        scale, shift, fused = affine
        dtype = _values(graph.tensors[op.inputs[1]], None).dtype
        weight = edit.add(f"{op.output}.weight", scale.reshape(-1, 1, 1, 1).astype(dtype))
        bias = edit.add(f"{op.output}.bias", shift.astype(dtype))
        conv = at.Conv2d(groups=shape[1], fused=fused)
        edit.put(Op(op.output, conv, (op.inputs[0], weight, bias)))
    return edit.done()


def fuse_activations(graph: Graph) -> Graph:
    """Let relu and relu6 ride on the conv2d, linear, add or mul that they alone read."""
    edit = _Edit(graph)
    for op in graph.ops:
        before = edit.private(op)
        if before is None:
            continue
        match op.attributes, before.attributes:
            case (
                at.Activation(function="relu" | "relu6" as function),
                at.Conv2d() | at.Linear() | at.Add() | at.Mul() as host,
            ) if host.fused == "none":
                edit.merge(op, replace(before, attributes=replace(host, fused=function)))
    return edit.done()


def fold_products(graph: Graph) -> Graph:
    """Let a product of activations scale and read its second factor by columns itself."""
    edit = _Edit(graph)
    for op in graph.ops:
        if not isinstance(op.attributes, at.Matmul):
            continue
        product, inputs = op.attributes, list(op.inputs)
        for i, name in enumerate(op.inputs):
            before = edit.producer(name)
            factor = None if before is None else _factor(graph, before)
            if before is not None and factor is not None and edit.sole(name):
                product = replace(product, scale=product.scale * factor)
                inputs[i] = before.inputs[0]
        before = edit.producer(inputs[1])
        if before is not None and isinstance(before.attributes, at.Transpose):
            *rest, a, b = before.attributes.permutation
            if (*rest, b, a) == tuple(range(len(rest) + 2)):
                product = replace(product, transposed=not product.transposed)
                inputs[1] = before.inputs[0]
        edit.put(Op(op.output, product, tuple(inputs)))
    for op in graph.ops:
        before = edit.private(op)
        if before is not None and isinstance(before.attributes, at.Matmul):
            factor = _factor(graph, op)
            if factor is not None:
                scaled = replace(before.attributes, scale=before.attributes.scale * factor)
                edit.merge(op, replace(before, attributes=scaled))
    return edit.done()


def _factor(graph: Graph, op: Op) -> float | None:
    """The number by which a mul op multiplies, if it does nothing else."""
    if not isinstance(op.attributes, at.Mul) or op.attributes.fused != "none":
        return None
    constant = graph.tensors[op.inputs[1]]
    if constant.data is None or constant.size != 1:
        return None
    return float(_values(constant).reshape(()))


def merge_additions(graph: Graph) -> Graph:
    """Add one constant instead of two: a class token and positions become one addition."""
    edit = _Edit(graph)
    for op in graph.ops:
        before = edit.private(op)
        if before is None:
            continue
        match op.attributes, before.attributes:
            case at.Add(), at.Add(fused="none"):
                terms = [graph.tensors[each.inputs[1]] for each in (before, op)]
                if any(term.data is None for term in terms):
                    continue
                total = _values(terms[0]) + _values(terms[1])
                dtype = _values(terms[1], None).dtype
                name = edit.add(f"{op.output}.constant", total.astype(dtype))
                edit.merge(op, Op(before.output, op.attributes, (before.inputs[0], name)))
    return edit.done()


class _Edit:
    """Changes to a graph: ops are replaced, or merged into the op before them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops = {op.output: op for op in graph.ops}
        self.tensors = dict(graph.tensors)
        self.alias: dict[str, str] = {}
        self.changed: set[str] = set()

    def producer(self, name: str) -> Op | None:
        """The op that now gives a tensor of the original graph; None for inputs and constants."""
        return self.ops.get(self.alias.get(name, name))

    def sole(self, name: str) -> bool:
        """Whether one op and nobody else reads this tensor of the original graph."""
        readers = self.graph.consumers.get(name, ())
        if len(readers) != 1 or name in self.graph.outputs:
            return False
        return readers[0].inputs.count(name) == 1

    def private(self, op: Op) -> Op | None:
        """The op before, if `op` alone sees its value."""
        return self.producer(op.inputs[0]) if self.sole(op.inputs[0]) else None

    def put(self, op: Op) -> None:
        """Replace the op of the same output."""
        self.ops[op.output] = op
        self.changed.add(op.output)

    def merge(self, op: Op, into: Op) -> None:
        """Drop `op`; `into`, the new version of the op before it, gives its value."""
        del self.ops[op.output]
        shape = self.tensors[op.output].shape
        self.tensors[into.output] = replace(self.tensors[into.output], shape=shape)
        self.alias[op.output] = into.output
        self.put(into)

    def add(self, name: str, values: Array) -> str:
        """A new constant; a number is put behind a name that is taken."""
        free, number = name, 0
        while free in self.tensors:
            number += 1
            free = f"{name}_{number}"
        self.tensors[free] = Tensor(free, values.shape, data=values)
        return free

    def update(self, name: str, values: Array) -> str:
        """New values for a constant; where other ops read it too, they keep the old one."""
        old = self.tensors[name]
        values = values.astype(_values(old, None).dtype)
        if sum(op.inputs.count(name) for op in self.ops.values()) > 1:
            return self.add(name, values)
        self.tensors[name] = replace(old, data=values)
        return name

    def done(self) -> Graph:
        """The changed graph."""
        graph = self.graph
        ops = tuple(
            replace(op, inputs=tuple(self.alias.get(n, n) for n in op.inputs))
            for op in self.ops.values()
        )
        outputs = tuple(self.alias.get(name, name) for name in graph.outputs)
        return Graph.build(graph.name, graph.inputs, outputs, ops, self.tensors, graph.spec)


def _affine(graph: Graph, op: Op, axis: int) -> tuple[Array, Array, at.Fused] | None:
    """(scale, shift, fused) per index of `axis` if the op is a mul or add of such constants."""
    if not isinstance(op.attributes, at.Mul | at.Add):
        return None
    constant, shape = graph.tensors[op.inputs[1]], graph.tensors[op.output].shape
    if constant.data is None or graph.tensors[op.inputs[0]].data is not None:
        return None
    sizes = (1,) * (len(shape) - len(constant.shape)) + constant.shape
    if any(n != 1 for i, n in enumerate(sizes) if i != axis):
        return None
    values = np.broadcast_to(_values(constant).reshape(-1), (shape[axis],))
    if isinstance(op.attributes, at.Mul):
        return values, np.zeros_like(values), op.attributes.fused
    return np.ones_like(values), values, op.attributes.fused


def _values(constant: Tensor, dtype: type[np.float64] | None = np.float64) -> Array:
    assert constant.data is not None
    return constant.data if dtype is None else constant.data.astype(dtype)
