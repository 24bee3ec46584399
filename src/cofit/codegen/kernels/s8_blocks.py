"""int8 convolutions of blocks and patterns of four weights: lists of words over lifted columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.s8_layer import Int8, columns_of, is_host, reject_weighted
from cofit.codegen.kernels.s8_lifted import (
    LiftedColumns,
    lifted,
    lifted_columns,
    lifted_scale,
    lifted_start,
)
from cofit.codegen.kernels.s8_scaled import Scale, scaled_layers
from cofit.codegen.kernels.s8_sparse import block_entries, pattern_taps, structured_encoding
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.structures import Encoding

_MOST_BYTES = 65535


class Entries(NamedTuple):
    """Lists of four weights for groups of rows.

    Attributes:
        size: rows of a group; the last may have fewer.
        count: (groups,) entries.
        place: (entries,) element of the column where each begins.
        values: (entries, size, 4) weights.
        order: output channel of each row; None for 0, 1, 2, ...
        taps: (patterns, 4) taps whose values make the column; None if it is the window itself.
    """

    size: int
    count: NDArray[np.uint16]
    place: NDArray[np.int64]
    values: Int8
    order: NDArray[np.uint16] | None = None
    taps: NDArray[np.uint8] | None = None


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
    """Blocks of four columns or more and patterns, of one row or an even number of them."""

    name = "s8-blocks"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other structures, and what the lifted form cannot hold."""
        reason = reject_weighted(graph, op)
        if reason is not None:
            return reason
        if is_host(machine):
            return "vectors are faster"
        encoding = structured_encoding(graph, op)
        if isinstance(encoding, str):
            return encoding
        if columns_of(graph, op).together != 2:
            return "it has a single pixel"
        entries = _entries(encoding)
        if isinstance(entries, str):
            return entries
        if 4 * int(entries.place.max(initial=0)) > _MOST_BYTES or 2 * len(entries.place) > _MOST_BYTES:
            return "its column or its list is too long for 16 bits"
        found = lifted_scale(graph, op)
        return found if isinstance(found, str) else None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Column by column for pairs of pixels."""
        scale, encoding = lifted_scale(graph, op), structured_encoding(graph, op)
        assert isinstance(scale, Scale) and isinstance(encoding, Encoding)
        entries = _entries(encoding)
        assert isinstance(entries, Entries)
        tile = 1 if entries.size == 1 else 2
        columns = lifted_columns(graph, op, tile, moved=entries.order is not None)
        taps: tuple[Constant, ...] = ()
        if entries.taps is not None:
            columns = TapColumns(
                columns.window, columns.offset, spare=columns.spare, patterns=len(entries.taps)
            )
            taps = (Constant("taps", entries.taps),)
        weights, ranges, sums = _packed(entries, scale, tile, len(scale.idle))
        declaration, constants = scaled_layers(
            graph, op, scale, weights, lifted_start(graph, op, scale, *sums), tile=tile,
            chunks=columns.chunks, order=entries.order, ranges=ranges,
            index=(4 * entries.place).astype(np.uint16),
        )  # fmt: skip
        call = f"s8_blocks_{tile}(layer, x, y, y + {columns.window.outputs});"
        return KernelCode(
            f"{declaration}\n{columns.loop(call)}",
            (*constants, *taps),
            ("s8_blocks.h", *columns.support),
            columns.scratch_bytes,
            variant=str(graph.tensors[op.inputs[1]].structure),
        )


def _entries(encoding: Encoding) -> Entries | str:
    """Lists of fours, or why the encoding has none."""
    if encoding.format not in ("ocb", "fkw"):
        return f"{encoding.format} has no blocks of four"
    if encoding.shape[1] % 4:
        return "its channels do not come in fours"
    if encoding.format == "fkw":
        size = encoding.parameters["group"]
        entries = _patterns(encoding) if encoding.shape[2:] == (3, 3) else "its kernel is not 3x3"
    else:
        size = encoding.parameters["out"]
        if encoding.parameters["in"] % 4:
            return "its blocks are not four columns wide"
        count, place, values = block_entries(encoding)
        entries = Entries(size, count, place.astype(np.int64), values)
    return "its groups have an odd number of rows" if size > 1 and size % 2 else entries


def _patterns(encoding: Encoding) -> Entries:
    """Kernels of a pattern each, as fours of a column that lists pattern by pattern."""
    arrays, size, channels = encoding.arrays, encoding.parameters["group"], encoding.shape[1]
    taps = pattern_taps(encoding)
    runs = np.diff(arrays["stride"].astype(np.int64), axis=1)
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
    entries: Entries, scale: Scale, tile: int, k: int
) -> tuple[Int8, NDArray[np.uint16], NDArray[np.int64]]:
    """Weights; (tiles, 2) bytes of places that each tile takes; (2, K) sums of firsts, seconds."""
    order = np.arange(k) if entries.order is None else entries.order
    parts, ranges, start = [np.zeros(0, np.int8)], [], 0
    sums = np.zeros((2, k), np.int64)
    for group, count in enumerate(entries.count.tolist()):
        block = entries.values[start : start + count].copy()
        rows = order[group * entries.size : (group + 1) * entries.size]
        block[:, len(rows) :] = 0
        block[:, : len(rows)][:, scale.idle[rows]] = 0
        wide = block.astype(np.int64).sum(axis=0)[: len(rows)]
        sums[:, rows] = wide[:, 0::2].sum(axis=1), wide[:, 1::2].sum(axis=1)
        for row in range(0, len(rows), tile):
            parts.append(lifted(block[:, row : row + tile]).ravel())
            ranges.append((2 * start, 2 * (start + count)))
        start += count
    return np.concatenate(parts), np.array(ranges, np.uint16), sums
