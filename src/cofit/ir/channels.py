"""Channels that belong together: permuting and removing them without changing the function.

`channel_groups` finds them; `permute` reorders a group and leaves the function as it is; `remove`
takes channels out of every tensor that knows them, which gives exactly the network in which all
that makes them (weights, biases, other constants) was zero. `keep_map` says what remains of each
weight, for callers who shrink a module instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError, ModelError
from cofit.ir import attributes as at
from cofit.ir.coupling import Site, couple
from cofit.ir.types import Graph, Op, Tensor


@dataclass(frozen=True)
class Member:
    """Where a group lies in one tensor: channel i is at `indices[i]` along `axis`.

    A channel has several indices where it was flattened (one per pixel) or concatenated twice.
    """

    tensor: str
    axis: int
    indices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Interchangeable channels: `size` of them, each present in every member.

    Attributes:
        size: number of channels.
        constants: weights, biases and other constants that hold them.
        activations: computed tensors that hold them.
        removable: whether removal equals silencing; False where a silent channel would still
            speak, for example through a sigmoid (those may only be permuted).
    """

    size: int
    constants: tuple[Member, ...]
    activations: tuple[Member, ...]
    removable: bool


def channel_groups(graph: Graph) -> tuple[ChannelGroup, ...]:
    """Groups of channels that can be permuted among themselves, in the order of the graph.

    Channels coupled by add, mul, depthwise convolutions, concat, slices, padding and flattening are
    one; two are in one group if they lie in the same tensors equally often. Channels of the graph's
    inputs and outputs, and around grouped convolutions that are not depthwise, are in no group.
    """
    coupling = couple(graph)
    constants = {site: coupling.roots(labels) for site, labels in coupling.constants.items()}
    activations = {
        (name, x.axis): coupling.roots(x.labels) for name, x in coupling.activations.items()
    }
    removable = coupling.movable()
    places: dict[int, dict[Site, list[int]]] = {root: {} for root in removable}
    for site, roots in (constants | activations).items():
        for index, root in enumerate(roots.tolist()):
            if root in places:
                places[root].setdefault(site, []).append(index)
    alike: dict[tuple[object, ...], list[int]] = {}
    for root, sites in places.items():
        key = (removable[root], *((site, len(indices)) for site, indices in sites.items()))
        alike.setdefault(key, []).append(root)

    def members(roots: list[int], among: Iterable[Site]) -> tuple[Member, ...]:
        return tuple(
            Member(name, axis, tuple(tuple(places[root][name, axis]) for root in roots))
            for name, axis in among
            if (name, axis) in places[roots[0]]
        )

    return tuple(
        ChannelGroup(
            len(roots), members(roots, constants), members(roots, activations), bool(key[0])
        )
        for key, roots in alike.items()
    )


def permute(graph: Graph, group: ChannelGroup, order: Sequence[int]) -> Graph:
    """The same function with the group's channels in another order.

    Args:
        graph: the graph that `group` was found in.
        group: see `channel_groups`.
        order: place i gets the channel that was at `order[i]`.

    Raises:
        ConfigError: `order` is not a permutation of the group.
    """
    if sorted(order) != list(range(group.size)):
        raise ConfigError(f"order {list(order)} is not a permutation of {group.size} channels")
    changed: dict[str, Tensor] = {}
    for member in group.constants:
        tensor = changed.get(member.tensor, graph.tensors[member.tensor])
        index = np.arange(tensor.shape[member.axis])
        for place, channel in enumerate(order):
            index[list(member.indices[place])] = member.indices[channel]
        changed[member.tensor] = _take(tensor, member.axis, index)
    return graph.with_tensors(changed)


def keep_map(
    graph: Graph, group: ChannelGroup, indices: Iterable[int]
) -> dict[str, dict[int, NDArray[np.int64]]]:
    """What remains of each constant when channels go: by tensor and axis, the indices kept.

    Constants that lose nothing are absent. For a module traced into `graph` without BatchNorm, the
    names are those of its parameters.
    """
    return _kept(graph, group.constants, _checked(group, indices))


