"""Channel removal: a layer's "channel" structure becomes a narrower network before training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from cofit.fit.candidates import REMOVAL
from cofit.fit.planning import Menu, Option, Plan
from cofit.fit.products import products
from cofit.fit.sensitivity import Probe
from cofit.ir import ChannelGroup, Graph, Member, channel_groups, remove
from cofit.structures import Structure, parse


def free_layers(graph: Graph) -> frozenset[str]:
    """Ops whose output channels are coupled with no other layer's outputs, so may go alone.

    Depthwise layers that follow along do not count: they lose the same channels.
    """
    makers = {weight.name: op.output for op, weight in graph.weighted()}
    groups = (_makers(graph, group) for group in channel_groups(graph) if group.removable)
    return frozenset(makers[names[0]] for names in groups if len(names) == 1)


def credited(graph: Graph, menu: Menu) -> Menu:
    """The menu with removals cheaper by what they surely save in the layers that read them.

    A layer that loses a share of its inputs, or a depthwise one that loses channels, does that much
    less work in whichever of its options it takes, so at least that share of its cheapest one is
    saved. The credit is safe where cost is in proportion to channels; the part of a layer's cost
    that is not (its bias, the call of its kernel) makes it too large, so what is planned with it
    is planned again on the narrowed network.
    """
    names = {product.weight: product.name for product in products(graph)}
    options = dict(menu.options)
    for weight, name in names.items():
        row, shape = options[name], graph.tensors[weight].shape
        if not any(_removes(option) for option in row):
            continue
        readers = [
            (menu.options[names[member.tensor]], _share(graph, member))
            for member in _group_of(graph, weight).constants
            if member.tensor in names and member.tensor != weight
        ]
        options[name] = tuple(
            _with_credit(option, shape, readers) if _removes(option) else option for option in row
        )
    return Menu(options, menu.reasons)


def reappraised(graph: Graph, menu: Menu, probe: Probe, steepness: Mapping[str, float]) -> Menu:
    """The menu with the damage of removals as it is where their channels are read.

    A channel that is gone is one input less for the layers that read it, whose other weights make
    up for it as far as they can.

    Args:
        graph: the dense float graph.
        menu: its options.
        probe: activations of the dense network.
        steepness: divergence per unit of noise to signal, by weight name.
    """
    options = dict(menu.options)
    for product in products(graph):
        row, weight = options[product.name], product.weight
        if any(_removes(option) for option in row):
            group = _group_of(graph, weight)
            options[product.name] = tuple(
                replace(option, loss=_loss_of_readers(graph, group, weight, option, probe,
                                                      steepness))
                if _removes(option) else option
                for option in row
            )  # fmt: skip
    return Menu(options, menu.reasons)


def chosen_removals(plan: Plan) -> dict[str, Option]:
    """Channel removals among a plan's choices, by weight name."""
    return {layer.weight: layer.chosen for layer in plan.layers if _removes(layer.chosen)}


def strongest_removals(graph: Graph, menu: Menu) -> dict[str, Option]:
    """For every layer that can lose channels, the removal that keeps fewest, by weight name."""
    found = {
        product.weight: [option for option in menu.options[product.name] if _removes(option)]
        for product in products(graph)
    }
    return {name: options[-1] for name, options in found.items() if options}


def remove_channels(
    graph: Graph, removals: Mapping[str, Structure]
) -> tuple[Graph, dict[str, int]]:
    """The graph without the channels that removals drop, and how many, by weight name.

    Which channels go is the structure's own projection: those of least norm.
    """
    removed: dict[str, int] = {}
    for name, structure in removals.items():
        group = _group_of(graph, name)
        gone = _lost_channels(graph, group, name, structure)
        graph = remove(graph, group, gone)
        removed[name] = len(gone)
    return graph, removed


def _lost_channels(graph: Graph, group: ChannelGroup, name: str, structure: Structure) -> list[int]:
    """Channels of the group that the structure's projection of the weight leaves empty."""
    weight = torch.from_numpy(graph.tensors[name].data)
    kept = structure.project(weight).flatten(1).abs().sum(dim=1) > 0
    member = next(m for m in group.constants if m.tensor == name and m.axis == 0)
    return [i for i, places in enumerate(member.indices) if not bool(kept[list(places)].any())]


def _loss_of_readers(
    graph: Graph,
    group: ChannelGroup,
    name: str,
    option: Option,
    probe: Probe,
    steepness: Mapping[str, float],
) -> float:
    gone = _lost_channels(graph, group, name, parse(str(option.structure)))
    loss = 0.0
    for member in group.constants:
        if member.axis == 1 and member.tensor in steepness:
            pruned = torch.from_numpy(graph.tensors[member.tensor].data).clone()
            pruned[:, [place for channel in gone for place in member.indices[channel]]] = 0
            changed = probe.recovered(member.tensor, pruned)
            loss += steepness[member.tensor] * probe.noise(member.tensor, changed)
    return loss


def _share(graph: Graph, member: Member) -> float:
    """Share of a weight's channels along the axis that the group makes up."""
    return sum(map(len, member.indices)) / graph.tensors[member.tensor].shape[member.axis]


def _with_credit(
    option: Option, shape: tuple[int, ...], readers: Sequence[tuple[Sequence[Option], float]]
) -> Option:
    gone = 1 - math.ceil(shape[0] / parse(str(option.structure)).rate) / shape[0]
    saved = {
        metric: sum(gone * share * min(o.costs[metric] for o in row) for row, share in readers)
        for metric in option.costs
    }
    return replace(
        option,
        latency_s=option.latency_s - saved["latency"],
        flash_bytes=option.flash_bytes - math.floor(saved["flash"]),
        energy_j=None if option.energy_j is None else option.energy_j - saved["energy"],
    )


def _removes(option: Option) -> bool:
    return option.structure is not None and option.structure.partition("@")[0] == REMOVAL


def _group_of(graph: Graph, weight: str) -> ChannelGroup:
    return next(
        group
        for group in channel_groups(graph)
        if group.removable and _makers(graph, group) == [weight]
    )


def _makers(graph: Graph, group: ChannelGroup) -> list[str]:
    """Weights that make the group's channels: outputs of layers that are not depthwise."""
    weights = {weight.name: weight for _, weight in graph.weighted()}
    return [
        member.tensor
        for member in group.constants
        if member.axis == 0 and member.tensor in weights and not _depthwise(graph, member.tensor)
    ]


def _depthwise(graph: Graph, weight: str) -> bool:
    op = next(op for op, tensor in graph.weighted() if tensor.name == weight)
    return getattr(op.attributes, "groups", 1) > 1
