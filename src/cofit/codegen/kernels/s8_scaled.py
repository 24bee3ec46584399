"""Epilogues of one shift: what a layer needs so that an output is one SMMLA, ASR and SSAT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant
from cofit.codegen.kernels.s8_layer import Array, Int8, constant, weight_values
from cofit.ir import Graph, Op, Rounding
from cofit.ir.integer import affine, conv_requant, output_bounds, requantise

_MOST_SHIFT = 22  # up to it, neither zero point nor half leaves int32


@dataclass(frozen=True, eq=False)
class Scale:
    """Outputs are (sum * multiplier / 2^32 + round) >> shift, both rounded down.

    Attributes:
        multiplier: (K,) per output channel.
        shift: of all channels.
        round: half and zero point, both shifted left.
        idle: (K,) channels whose output is the same for all inputs: their weights count as zeros.
        start: (K,) where the sums of idle channels begin, 0 for the others.
    """

    multiplier: NDArray[np.int32]
    shift: int
    round: int
    idle: NDArray[np.bool_]
    start: NDArray[np.int32]


def one_shift(graph: Graph, op: Op, lift: int = 0) -> Scale | str:
    """The epilogue of a conv2d or linear op whose sums are 2^lift times the accumulators.

    Multipliers of 24 bits end in seven zeros: they can be shifted right until all channels share
    one shift. Channels further apart lose bits, which is allowed where no output changes by it.
    Else the reason why there is no such epilogue.
    """
    assert graph.spec is not None
    if graph.spec.rounding is Rounding.DOUBLE:
        return "its outputs are rounded twice"
    multiplier, shifts = conv_requant(graph, op)
    smallest, largest = sum_range(graph, op)
    first, last, zero_point = _ends(graph, op)
    low, high = output_bounds(graph, op)
    idle = first == last
    if (np.maximum(largest, -smallest)[~idle] >= 1 << (31 - lift)).any():
        return f"its sums need more than {32 - lift} bits"
    most = int(shifts[~idle].max(initial=-10))
    shift = lift - 1 - most
    if not 1 <= shift <= _MOST_SHIFT:
        return f"its outputs are shifted right by {shift}, not 1 to {_MOST_SHIFT}"
    half = (1 << (shift - 1)) + zero_point * (1 << shift)
    shared = np.zeros(len(idle), np.int32)
    for k in np.flatnonzero(~idle):
        exact, down = int(multiplier[k]), most - int(shifts[k])
        shared[k] = nearest = (exact + (1 << down >> 1)) >> down
        if nearest << down == exact:
            continue
        lowest, highest = max(int(first[k]), low + 1), min(int(last[k]) + 1, high)
        for level in range(lowest - zero_point, highest - zero_point + 1):
            # the least accumulator that is scaled to at least this level
            least = -((1 - 2 * level) * (1 << (30 - int(shifts[k]))) // exact)
            above, below = (
                (((acc << lift) * nearest >> 32) + (1 << (shift - 1))) >> shift >= level
                for acc in (least, least - 1)
            )
            if below or not above:
                return "the scales of its channels are too far apart for one shift"
    start = np.where(idle, (first - zero_point) << (shift + 2), 0).astype(np.int32)
    return Scale(np.where(idle, 1 << 30, shared).astype(np.int32), shift, half, idle, start)


OwnShifts = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_], NDArray[np.int32]]


def own_shifts(graph: Graph, op: Op) -> OwnShifts | str:
    """(multiplier, shift, idle, start) as in `Scale`, each (K,), but with a shift per channel.

    Else the reason why some channel has none.
    """
    assert graph.spec is not None
    if graph.spec.rounding is Rounding.DOUBLE:
        return "its outputs are rounded twice"
    multiplier, shifts = conv_requant(graph, op)
    first, last, zero_point = _ends(graph, op)
    idle = first == last
    right = np.where(idle, 1, -1 - shifts)
    if (right < 1).any() or (right > _MOST_SHIFT).any():
        return f"its outputs are not shifted right by 1 to {_MOST_SHIFT}"
    start = np.where(idle, (first - zero_point) << 3, 0).astype(np.int32)
    return (
        np.where(idle, 1 << 30, multiplier).astype(np.int32), right.astype(np.int32), idle, start
    )  # fmt: skip


def _ends(graph: Graph, op: Op) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """(K,) stored outputs of the least and of the greatest accumulators, and the zero point."""
    assert graph.spec is not None
    multiplier, shift = conv_requant(graph, op)
    _, zero_point = affine(graph, op.output)
    first, last = (
        np.clip(
            requantise(end, multiplier, shift, graph.spec.rounding) + zero_point,
            *output_bounds(graph, op),
        )
        for end in sum_range(graph, op)
    )
    return first, last, zero_point


def sum_range(graph: Graph, op: Op) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(K,) least and greatest accumulators over all inputs."""
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None
    weight = weight_values(graph, op).astype(np.int64)
    up = np.maximum(weight, 0).sum(axis=(1, 2, 3))
    down = np.minimum(weight, 0).sum(axis=(1, 2, 3))
    offset = -affine(graph, op.inputs[0])[1]
    low, high = offset - 128, offset + 127
    wide = bias.astype(np.int64)
    return wide + up * low + down * high, wide + up * high + down * low