def remove(graph: Graph, group: ChannelGroup, indices: Iterable[int]) -> Graph:
    """The graph without some channels of a group.

    Args:
        graph: the graph that `group` was found in.
        group: see `channel_groups`; must be removable.
        indices: which of its channels go, 0 <= index < group.size.

    Raises:
        ConfigError: an index is out of range.
        ModelError: the group is not removable, or some tensor would lose all its channels.
    """
    gone = _checked(group, indices)
    if not group.removable:
        raise ModelError(
            f"the channels of {group.activations[0].tensor!r} cannot be removed: a silent one "
            "still has an effect (through a sigmoid, an added constant, a softmax or a strided cut)"
        )
    constants = _kept(graph, group.constants, gone)
    activations = _kept(graph, group.activations, gone)
    tensors = dict(graph.tensors)
    for name, axes in constants.items():
        for axis, kept in axes.items():
            tensors[name] = _take(tensors[name], axis, kept)
    for name, axes in activations.items():
        for axis, kept in axes.items():
            if len(kept) == 0:
                raise ModelError(f"removing {len(gone)} channels would leave none of {name!r}")
            shape = list(tensors[name].shape)
            shape[axis] = len(kept)
            tensors[name] = replace(tensors[name], shape=tuple(shape))
    ops = tuple(
        replace(op, attributes=_narrowed(op, graph, tensors, activations)) for op in graph.ops
    )
    return Graph.build(graph.name, graph.inputs, graph.outputs, ops, tensors, graph.spec)


def _narrowed(
    op: Op,
    graph: Graph,
    tensors: dict[str, Tensor],
    kept: dict[str, dict[int, NDArray[np.int64]]],
) -> at.Attributes:
    """Attributes that speak of channel numbers, in the new numbers."""
    source = op.inputs[0]
    match op.attributes:
        case at.Conv2d(groups=groups) as conv if groups > 1:
            # grouped convolutions that are not depthwise are in no group
            depthwise = groups == graph.tensors[source].shape[1]
            return replace(conv, groups=tensors[source].shape[1]) if depthwise else conv
        case at.Reshape():
            return at.Reshape(tensors[op.output].shape)
        case at.Slice() as cut:
            start, stop = list(cut.start), list(cut.stop)
            for axis, left in kept.get(source, {}).items():
                start[axis] = int(np.searchsorted(left, start[axis]))
                stop[axis] = int(np.searchsorted(left, stop[axis]))
            return replace(cut, start=tuple(start), stop=tuple(stop))
        case at.Pad() as pad:
            pads = list(pad.pads)
            for axis, left in kept.get(op.output, {}).items():
                before, after = pads[axis]
                end = graph.tensors[op.output].shape[axis] - after
                pads[axis] = (int((left < before).sum()), int((left >= end).sum()))
            return at.Pad(tuple(pads))
        case other:
            return other


def _kept(
    graph: Graph, members: Iterable[Member], gone: set[int]
) -> dict[str, dict[int, NDArray[np.int64]]]:
    found: dict[str, dict[int, NDArray[np.int64]]] = {}
    for member in members:
        lost = [index for channel in gone for index in member.indices[channel]]
        size = graph.tensors[member.tensor].shape[member.axis]
        found.setdefault(member.tensor, {})[member.axis] = np.delete(np.arange(size), lost)
    return found


def _take(tensor: Tensor, axis: int, index: NDArray[np.int64]) -> Tensor:
    """A constant's indices along an axis; a structure need not survive that, so its name goes."""
    assert tensor.data is not None
    data = np.ascontiguousarray(np.take(tensor.data, index, axis=axis))
    quantisation = tensor.quantisation
    if quantisation is not None and quantisation.per_channel and axis == 0:
        scale = tuple(quantisation.scale[i] for i in index)
        quantisation = replace(quantisation, scale=scale)
    return replace(tensor, shape=data.shape, data=data, quantisation=quantisation, structure=None)


def _checked(group: ChannelGroup, indices: Iterable[int]) -> set[int]:
    gone = set(indices)
    if not all(0 <= index < group.size for index in gone):
        raise ConfigError(f"channels {sorted(gone)} are not all in the group of {group.size}")
    return gone
