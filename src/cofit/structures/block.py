"""Blocks of output x input channels at one kernel position, and stripes of matrix rows.

Block-punched pruning of NPAS (CVPR 2021, arXiv 2012.00596) with the block shapes that vector units
run at dense speed: 16x1 and 32x1 in float32, x4 input channels in int8, pairs on Cortex-M.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding
from cofit.structures.counting import rate_text, require_rate
from cofit.structures.formats import Layout, ocb
from cofit.structures.support import UnitSupport


class _Blocks(UnitSupport):
    """Energy, mask and storage of out x in x one-position blocks."""

    _unit = "blocks"

    @property
    @abstractmethod
    def sides(self) -> tuple[int, int]:
        """Output and input channels of a block."""

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of ocb."""
        return ocb.layout(shape, *self.sides, self.kept(shape))

    def encode_elements(self, weight: Array) -> Encoding:
        """Store as ocb."""
        return ocb.encode(weight, *self.sides)

    def _unsuited(self, shape: tuple[int, int, int, int]) -> str | None:
        out, in_ = self.sides
        k, c, r, s = shape
        if in_ > c:
            return f"a block has {in_} input channels, the weight {c}"
        if out >= 2 * k:
            return f"a block has {out} output channels, the weight {k}; half the block covers them"
        if out > 1 and c == 1 and r * s > 1:
            return (
                "output channels of a block share an input channel, "
                "which a weight with one input channel per output (depthwise) does not offer"
            )
        return None

    def _grid(self, shape: tuple[int, int, int, int]) -> tuple[int, int, int]:
        """Output groups, input groups, kernel positions."""
        out, in_ = self.sides
        return math.ceil(shape[0] / out), math.ceil(shape[1] / in_), shape[2] * shape[3]

    def _units(self, shape: tuple[int, int, int, int]) -> int:
        return math.prod(self._grid(shape))

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        out, in_ = self.sides
        k, c, r, s = values.shape
        groups, slabs, positions = self._grid((k, c, r, s))
        values = values.reshape(k, c, positions)
        values = pad(values, (0, 0, 0, slabs * in_ - c, 0, groups * out - k))
        return values.reshape(groups, out, slabs, in_, positions).sum(dim=(1, 3))

    def _spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        out, in_ = self.sides
        groups, slabs, positions = units.shape
        marks = units[:, None, :, None].expand(groups, out, slabs, in_, positions)
        marks = marks.reshape(groups * out, slabs * in_, positions)
        return marks[: shape[0], : shape[1]].reshape(shape)


@dataclass(frozen=True)
class Block(_Blocks):
    """ceil(blocks / rate) blocks of `out` x `in_` channels x one kernel position stay."""

    out: int
    in_: int
    rate: float

    def __post_init__(self) -> None:
        if self.out < 1 or self.in_ < 1:
            raise StructureError(f"block {self.out}x{self.in_}: both sides are at least 1")
        require_rate(f"block{self.out}x{self.in_}", self.rate)

    @property
    def text(self) -> str:
        """For example "block16x1@8"."""
        return f"block{self.out}x{self.in_}@{rate_text(self.rate)}"

    @property
    def sides(self) -> tuple[int, int]:
        """Output and input channels of a block."""
        return self.out, self.in_


@dataclass(frozen=True)
class Stripe(_Blocks):
    """Columns of `rows` matrix rows, for matrix-vector products; ceil(stripes / rate) stay.

    The same set and storage as Block(rows, 1), on linear and 1x1 weights only.
    """

    rows: int
    rate: float
    _unit = "stripes"

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise StructureError(f"stripe of {self.rows} rows: at least 1")
        require_rate(f"stripe{self.rows}", self.rate)

    @property
    def text(self) -> str:
        """For example "stripe16@8"."""
        return f"stripe{self.rows}@{rate_text(self.rate)}"

    @property
    def sides(self) -> tuple[int, int]:
        """Output and input channels of a stripe."""
        return self.rows, 1

    def _unsuited(self, shape: tuple[int, int, int, int]) -> str | None:
        if shape[2] * shape[3] > 1:
            return f"stripes are for matrices; use block{self.rows}x1 on a convolution"
        return super()._unsuited(shape)
