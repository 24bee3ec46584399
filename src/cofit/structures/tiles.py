"""A weight as rows of blocks: `out` x `in_` channels at one kernel position, edges padded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cofit.structures.formats.layout import four


@dataclass(frozen=True)
class Tiles:
    """The blocks of one weight shape.

    Blocks are numbered by group of output channels, then by `(c // in_)*R*S + r*S + s`, as in ocb;
    the elements of a block by output, then input channel.

    Attributes:
        shape: of the weight, (K, C, R, S) or (K, C).
        out: output channels of a block.
        in_: input channels of a block.
    """

    shape: tuple[int, ...]
    out: int
    in_: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Groups of output channels, slabs of input channels, kernel positions."""
        k, c, r, s = four(self.shape)
        return math.ceil(k / self.out), math.ceil(c / self.in_), r * s

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return math.prod(self.grid)

    @property
    def size(self) -> int:
        """Elements of a block, padding included."""
        return self.out * self.in_

    def split(self, weight: torch.Tensor) -> torch.Tensor:
        """Blocks (B, out * in_) of a weight, zero beyond ragged edges."""
        groups, slabs, positions = self.grid
        k, c, _, _ = four(self.shape)
        values = weight.reshape(k, c, positions)
        values = pad(values, (0, 0, 0, slabs * self.in_ - c, 0, groups * self.out - k))
        values = values.reshape(groups, self.out, slabs, self.in_, positions)
        return values.permute(0, 2, 4, 1, 3).reshape(self.blocks, self.size)

    def join(self, blocks: torch.Tensor) -> torch.Tensor:
        """The weight of blocks (B, out * in_); inverse of `split`."""
        groups, slabs, positions = self.grid
        k, c, _, _ = four(self.shape)
        values = blocks.reshape(groups, slabs, positions, self.out, self.in_)
        values = values.permute(0, 3, 1, 4, 2).reshape(groups * self.out, slabs * self.in_, -1)
        return values[:k, :c].reshape(self.shape)

    def real(self) -> torch.Tensor:
        """Which elements (B, out * in_) are weights, not padding."""
        return self.split(torch.ones(self.shape, dtype=torch.uint8)).bool()