def stored_plainly(graph: Graph, op: Op, rows: int, tile: int, moved: bool = False) -> bool:
    """Whether tiles of rows store their outputs at once: no bounds, no moves, no row too many."""
    return not moved and rows % tile == 0 and output_bounds(graph, op) == (-128, 127)


def scaled_layers(
    graph: Graph, op: Op, scale: Scale, weights: Int8, start: NDArray[np.int32], *,
    tile: int, chunks: int = 0, groups: int = 1, order: NDArray[np.uint16] | None = None,
    index: NDArray[np.uint16] | None = None, ranges: NDArray[np.uint16] | None = None,
) -> tuple[str, tuple[Constant, ...]]:  # fmt: skip
    """C declaration of `layers`, one `s8_scaled` per group, and the arrays it points to.

    Args:
        graph: an integer graph.
        op: a conv2d or linear op.
        scale: its epilogue.
        weights: packed, group by group.
        start: (K,) where the sums begin.
        tile: rows that are computed together; each group's are filled up to a multiple.
        chunks: of columns.
        groups: of the convolution.
        order: output channel of each row; None for 0, 1, 2, ...
        index: where entries begin in the column.
        ranges: (tiles, 2) of which entries are each tile's, in bytes of `index`.
    """
    multiplier = scale.multiplier if order is None else scale.multiplier[order]
    rows = len(multiplier) // groups
    begin = start if order is None else start[order]
    pairs = np.stack([begin, multiplier]).astype(np.int32).reshape(2, groups, rows)
    filled = np.pad(pairs, ((0, 0), (0, 0), (0, -rows % tile)))
    bias = filled.reshape(2, groups, -1, tile).transpose(1, 2, 0, 3).reshape(-1, 2 * tile)
    if ranges is not None:
        bias = np.concatenate([bias, np.ascontiguousarray(ranges).view(np.int32)], axis=1)
    parts: dict[str, Array] = {"weights": weights, "bias": bias}
    if index is not None:
        parts["index"] = index
    if order is not None:
        parts["channel"] = order
    constants = tuple(constant(name, values) for name, values in parts.items())
    low, high = output_bounds(graph, op)
    plain = stored_plainly(graph, op, rows, tile, order is not None)
    sizes = (
        f".rows = {rows}, .filled = {filled.shape[2]}, .plain = {int(plain)}, "
        f".chunks = {chunks}, .round = {scale.round}, .shift = {scale.shift}, "
        f".low = {low}, .high = {high}"
    )

    def fields(group: int) -> str:
        step = {"weights": weights.size // groups, "bias": bias.size // groups}
        pointers = (
            f".{array.name} = {array_name(array)} + {group * step.get(array.name, 0)}"
            for array in constants
        )
        return "    {" + ",\n     ".join((*pointers, sizes)) + "}"

    listed = ",\n".join(fields(group) for group in range(groups))
    return f"static const s8_scaled layers[{groups}] = {{\n{listed}}};", constants
