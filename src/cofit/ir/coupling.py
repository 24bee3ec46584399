"""Which channels of a graph are one and the same: labels flow through the ops and meet.

Every tensor has one channel axis, and every index of it a label. An op hands labels on (relu),
makes new ones (conv2d), or declares two equal (add). A constant's axis bears labels too: the
outputs of a convolution label axis 0 of its weight, its inputs label axis 1. What has one label in
the end can only be moved or removed together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.ir import attributes as at
from cofit.ir.types import Graph, Op

Labels = NDArray[np.int64]
Site = tuple[str, int]
"""(tensor, axis)."""

# f(0) is not 0: a silent channel does not stay silent
_LOUD = frozenset({"sigmoid", "hardsigmoid"})


@dataclass(frozen=True, eq=False)
class Channels:
    """The channel axis of an activation.

    Attributes:
        axis: which axis.
        labels: one per index of it.
        silent: per index, whether it is zero when all that makes its label is zero.
    """

    axis: int
    labels: Labels
    silent: NDArray[np.bool_]


@dataclass(eq=False)
class Coupling:
    """Labels of every activation and every labelled constant axis, and what is known of them."""

    activations: dict[str, Channels] = field(default_factory=dict)
    constants: dict[Site, Labels] = field(default_factory=dict)
    frozen: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    _parent: list[int] = field(default_factory=list)

    def roots(self, labels: Labels) -> Labels:
        """The representative of each label's class."""
        return np.array([self._root(int(label)) for label in labels], np.int64)

    def movable(self) -> dict[int, bool]:
        """Classes that are free to move, and whether taking one out equals silencing it.

        Inputs and outputs of the graph are not free.
        """
        frozen, kept = (
            {self._root(label) for label in fixed} for fixed in (self.frozen, self.kept)
        )
        roots = {self._root(label) for label in range(len(self._parent))}
        return {root: root not in kept for root in sorted(roots - frozen)}

    def fresh(self, count: int) -> Labels:
        """New labels."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def join(self, a: Labels, b: Labels) -> None:
        """Declare labels equal, index by index; the older one represents both."""
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            low, high = sorted((self._root(x), self._root(y)))
            self._parent[high] = low

    def label(self, name: str, axis: int, labels: Labels) -> Labels:
        """Label a constant's axis; one that several ops share joins what they all say."""
        held = self.constants.setdefault((name, axis), labels)
        self.join(held, labels)
        return held

    def freeze(self, *channels: Channels) -> None:
        """Forbid any move of these."""
        for each in channels:
            self.frozen.update(each.labels.tolist())

    def keep(self, labels: Labels) -> None:
        """Forbid removal of these; they may still be permuted."""
        self.kept.update(labels.tolist())

    def _root(self, label: int) -> int:
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label


def couple(graph: Graph) -> Coupling:
    """Label every channel of a graph."""
    found = Coupling()
    for name in graph.inputs:
        found.activations[name] = _fixed(found, graph.tensors[name].shape)
    for op in graph.ops:
        found.activations[op.output] = _flow(found, graph, op)
    found.freeze(*(found.activations[name] for name in graph.outputs))
    for op in graph.ops:
        if isinstance(op.attributes, at.Slice):
            _freeze_repeated(found, found.activations[op.inputs[0]], op.attributes)
    return found


def _flow(found: Coupling, graph: Graph, op: Op) -> Channels:
    shape = graph.tensors[op.output].shape
    xs = [found.activations[n] for n in op.inputs if n in found.activations]
    x = xs[0]
    match op.attributes:
        case at.Conv2d() | at.Linear():
            return _weighted(found, graph, op, x)
        case at.Add() | at.Mul():
            if len(xs) == 1:
                return _with_constant(found, graph, op, x)
            return _pairwise(found, graph, op, *xs)
        case at.Concat(axis=axis):
            return _concat(found, axis, xs, shape)
        case at.MaxPool2d() | at.AvgPool2d() | at.GlobalMean():
            if x.axis == 1:
                return x
        case at.Reshape():
            return _reshape(found, x, graph.tensors[op.inputs[0]].shape, shape)
        case at.Slice(start=start, stop=stop, step=step):
            cut = slice(start[x.axis], stop[x.axis], step[x.axis])
            if cut.step > 1:
                found.keep(x.labels)
            return Channels(x.axis, x.labels[cut], x.silent[cut])
        case at.Pad(pads=pads):
            before, after = pads[x.axis]
            labels = (found.fresh(before), x.labels, found.fresh(after))
            silent = (np.ones(before, bool), x.silent, np.ones(after, bool))
            return Channels(x.axis, np.concatenate(labels), np.concatenate(silent))
        case at.Activation(function=function):
            return Channels(x.axis, x.labels, x.silent & (function not in _LOUD))
        case at.Softmax():
            if x.axis == len(shape) - 1:
                found.keep(x.labels)
            return Channels(x.axis, x.labels, x.silent & False)
    found.freeze(*xs)
    return _fixed(found, shape)


