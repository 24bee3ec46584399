"""int8 layers of blocks and patterns: lists of words over the columns of two pixels, or of one.

Fours take lifted columns. Pairs and singles would use a part of a lifted word; they take columns
of int16, whose words hold two neighbours or one element at both pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.s8_layer import Int8, columns_of, reject_scalar
from cofit.codegen.kernels.s8_lifted import (
    LiftedColumns,
    lifted,
    lifted_scale,
    lifted_start,
    spare_bytes,
)
from cofit.codegen.kernels.s8_scaled import Scale, one_shift, scaled_layers
from cofit.codegen.kernels.s8_sparse import (
    block_entries,
    csr_places,
    listed_encoding,
    pattern_taps,
)
from cofit.codegen.kernels.shares import count_of, declared
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.structures import Encoding

_MOST_BYTES = 65535
_NAMES = {1: "singles", 2: "pairs", 4: "quads"}


class Entries(NamedTuple):
    """Lists of one, two or four weights for groups of rows.

    Attributes:
        size: rows of a group; the last may have fewer.
        counts: (groups,) entries of each.
        place: (entries,) element of the column where each begins.
        values: (entries, size, 1, 2 or 4) weights.
        order: output channel of each row; None for 0, 1, 2, ...
        taps: (patterns, 4) taps whose values make the column; None if it is the window itself.
    """

    size: int
    counts: NDArray[np.uint16]
    place: NDArray[np.int64]
    values: Int8
    order: NDArray[np.uint16] | None = None
    taps: NDArray[np.uint8] | None = None

    def tile(self, pixels: int) -> int:
        """Rows that are computed together: as many as there are registers for their sums."""
        if pixels == 1 and self.size % 4 == 0:
            return 4
        return 1 if self.size == 1 else 2

    @property
    def width(self) -> int:
        """Weights of a row in an entry."""
        return int(self.values.shape[2])


class SpreadColumns(LiftedColumns):
    """Columns of int16, two neighbours in a word, the pixels of a step in turn."""

    form = "spread"
    words = 1

    @property
    def arguments(self) -> str:
        """Minus the zero point, twice."""
        return f", cofit_pack({self.offset}, {self.offset})"


class WovenColumns(SpreadColumns):
    """Columns of int16, one element of both pixels in a word."""

    form = "weave"

    def _at(self, pixel: int) -> str:
        return f"(uint8_t *)x + {2 * pixel}"


@dataclass(frozen=True)
class TapColumns(LiftedColumns):
    """Lifted columns of the four taps of each pattern, per channel."""

    patterns: int = 0

    @property
    def chunks(self) -> int:
        """One per pattern and channel."""
        return self.patterns * self.window.channels

    @property
    def contiguous(self) -> bool:
        """Never: taps are picked."""
        return False

    @property
    def scratch_bytes(self) -> int:
        """The columns and a pixel of zero points."""
        return super().scratch_bytes + self.window.channels

    @property
    def support(self) -> tuple[str, ...]:
        """Support file of the loop."""
        return ("s8_lift_taps.h",)

    def _declarations(self) -> Sequence[str]:
        at, channels = super().scratch_bytes, self.window.channels
        return (
            *super()._declarations(),
            f"int8_t *const zeros = (int8_t *)scratch + {at};",
            f"for (int32_t i = 0; i < {channels}; i++)",
            f"    zeros[i] = {-self.offset};",
        )

    def _fill(self, source: str) -> Sequence[str]:
        return [
            f"s8_lift_taps(&window, {source}, at + {i}, taps, {self.patterns}, zeros, x + {2 * i});"
            for i in range(self.together)
        ]


class S8Blocks:
    """Blocks of one row or an even number of them, patterns, and single weights."""

    name = "s8-blocks"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other structures, and what the lifted form cannot hold."""
        reason = reject_scalar(graph, op, machine)
        if reason is not None:
            return reason
        encoding = listed_encoding(graph, op)
        if isinstance(encoding, str):
            return encoding
        entries = _entries(encoding)
        if isinstance(entries, str):
            return entries
        if columns_of(graph, op).together == 1 and (
            entries.width != 4 or entries.size == 1 or entries.taps is not None
        ):
            return "at a single pixel only fours of several rows have a loop"
        if (
            4 * int(entries.place.max(initial=0)) > _MOST_BYTES
            or 2 * len(entries.place) > _MOST_BYTES
        ):
            return "its column or its list is too long for 16 bits"
        found = _scale(graph, op, entries)
        return found if isinstance(found, str) else None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Column by column, two pixels at a time where there are several."""
        encoding = listed_encoding(graph, op)
        assert isinstance(encoding, Encoding)
        entries = _entries(encoding)
        assert isinstance(entries, Entries)
        scale, pixels = _scale(graph, op, entries), columns_of(graph, op).together
        tile = entries.tile(pixels)
        assert isinstance(scale, Scale)
        columns, taps = _columns(graph, op, entries)
        weights, ranges, sums = _packed(entries, scale, tile)
        start = lifted_start(graph, op, scale, *sums)
        if entries.width != 4:
            bias = graph.tensors[op.inputs[2]].data
            assert bias is not None
            start = np.where(scale.idle, scale.start, bias.astype(np.int32))
        declaration, constants = scaled_layers(
            graph, op, scale, weights, start, tile=tile, chunks=columns.chunks,
            order=entries.order, ranges=ranges,
            index=(2 * pixels * entries.place).astype(np.uint16),
        )  # fmt: skip
        header, call = "s8_block_strips.h", f"s8_blocks_strips_{tile}(layer, x, y);"
        if pixels == 2:
            function = f"s8_blocks_{_NAMES[entries.width]}_{tile}"
            header, call = "s8_blocks.h", f"{function}(layer, x, y, y + {columns.window.outputs});"
        shares = columns.shares(graph, op, machine)
        return KernelCode(
            declared(shares, f"{declaration}\n{columns.loop(call, shares)}"),
            (*constants, *taps),
            (header, *columns.support),
            columns.scratch_bytes,
            variant=str(graph.tensors[op.inputs[1]].structure),
            shares=count_of(shares),
        )


def _scale(graph: Graph, op: Op, entries: Entries) -> Scale | str:
    return lifted_scale(graph, op) if entries.width == 4 else one_shift(graph, op)


def _columns(graph: Graph, op: Op, entries: Entries) -> tuple[LiftedColumns, tuple[Constant, ...]]:
    """Columns that the entries' places mean, and the constants these need."""
    plain = columns_of(graph, op)
    spare = spare_bytes(graph, op, entries.tile(plain.together), entries.order)
    if entries.taps is None:
        kind = {1: WovenColumns, 2: SpreadColumns, 4: LiftedColumns}[entries.width]
        return kind(plain.window, plain.offset, spare=spare), ()
    patterns = len(entries.taps)
    columns = TapColumns(plain.window, plain.offset, spare=spare, patterns=patterns)
    return columns, (Constant("taps", entries.taps),)


