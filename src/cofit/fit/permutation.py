"""Channels put in an order in which blocks of output channels catch more of the weights.

A block keeps or drops one kernel position of several filters at once. Filters that use the same
positions are put side by side, by permuting coupled channels, which leaves the function as it is.
After filter kernel reorder of PatDNN (ASPLOS 2020, arXiv 2001.00138), here for blocks and for
energy in place of equal patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.ir import ChannelGroup, Graph, Member, channel_groups, permute
from cofit.structures import Block, Stripe, match_filters, matching_cost

Order = NDArray[np.int64]
Energies = NDArray[np.float64]

TRIALS = 600
"""Exchanges of two channels that are tried in one sweep over a group."""

SWEEPS = 6


def permute_for_blocks(
    graph: Graph, chosen: Mapping[str, Block | Stripe], generator: np.random.Generator
) -> Graph:
    """The same function with channels ordered so that the projections keep more energy.

    A group's order is changed only if the energy kept rises over all chosen weights together.

    Args:
        graph: a float graph.
        chosen: the structure that each weight will be projected onto, by the weight's name.
        generator: draws the exchanges that are tried in groups too large for trying all.
    """
    for group in channel_groups(graph):
        sites = [
            _Site.of(graph, member, chosen[member.tensor])
            for member in group.constants
            if member.axis == 0 and member.tensor in chosen
        ]
        sites = [site for site in sites if site.out > 1]
        if not sites or group.size < 2:
            continue
        found = permute(graph, group, _ordered(group, sites, generator).tolist())
        if kept_energy(found, chosen) > kept_energy(graph, chosen):
            graph = found
    return graph


def permute_for_pairs(graph: Graph) -> Graph:
    """The same function with channels ordered so that the filters that fit best are neighbours.

    Neighbours are what `Complementary` pairs (DDC-PIM); coupled layers get one order, the best for
    the sum of their squared errors.

    Args:
        graph: a float graph.
    """
    weights = {op.inputs[1] for op in graph.ops if graph.weight(op) is not None}
    for group in channel_groups(graph):
        cost = np.zeros((group.size, group.size))
        for member in group.constants:
            if member.axis == 0 and member.tensor in weights:
                data = torch.from_numpy(np.asarray(graph.tensors[member.tensor].data))
                cost += matching_cost(data[[index[0] for index in member.indices]])
        if cost.any():
            graph = permute(graph, group, match_filters(cost))
    return graph


def kept_energy(graph: Graph, chosen: Mapping[str, Block | Stripe]) -> float:
    """Sum of squares of the chosen weights that their projections keep."""
    total = 0.0
    for name, structure in chosen.items():
        data = graph.tensors[name].data
        assert data is not None
        weight = torch.from_numpy(data.astype(np.float64))
        total += float(structure.project(weight).square().sum())
    return total


@dataclass(frozen=True, eq=False)
class _Site:
    """A weight whose outputs are permuted.

    Attributes:
        rows: (channels of the group, m) which rows of the weight each is.
        energy: (K, U) by output channel and place within it (input slab and kernel position).
        out: output channels of a block.
        kept: number of blocks that stay.
    """

    rows: Order
    energy: Energies
    out: int
    kept: int

    @staticmethod
    def of(graph: Graph, member: Member, structure: Block | Stripe) -> _Site:
        data = graph.tensors[member.tensor].data
        assert data is not None
        shape = cast(tuple[int, int, int, int], (*data.shape, 1, 1)[:4])
        out, width = structure.sides
        k, c, r, s = shape
        squares = np.square(data.astype(np.float64)).reshape(k, c, r * s)
        squares = np.pad(squares, ((0, 0), (0, -c % width), (0, 0)))
        energy = squares.reshape(k, -1, width, r * s).sum(2).reshape(k, -1)
        rows = np.array(member.indices, np.int64)
        return _Site(rows, energy, out, structure.kept(shape))

    def blocks(self, order: Order) -> Energies:
        """(blocks, U) energies under an order of the group."""
        index = np.arange(len(self.energy))
        index[self.rows] = self.rows[order]
        starts = np.arange(0, len(index), self.out)
        return cast(Energies, np.add.reduceat(self.energy[index], starts, axis=0))

    def score(self, order: Order) -> float:
        """Energy that stays."""
        flat = self.blocks(order).ravel()
        return float(np.partition(flat, flat.size - self.kept)[flat.size - self.kept :].sum())


def _ordered(group: ChannelGroup, sites: list[_Site], generator: np.random.Generator) -> Order:
    """The best order found from the present one and from a greedy one, by exchanges."""
    identity = np.arange(group.size)
    found = [_exchanged(start, sites, generator) for start in (identity, _greedy(group, sites))]
    return max(found, key=lambda order: _score(sites, order))


def _score(sites: list[_Site], order: Order) -> float:
    return sum(site.score(order) for site in sites)


def _greedy(group: ChannelGroup, sites: list[_Site]) -> Order:
    """Block after block: the strongest channel left, then those that lift most units over the bar.

    The bar is the energy of the weakest kept block under the present order, shared evenly.
    """
    identity = np.arange(group.size)
    features, bars = [], []
    for site in sites:
        features.append(site.energy[site.rows].sum(1))
        flat = site.blocks(identity).ravel()
        bar = np.partition(flat, flat.size - site.kept)[flat.size - site.kept] / site.out
        bars.append(np.full(site.energy.shape[1], bar))
    energy, bar = np.concatenate(features, axis=1), np.concatenate(bars)
    size = max(site.out for site in sites)
    left, order = list(range(group.size)), []
    while left:
        together = np.zeros_like(bar)
        for count in range(1, min(size, len(left)) + 1):
            gains = np.maximum(together + energy[left] - count * bar, 0).sum(1)
            best = left.pop(int(gains.argmax()))
            together = together + energy[best]
            order.append(best)
    return np.array(order, np.int64)


def _exchanged(order: Order, sites: list[_Site], generator: np.random.Generator) -> Order:
    """Exchange channels of different blocks while that helps."""
    best, score = order.copy(), _score(sites, order)
    least = min(site.out for site in sites)
    pairs = [(a, b) for a, b in combinations(range(len(order)), 2) if a // least != b // least]
    for _ in range(SWEEPS):
        before = score
        tried = pairs
        if len(pairs) > TRIALS:
            tried = [pairs[i] for i in generator.choice(len(pairs), TRIALS, replace=False)]
        for a, b in tried:
            other = best.copy()
            other[[a, b]] = other[[b, a]]
            if (value := _score(sites, other)) > score:
                best, score = other, value
        if score == before:
            break
    return best