def _weighted(found: Coupling, graph: Graph, op: Op, x: Channels) -> Channels:
    """Outputs label axis 0, inputs axis 1; depthwise hands its inputs' labels on."""
    _, weight, bias = op.inputs
    outputs = graph.tensors[weight].shape[0]
    shape = graph.tensors[op.output].shape
    axis = 1 if op.kind == "conv2d" else len(shape) - 1
    groups = getattr(op.attributes, "groups", 1)
    if x.axis != axis or 1 < groups < len(x.labels):
        found.freeze(x)
        return _fixed(found, shape)
    if groups > 1:
        labels = np.repeat(x.labels, outputs // groups)
    else:
        found.label(weight, 1, x.labels)
        found.keep(x.labels[~x.silent])
        held = found.constants.get((weight, 0))
        labels = found.fresh(outputs) if held is None else held
    found.label(weight, 0, labels)
    found.label(bias, 0, labels)
    return Channels(axis, labels, np.ones(outputs, bool))


def _with_constant(found: Coupling, graph: Graph, op: Op, x: Channels) -> Channels:
    constant = graph.tensors[op.inputs[1]]
    assert constant.data is not None
    axis = x.axis - (len(graph.tensors[op.output].shape) - len(constant.shape))
    product = op.kind == "mul"
    if axis >= 0 and constant.shape[axis] == len(x.labels) > 1:
        found.label(constant.name, axis, x.labels)
        return Channels(x.axis, x.labels, x.silent | product)
    return Channels(x.axis, x.labels, x.silent & bool(product or not constant.data.any()))


def _pairwise(found: Coupling, graph: Graph, op: Op, x: Channels, y: Channels) -> Channels:
    silent: Callable[[Any, Any], Any] = np.logical_or if op.kind == "mul" else np.logical_and
    shapes = [graph.tensors[name].shape for name in op.inputs]
    lead = len(shapes[0]) - len(shapes[1])
    if y.axis + lead == x.axis and len(y.labels) == len(x.labels):
        found.join(x.labels, y.labels)
        return Channels(x.axis, x.labels, silent(x.silent, y.silent))
    across = x.axis - lead
    if across < 0 or shapes[1][across] == 1:  # one value for all channels of x
        found.freeze(y)
        return x if op.kind == "mul" else Channels(x.axis, x.labels, x.silent & False)
    found.freeze(x, y)
    return _fixed(found, shapes[0])


def _concat(found: Coupling, axis: int, xs: list[Channels], shape: tuple[int, ...]) -> Channels:
    if any(x.axis != xs[0].axis for x in xs):
        found.freeze(*xs)
        return _fixed(found, shape)
    if axis == xs[0].axis:
        labels, silent = ([getattr(x, key) for x in xs] for key in ("labels", "silent"))
        return Channels(axis, np.concatenate(labels), np.concatenate(silent))
    for x in xs[1:]:
        found.join(xs[0].labels, x.labels)
    return Channels(xs[0].axis, xs[0].labels, np.logical_and.reduce([x.silent for x in xs]))


def _reshape(
    found: Coupling, x: Channels, before: tuple[int, ...], after: tuple[int, ...]
) -> Channels:
    """The axis of the result along which alone the channel changes, if there is one."""
    column = [-1 if axis == x.axis else 1 for axis in range(len(before))]
    channel = np.broadcast_to(np.arange(len(x.labels)).reshape(column), before).reshape(after)
    for axis in range(1, len(after)):
        rest = tuple(other for other in range(len(after)) if other != axis)
        index = channel.min(axis=rest)
        if np.array_equal(index, channel.max(axis=rest)):
            return Channels(axis, x.labels[index], x.silent[index])
    found.freeze(x)
    return _fixed(found, after)


def _fixed(found: Coupling, shape: tuple[int, ...]) -> Channels:
    axis = 2 if len(shape) == 3 else 1
    channels = Channels(axis, found.fresh(shape[axis]), np.zeros(shape[axis], bool))
    found.freeze(channels)
    return channels


def _freeze_repeated(found: Coupling, x: Channels, cut: at.Slice) -> None:
    """A class that lies several times in a tensor may lose the order of its places when cut."""
    span = range(cut.start[x.axis], cut.stop[x.axis], cut.step[x.axis])
    if len(span) < len(x.labels):
        roots, counts = np.unique(found.roots(x.labels), return_counts=True)
        found.frozen.update(roots[counts > 1].tolist())