def _entries(encoding: Encoding) -> Entries | str:
    """Lists of twos or fours, or why the encoding has none."""
    channels, kernel = encoding.shape[1], encoding.shape[2:]
    if encoding.format == "fkw":
        if kernel != (3, 3) or channels % 4:
            return "its kernels are not 3x3 or its channels do not come in fours"
        entries = _patterns(encoding)
    elif encoding.format == "ocb":
        count, place, values = block_entries(encoding)
        entries = _whole(Entries(values.shape[1], count, place.astype(np.int64), values))
    elif encoding.format == "csr":
        values = encoding.arrays["values"].astype(np.int8).reshape(-1, 1, 1)
        count, place = encoding.arrays["count"].astype(np.uint16), csr_places(encoding)
        entries = _whole(Entries(1, count, place.astype(np.int64), values))
    else:
        return f"{encoding.format} has no blocks"
    size, width = entries.values.shape[1:]
    if channels % width:
        return "its blocks do not lie in whole words"
    if size % 2 and (size > 1 or width == 2):
        return "its groups have an odd number of rows"
    return entries


def _whole(entries: Entries) -> Entries:
    """Lists of single weights filled up with zeros to whole words of a tile's."""
    if entries.width > 1:
        return entries
    step = 4 // entries.tile(2)
    fill = -entries.counts.astype(np.int64) % step
    ends = np.repeat(np.cumsum(entries.counts.astype(np.int64)), fill)
    return entries._replace(
        counts=(entries.counts + fill).astype(np.uint16),
        place=np.insert(entries.place, ends, 0),
        values=np.insert(entries.values, ends, 0, axis=0),
    )


def _patterns(encoding: Encoding) -> Entries:
    """Kernels of a pattern each, as fours of a column that lists pattern by pattern."""
    arrays, size, channels = encoding.arrays, encoding.parameters["group"], encoding.shape[1]
    taps = pattern_taps(encoding)
    runs = np.diff(np.asarray(arrays["stride"], np.int64), axis=1).astype(np.int64)
    pattern = np.repeat(np.tile(np.arange(len(taps)), len(runs)), runs.ravel())
    return Entries(
        size,
        runs.sum(axis=1).astype(np.uint16),
        4 * (pattern * channels + arrays["index"].astype(np.int64)),
        arrays["values"].astype(np.int8).reshape(-1, 4, size).transpose(0, 2, 1),
        arrays["reorder"].astype(np.uint16),
        np.array(taps, np.uint8),
    )


def _packed(
    entries: Entries, scale: Scale, tile: int
) -> tuple[Int8, NDArray[np.uint16], NDArray[np.int64]]:
    """Weights; (tiles, 2) bytes of places that each tile takes; (2, K) sums of firsts, seconds."""
    k = len(scale.idle)
    order = np.arange(k) if entries.order is None else entries.order
    parts, ranges, start = [np.zeros(0, np.int8)], [], 0
    sums = np.zeros((2, k), np.int64)
    for group, count in enumerate(entries.counts.tolist()):
        block = entries.values[start : start + count].copy()
        rows = order[group * entries.size : (group + 1) * entries.size]
        block[:, len(rows) :] = 0
        block[:, : len(rows)][:, scale.idle[rows]] = 0
        wide = block.astype(np.int64).sum(axis=0)[: len(rows)]
        sums[:, rows] = wide[:, 0::2].sum(axis=1), wide[:, 1::2].sum(axis=1)
        for row in range(0, len(rows), tile):
            parts.append(_words(block[:, row : row + tile]))
            ranges.append((2 * start, 2 * (start + count)))
        start += count
    return np.concatenate(parts), np.array(ranges, np.uint16), sums


def _words(block: Int8) -> Int8:
    """(entries, 1, 2 or 4 rows, 1, 2 or 4) in the order in which `s8_blocks.h` takes them."""
    entries, rows, width = block.shape
    if width == 4:
        return lifted(block).ravel()
    if width == 2:
        return block.transpose(0, 2, 1).ravel()
    return block.reshape(entries // (4 // rows), 4 // rows, rows).transpose(0, 2, 1).ravel()
