"""Which channels to permute so that streamed weights toggle fewer bits; the function stays.

Channels that belong together (`cofit.ir.channel_groups`) move together, so layers tied by residual
additions and depthwise layers agree on one order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from cofit.core import ConfigError
from cofit.ir import Graph, channel_groups, permute
from cofit.reproductions.hamming_codesign.flips import row_flips
from cofit.reproductions.hamming_codesign.path import Ints, short_path
from cofit.reproductions.hamming_codesign.streams import Stream, segmented, streams

ROUNDS = 6
"""Alternations of assignment and ordering at most; later ones gain next to nothing."""


def reorder(graph: Graph, encoding: str) -> Graph:
    """The same network with output channels in one short order per group, for any array height.

    A group's order is short for all layers that write it, weighted by their output positions.
    """
    by_name = {stream.name: stream for stream in streams(graph, encoding)}
    for group in channel_groups(graph):
        distance = np.zeros((group.size, group.size), np.int64)
        for member in group.constants:
            stream = by_name.get(member.tensor)
            if stream is None or member.axis != 0:
                continue
            whole = stream.repeats * row_flips(stream.rows)
            for places in np.array(member.indices).T:
                distance += whole[np.ix_(places, places)]
        graph = permute(graph, group, _scaled_path(distance).tolist())
    return graph


def cluster(graph: Graph, encoding: str, height: int) -> Graph:
    """The same network with input channels so placed that those of a segment agree on an order.

    Alternates between orders of rows (one per segment) and an optimal assignment of channels to
    places under these orders; neither step makes the flips more. At height 1 there is nothing to
    agree on, and the network is given back.

    Raises:
        ConfigError: the height is below 1.
    """
    if height < 1:
        raise ConfigError(f"an array of height {height}; it must be at least 1")
    for group in channel_groups(graph) if height > 1 else ():
        by_name = {stream.name: stream for stream in streams(graph, encoding)}
        readers = {
            member.tensor: np.array(member.indices).T
            for member in group.constants
            if member.axis == 1 and member.tensor in by_name
        }
        if readers:
            order = _placed(readers, by_name, height)
            graph = permute(graph, group, order.tolist())
    return graph


def _placed(readers: Mapping[str, Ints], by_name: Mapping[str, Stream], height: int) -> Ints:
    """Which channel goes to each place of a group, for the layers that read it.

    Where each place is tuned to its own channel nothing moves, so a second start puts channels of
    like bits side by side.
    """
    size = next(iter(readers.values())).shape[1]
    alike = np.zeros((size, size), np.int64)
    for name, indices in readers.items():
        for index in indices:
            for position in _columns(by_name[name], index):
                columns = by_name[name].rows[:, position]
                alike += by_name[name].repeats * row_flips(np.ascontiguousarray(columns.T))
    starts = [np.arange(size), _scaled_path(alike)]
    found = [_alternate(start, readers, by_name, height) for start in starts]
    return min(found, key=lambda pair: pair[1])[0]


def _alternate(
    order: Ints, readers: Mapping[str, Ints], by_name: Mapping[str, Stream], height: int
) -> tuple[Ints, int]:
    """Orders of rows and placement of channels in turn; the placement and its flips."""
    rows: dict[str, list[Ints]] = {}
    least = None
    for _ in range(ROUNDS):
        for name, indices in readers.items():
            moved = _moved(by_name[name], indices, order)
            rows[name] = segmented(moved, height, rows.get(name))
        cost = np.zeros((len(order), len(order)), np.int64)  # (channel, place)
        for name, indices in readers.items():
            cost += _placement_cost(by_name[name], indices, rows[name], height)
        channels, places = linear_sum_assignment(cost)
        found = int(cost[channels, places].sum())
        if least is not None and found >= least:
            break
        least = found
        order = np.empty(len(order), np.int64)
        order[places] = channels
    assert least is not None
    return order, least


def _placement_cost(stream: Stream, indices: Ints, orders: list[Ints], height: int) -> Ints:
    """Flips (channel, place) of a channel's columns under the order of the place's segment."""
    size = indices.shape[1]
    columns = [_columns(stream, index) for index in indices]
    cost = np.zeros((size, size), np.int64)
    for segment, order in enumerate(orders):
        for each in columns:  # (positions, size)
            for position in each:
                here = np.flatnonzero(position // height == segment)
                if len(here):
                    passed = stream.rows[order][:, position]
                    flips = np.bitwise_count(passed[1:] ^ passed[:-1]).sum(0, dtype=np.int64)
                    cost[:, here] += stream.repeats * flips[:, None]
    return cost


def _columns(stream: Stream, channels: Ints) -> Ints:
    """Columns of channels, (kernel positions, channels)."""
    positions = stream.rows.shape[1] // stream.channels
    found: Ints = np.arange(positions)[:, None] * stream.channels + channels
    return found


def _moved(stream: Stream, indices: Ints, order: Ints) -> Stream:
    rows = stream.rows.copy()
    for index in indices:
        rows[:, _columns(stream, index)] = stream.rows[:, _columns(stream, index[order])]
    return Stream(stream.name, rows, stream.channels, stream.repeats, stream.bits)


def _scaled_path(distance: Ints) -> Ints:
    """A short path; distances that 32 bits might not sum are scaled down."""
    shift = max(0, int(distance.max(initial=0)).bit_length() - 28)
    return short_path(distance >> shift)
