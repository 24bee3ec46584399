"""int8 convolutions and linear layers whose weights are spread by one SXTB16 per four.

The activations of a column are lifted (see `c/s8_lift.h`), so that a word of weights is both an
operand of SMLAD as it is and, after one SXTB16, of a second: 12 instructions for 16 products. The
sums are 256 times the accumulators, which therefore must fit 24 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.s8_layer import (
    Columns,
    Int8,
    columns_of,
    constant,
    reject_scalar,
    weight_values,
)
from cofit.codegen.kernels.s8_scaled import Scale, one_shift, scaled_layers, stored_plainly
from cofit.codegen.kernels.s8_sparse import idle_outputs, listed_encoding
from cofit.codegen.kernels.shares import count_of, declared
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.ir.integer import affine
from cofit.structures import Encoding

LIFT = 8


@dataclass(frozen=True)
class LiftedColumns(Columns):
    """Lifted columns: per four elements two words, the pixels of a step in turn.

    Attributes:
        spare: bytes behind the columns that the layer uses.
    """

    spare: int = 0

    form: ClassVar[str] = "lift"
    element: ClassVar[str] = "uint32_t"
    layer: ClassVar[str] = "s8_scaled"
    words: ClassVar[int] = 2  # of one pixel before the next pixel's

    @property
    def chunks(self) -> int:
        """Fours of elements in a column."""
        return -(-self.length // 4)

    @property
    def fours(self) -> bool:
        """Whether runs of the input are whole words."""
        return self.window.channels // self.window.groups % 4 == 0

    @property
    def contiguous(self) -> bool:
        """Whether a column is a run of whole words of the input."""
        return super().contiguous and self.fours

    @property
    def gathered(self) -> bool:
        """Whether the bytes of a window are gathered before they are lifted."""
        return not self.contiguous and (not self.fours or self.together == 1)

    @property
    def scratch_bytes(self) -> int:
        """8 bytes per chunk and pixel, the spare and the gathered bytes."""
        return (8 * self.together + 4 * self.gathered) * self.chunks + self.spare

    @property
    def support(self) -> tuple[str, ...]:
        """Support files of the loop."""
        if self.contiguous:
            return (f"s8_{self.form}.h",)
        gathered = ("s8_gather.h", f"s8_{self.form}.h")
        return gathered if self.gathered else ("s8_words_window.h",)

    @property
    def arguments(self) -> str:
        """Last arguments of the functions that lift."""
        return ""

    def _declarations(self) -> Sequence[str]:
        lines = super()._declarations()
        if self.gathered:
            at = 8 * self.together * self.chunks + self.spare
            lines = (*lines, f"int8_t *const bytes = (int8_t *)scratch + {at};")
        return lines

    def _fill(self, source: str) -> Sequence[str]:
        lines, function = [], f"s8_{self.form}_{self.together}"
        for i in range(self.together):
            place, to = f"at + {i}", self._at(i)
            rest = f"{self.chunks}, {to}{self.arguments}"
            if self.contiguous:
                lines.append(f"{function}({source} + ({place}) * {self.length}, {rest});")
            elif self.gathered:
                lines.append(f"s8_gather(&window, {source}, {place}, bytes);")
                lines.append(f"{function}(bytes, {rest});")
            else:
                lines.append(f"s8_{self.form}_window(&window, {source}, {place}, {to});")
        return lines

    def _at(self, pixel: int) -> str:
        return f"x + {pixel * self.words}" if pixel else "x"


class S8Lifted:
    """conv2d and linear whose weights are dense, or whole channels of which are left out."""

    name = "s8-lifted"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Sums of more than 24 bits, roundings of their own, 4-bit weights."""
        reason = reject_scalar(graph, op, machine)
        if reason is not None:
            return reason
        quantisation = graph.tensors[op.inputs[1]].quantisation
        if quantisation is not None and quantisation.bits == 4:
            return "weights of 4 bits have their own loop"
        encoding = listed_encoding(graph, op)
        if isinstance(encoding, Encoding) and encoding.format != "kept":
            return f"{encoding.format} has a loop of its own"
        found = lifted_scale(graph, op)
        return found if isinstance(found, str) else None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Column by column for pairs of pixels."""
        scale = lifted_scale(graph, op)
        assert isinstance(scale, Scale)
        plain = columns_of(graph, op)
        w, tile = plain.window, 2 if plain.together == 2 else 4
        order = _computed(plain, scale.idle)
        spare = spare_bytes(graph, op, tile, order)
        columns = LiftedColumns(w, plain.offset, spare=spare)
        weight = weight_values(graph, op).transpose(0, 2, 3, 1).reshape(-1, columns.length).copy()
        weight[scale.idle] = 0
        wide = _fours(weight).astype(np.int64)
        sums = (wide[:, i::2].sum(axis=1) for i in range(2))
        start = lifted_start(graph, op, scale, *sums)
        weight = weight if order is None else weight[order]
        parts = weight.reshape(w.groups, -1, columns.length)
        packed = np.concatenate([pack_lifted(part, tile) for part in parts])
        declaration, constants = scaled_layers(
            graph, op, scale, packed, start, tile=tile, chunks=columns.chunks, groups=w.groups,
            order=order,
        )  # fmt: skip
        shares = columns.shares(graph, op, machine)
        call = "s8_lifted_1(layer, x, y);"
        if columns.together == 2:
            call = f"s8_lifted_2(layer, x, y, y + {w.outputs});"
        support = ("s8_lifted.h", *columns.support)
        variant = f"{tile} rows x {columns.together}"
        if order is not None:  # what is not computed is there first
            declaration = f"{declaration}\n{columns.idle(shares)}"
            constants = (*constants, constant("idle", idle_outputs(graph, op)))
            support = (*support, "s8_copy.h")
            variant = f"{variant}, {len(order)} of {w.outputs}"
        return KernelCode(
            declared(shares, f"{declaration}\n{columns.loop(call, shares)}"),
            constants,
            support,
            columns.scratch_bytes,
            variant=variant,
            shares=count_of(shares),
        )


def _computed(columns: Columns, idle: NDArray[np.bool_]) -> NDArray[np.uint16] | None:
    """Output channels to compute, None for all: the others hold the same value for all inputs.

    Choosing costs a copy of every pixel, and computed outputs are moved to their places: a few
    instructions each, against three for four products.
    """
    active = np.flatnonzero(~idle)
    saved = int(idle.sum()) * (3 * columns.length // 4 + 9)
    spent = 8 * len(active) + len(idle)
    if saved <= spent or columns.window.groups > 1 or not len(active):
        return None
    return active.astype(np.uint16)


def spare_bytes(graph: Graph, op: Op, tile: int, order: NDArray[np.uint16] | None) -> int:
    """Bytes behind the columns: a row of outputs per pixel where tiles cannot store theirs."""
    plain = columns_of(graph, op)
    rows = plain.window.outputs // plain.window.groups if order is None else len(order)
    if stored_plainly(graph, op, rows, tile, order is not None):
        return 0
    return -(-(-(-rows // tile) * tile * plain.together) // 4) * 4


def lifted_scale(graph: Graph, op: Op) -> Scale | str:
    """The epilogue of lifted sums, or why they do not fit."""
    if (weight_values(graph, op) == -128).any():
        return "a weight of -128 has no negative"
    return one_shift(graph, op, LIFT)


def lifted_start(
    graph: Graph, op: Op, scale: Scale, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int32]:
    """(K,) where lifted sums begin: bias, zero point and what lifting adds, modulo 2^32.

    Padding inside a column counts as the zero point, so all weights of a filter take part.

    Args:
        graph: an integer graph.
        op: a conv2d or linear op.
        scale: its epilogue.
        first: (K,) sums of those weights that come first in their pair.
        second: (K,) sums of the others.
    """
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None
    inner = bias.astype(np.int64) - affine(graph, op.inputs[0])[1] * (first + second)
    start = (inner << LIFT) - (129 * (1 << LIFT) * first - second)
    return np.where(scale.idle, scale.start, start.astype(np.uint32).view(np.int32))


def lifted(weight: Int8) -> Int8:
    """Weights (..., 2 n), pair by pair as the two bytes of w1 - 256 * w0."""
    first, second = weight[..., 0::2].astype(np.int16), weight[..., 1::2].astype(np.int16)
    halves = np.ascontiguousarray((second - 256 * first).astype("<i2"))
    return halves.view(np.int8)


def pack_lifted(weight: Int8, tile: int) -> Int8:
    """(K, n) in the order of `s8_lifted.h`; K rounded up to the tile times n rounded up to four."""
    filled = np.pad(_fours(weight), ((0, -len(weight) % tile), (0, 0)))
    words = lifted(filled).reshape(len(filled) // tile, tile, -1, 4)
    return words.transpose(0, 2, 1, 3).ravel()


def _fours(weight: Int8) -> Int8:
    return np.pad(weight, ((0, 0), (0, -weight.shape[1] % 4)))
