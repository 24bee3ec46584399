"""The weights of a network as an input-stationary array streams them, and what that costs in bits.

The array holds `height` operands of several output positions; the weights of one output channel
after the other pass by. A layer's weight is a matrix of K rows (output channels) and C columns
(input channels within kernel positions, channels innermost); its columns are cut in segments of
`height`, each streamed over all K rows, in natural order or in one of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cofit.core import ConfigError, ModelError
from cofit.ir import Graph
from cofit.reproductions.hamming_codesign.energy import mac_energy
from cofit.reproductions.hamming_codesign.flips import (
    Codes,
    address_flips,
    codes,
    row_flips,
    stream_flips,
)
from cofit.reproductions.hamming_codesign.path import Ints, short_path, spanning_tree


@dataclass(frozen=True, eq=False)
class Stream:
    """One layer.

    Attributes:
        name: of its weight.
        rows: (K, C) bit patterns.
        channels: columns of one kernel position; C where the weight is depthwise.
        repeats: output positions; the stream passes once for as many of them as the array holds.
        bits: of a weight.
    """

    name: str
    rows: Codes
    channels: int
    repeats: int
    bits: int = 8

    def segments(self, height: int) -> list[Codes]:
        """The columns in segments of `height`; the last may be narrower.

        Raises:
            ConfigError: the height is below 1.
        """
        if height < 1:
            raise ConfigError(f"an array of height {height}; it must be at least 1")
        return [self.rows[:, at : at + height] for at in range(0, self.rows.shape[1], height)]


@dataclass(frozen=True)
class Count:
    """What one or more streams toggle per output position, times the output positions.

    Attributes:
        flips: of weights within segments (HD of the method).
        border_flips: of weights where one segment follows another.
        address_flips: on the lines that address the accumulators, in any order.
        streamed_bits: bits of all transitions within segments.
        bound: that no order of the segments' rows passes: their spanning trees.
        energy: of the multiply-accumulates within segments and at borders, relative units.
        table_bits: of order tables, counted once whatever the output positions.
    """

    flips: int
    border_flips: int
    address_flips: int
    streamed_bits: int
    bound: int
    energy: float
    table_bits: int

    @property
    def total(self) -> int:
        """Flips of the weights, borders included."""
        return self.flips + self.border_flips

    @property
    def with_addresses(self) -> int:
        """Flips of the weights and of the accumulators' addresses."""
        return self.total + self.address_flips

    def __add__(self, other: Count) -> Count:
        """Both."""
        return Count(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))


def streams(graph: Graph, encoding: str) -> tuple[Stream, ...]:
    """The layers of an integer graph, in order.

    Raises:
        ModelError: the graph computes in floats, or has no weights.
        UnknownNameError: no such encoding.
        StructureError: naming the weight that the encoding cannot hold.
    """
    if not graph.is_integer:
        raise ModelError(f"graph {graph.name!r} computes in floats; quantise it first")
    found = []
    for op, weight in graph.weighted():
        assert weight.data is not None and weight.quantisation is not None
        matrix = weight_matrix(weight.data)
        shape = graph.tensors[op.output].shape
        positions = math.prod(shape[2:]) if op.kind == "conv2d" else math.prod(shape[1:-1])
        bits = weight.quantisation.bits
        channels = weight.shape[1] if weight.shape[1] > 1 else matrix.shape[1]
        found.append(Stream(weight.name, codes(matrix, encoding, bits), channels, positions, bits))
    if not found:
        raise ModelError(f"graph {graph.name!r} has no weights to stream")
    return tuple(found)


def weight_matrix(weight: np.ndarray) -> np.ndarray:
    """(K, C, R, S) or (K, C) as (K, R * S * C), channels innermost."""
    return np.ascontiguousarray(np.moveaxis(weight, 1, -1)).reshape(len(weight), -1)


def natural(stream: Stream, height: int) -> list[Ints]:
    """Every segment in the order of the rows."""
    return [np.arange(len(stream.rows)) for _ in stream.segments(height)]


def segmented(stream: Stream, height: int, given: Sequence[Ints] | None = None) -> list[Ints]:
    """Every segment in an order of its own, never worse than the given or natural one."""
    segments = stream.segments(height)
    return [
        short_order(segment, None if given is None else given[i])
        for i, segment in enumerate(segments)
    ]


def short_order(rows: Codes, given: Ints | None = None) -> Ints:
    """An order of rows (K, C) that toggles few bits; equal rows follow each other."""
    distinct, places = np.unique(rows, axis=0, return_inverse=True)
    start = _first_met(places if given is None else places[given])
    order = short_path(row_flips(distinct), start)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    found: Ints = np.argsort(rank[places], kind="stable")
    return found


def count(stream: Stream, height: int, orders: Sequence[Ints], tables: bool) -> Count:
    """What a stream toggles.

    Args:
        stream: a layer.
        height: of the array.
        orders: one per segment.
        tables: whether the orders are read from tables; False where they are the natural one.

    Raises:
        ConfigError: an order is missing or not a permutation of the rows.
    """
    segments, k = stream.segments(height), len(stream.rows)
    if len(orders) != len(segments) or any(
        not np.array_equal(np.sort(order), np.arange(k)) for order in orders
    ):
        raise ConfigError(
            f"{stream.name!r} has {len(segments)} segments of {k} rows; give a permutation for each"
        )
    passed = [segment[order] for segment, order in zip(segments, orders, strict=True)]
    # idle operands of a narrower last segment are held at zero
    last = passed[-1]
    wide = np.pad(last, ((0, 0), (0, passed[0].shape[1] - last.shape[1])))
    padded = [*passed[:-1], wide]
    borders = [np.stack((a[-1], b[0])) for a, b in itertools.pairwise(padded)]
    lines = sum(address_flips(order) for order in orders)
    width = max(1, math.ceil(math.log2(k)))
    return Count(
        flips=stream.repeats * sum(map(stream_flips, passed)),
        border_flips=stream.repeats * sum(map(stream_flips, borders)),
        address_flips=stream.repeats * lines,
        streamed_bits=stream.repeats * stream.bits * (k - 1) * stream.rows.shape[1],
        bound=stream.repeats * sum(spanning_tree(row_flips(segment)) for segment in segments),
        energy=stream.repeats * float(sum(map(mac_energy, [*passed, *borders]))),
        table_bits=len(segments) * k * width if tables else 0,
    )


def total(counts: Sequence[Count]) -> Count:
    """Of a network."""
    return sum(counts[1:], counts[0])


def _first_met(places: Ints) -> Ints:
    """Distinct values in the order in which they first occur."""
    values, first = np.unique(places, return_index=True)
    return values[np.argsort(first)]
