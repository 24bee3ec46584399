"""Epilogues of one shift: what a layer needs so that an output is one SMMLA, ASR and SSAT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant
from cofit.codegen.kernels.s8_layer import Array, Int8, constant
from cofit.ir import Graph, Op, Rounding
from cofit.ir.integer import affine, conv_requant, output_bounds

_MOST_SHIFT = 22  # up to it, neither zero point nor half leaves int32


@dataclass(frozen=True, eq=False)
class Scale:
    """Outputs are (sum * multiplier / 2^32 + round) >> shift, both rounded down.

    Attributes:
        multiplier: (K,) per output channel.
        shift: of all channels.
        round: half and zero point, both shifted left.
    """

    multiplier: NDArray[np.int32]
    shift: int
    round: int


def one_shift(graph: Graph, op: Op, lift: int = 0) -> Scale | str:
    """The epilogue of a conv2d or linear op whose sums are 2^lift times the accumulators.

    Multipliers of 24 bits end in seven zeros: they can be shifted right until all channels share
    one shift. Else the reason why not.
    """
    assert graph.spec is not None
    if graph.spec.rounding is Rounding.DOUBLE:
        return "its outputs are rounded twice"
    multiplier, shifts = conv_requant(graph, op)
    most = int(shifts[multiplier != 0].max(initial=-31))
    down = np.where(multiplier != 0, most - shifts, 0)
    if (multiplier.astype(np.int64) & ((1 << down.astype(np.int64)) - 1)).any():
        return "the scales of its channels are too far apart for one shift"
    shift = lift - 1 - most
    if not 1 <= shift <= _MOST_SHIFT:
        return f"its outputs are shifted right by {shift}, not 1 to {_MOST_SHIFT}"
    _, zero_point = affine(graph, op.output)
    return Scale(
        (multiplier >> down).astype(np.int32), shift, (1 << (shift - 1)) + zero_point * (1 << shift)
    )


def scaled_layers(
    graph: Graph, op: Op, scale: Scale, weights: Int8, start: NDArray[np.int32], *,
    tile: int, chunks: int = 0, groups: int = 1, order: NDArray[np.uint16] | None = None,
    lists: Sequence[tuple[str, NDArray[np.uint16]]] = (),
) -> tuple[str, tuple[Constant, ...]]:  # fmt: skip
    """C declaration of `layers`, one `s8_scaled` per group, and the arrays it points to.

    Args:
        graph: an integer graph.
        op: a conv2d or linear op.
        scale: its epilogue.
        weights: packed, group by group.
        start: (rows,) where the sums begin.
        tile: rows that are computed together; each group's are filled up to a multiple.
        chunks: of columns.
        groups: of the convolution.
        order: output channel of each row; None for 0, 1, 2, ...
        lists: (field, values) of further arrays.
    """
    multiplier = scale.multiplier if order is None else scale.multiplier[order]
    rows = len(start) // groups
    pairs = np.stack([start, multiplier]).astype(np.int32).reshape(2, groups, rows)
    filled = np.pad(pairs, ((0, 0), (0, 0), (0, -rows % tile)))
    bias = filled.reshape(2, groups, -1, tile).transpose(1, 2, 0, 3)
    parts: dict[str, Array] = {"weights": weights, "bias": bias, **dict(lists)}
    if order is not None:
        parts["channel"] = order
    constants = tuple(constant(name, values) for name, values in parts.items())
    low, high = output_bounds(graph, op)
    plain = rows // tile * tile if order is None and (low, high) == (-128, 127) else 0
    sizes = (
        f".rows = {rows}, .plain = {plain}, .chunks = {chunks}, .round = {scale.round}, "
        f".shift = {scale.shift}, .low = {low}, .high = {high}"
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
