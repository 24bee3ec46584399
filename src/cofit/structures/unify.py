"""Blocks of weights that share one magnitude: the sign of each weight and one value per block.

Micro-structured weight unification and pruning (Lin, Jiang, Wang, Xu, Wang, Liu, Li,
arXiv 2106.08301, 2021): in a unified block w_i = s_i v with v >= 0; v = 0 is pruning. The nearest
such block has the signs of w and v = mean |w_i|, at a squared distance of ||w||^2 - n v^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

from cofit.core import StructureError
from cofit.structures import assignment
from cofit.structures.contract import Array, Encoding, Violation
from cofit.structures.counting import exact, rate_text, require_rate
from cofit.structures.formats import four, unify
from cofit.structures.support import member_elements, require, require_finite, unsuited_rank
from cofit.structures.tiles import Tiles

_LARGEST = torch.finfo(torch.bfloat16).max


@dataclass(frozen=True)
class Losses:
    """What blocks (B,) lose, squared; float64.

    Attributes:
        prune: if their weights become zero.
        unify: if all take their mean magnitude.
        magnitude: that mean.
    """

    prune: torch.Tensor
    unify: torch.Tensor
    magnitude: torch.Tensor


@dataclass(frozen=True)
class Counts:
    """Blocks of a weight by class: pruned, unified, and free ones."""

    pruned: int
    unified: int
    free: int


@dataclass(frozen=True)
class Unify:
    """Blocks of `out` x `in_` channels at one kernel position: pruned, unified, or free.

    Of B blocks, round(B (1 - 1/rate)) are zero (one at least is not) and round(B share / rate) have
    one magnitude, of 16 bits: the upper half of a float32, so that a value is stored in two bytes.
    Projection is exact: which blocks are which is the assignment of least total distance.

    Attributes:
        out: output channels of a block.
        in_: input channels of a block.
        rate: pruning rate.
        share: of the blocks that are not pruned, the part to unify.
    """

    out: int
    in_: int
    rate: float
    share: float = 1.0

    approximation = None
    by_zeros = False

    def __post_init__(self) -> None:
        if self.out < 1 or self.in_ < 1:
            raise StructureError(f"unify {self.out}x{self.in_}: both sides are at least 1")
        if not 0 <= self.share <= 1:
            raise StructureError(
                f"{self._form}: share {self.share} is not possible; it is from 0 to 1"
            )
        require_rate(self._form, self.rate)

    @classmethod
    def of(cls, out: int, in_: int, unify: float, prune: float) -> Unify:
        """From shares of all blocks, as published: q_u of them unified, q_p pruned.

        Raises:
            StructureError: a share below 0, or together above 1, or nothing is kept.
        """
        if min(unify, prune) < 0 or unify + prune > 1 + 1e-12 or prune >= 1:
            raise StructureError(
                f"unify {out}x{in_}: shares {unify} unified and {prune} pruned; "
                "give shares from 0 that add up to at most 1, with less than 1 pruned"
            )
        return cls(out, in_, 1 / (1 - prune), min(unify / (1 - prune), 1.0))

    @property
    def _form(self) -> str:
        part = "" if self.share == 1 else f"u{rate_text(self.share)}"
        return f"unify{self.out}x{self.in_}{part}"

    @property
    def text(self) -> str:
        """For example "unify1x8@1.25", or "unify1x8u0.75@1.25" with a share of free blocks."""
        return f"{self._form}@{rate_text(self.rate)}"

    def applies(self, shape: tuple[int, ...]) -> str | None:
        """None if a weight of this shape can carry the structure, else the reason it cannot."""
        reason = unsuited_rank(shape)
        if reason is not None:
            return reason
        k, c, r, s = four(shape)
        if self.in_ > c:
            return f"a block has {self.in_} input channels, the weight {c}"
        if self.out > k:
            return f"a block has {self.out} output channels, the weight {k}"
        if self.out > 1 and c == 1 and r * s > 1:
            return (
                "output channels of a block share an input channel, "
                "which a weight with one input channel per output (depthwise) does not offer"
            )
        return None

    def tiles(self, shape: tuple[int, ...]) -> Tiles:
        """The blocks of a weight."""
        return Tiles(tuple(shape), self.out, self.in_)

    def counts(self, shape: tuple[int, ...]) -> Counts:
        """Blocks by class in a weight of this shape."""
        blocks = self.tiles(shape).blocks
        kept = Fraction(blocks) / exact(self.rate)
        pruned = min(_rounded(blocks - kept), blocks - 1)
        unified = min(_rounded(kept * exact(self.share)), blocks - pruned)
        return Counts(pruned, unified, blocks - pruned - unified)

    def losses(self, weight: torch.Tensor) -> Losses:
        """What each block loses if pruned, and if unified."""
        tiles = self.tiles(tuple(weight.shape))
        real = tiles.real()
        values = tiles.split(weight.detach().double()).abs()
        magnitude = values.sum(1) / real.sum(1)
        spread = torch.where(real, values - magnitude[:, None], 0.0).square().sum(1)
        return Losses(values.square().sum(1), spread, magnitude)

    def classes(self, weight: torch.Tensor) -> torch.Tensor:
        """Class (B,) of each block of the nearest member: `assignment.FREE`, UNIFIED, PRUNED.

        Raises:
            StructureError: the shape is unsuited, or values are not finite.
        """
        return self._nearest(weight)[0]

    def mask(self, weight: torch.Tensor) -> torch.Tensor:
        """Where the nearest member may be non-zero: bool, shape of `weight`."""
        tiles = self.tiles(tuple(weight.shape))
        kept = self.classes(weight) != assignment.PRUNED
        return tiles.join(kept[:, None].expand(-1, tiles.size))

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest member; removed weights are +0.

        Raises:
            StructureError: the shape is unsuited, or values are not finite.
        """
        classes, magnitude = self._nearest(weight)
        tiles = self.tiles(tuple(weight.shape))
        blocks = tiles.split(weight)
        uniform = torch.where(blocks < 0, -magnitude[:, None], magnitude[:, None]) + 0.0
        unified = (classes == assignment.UNIFIED)[:, None]
        moved = torch.where(unified, uniform.to(weight.dtype), blocks)
        return tiles.join(torch.where((classes == assignment.PRUNED)[:, None], 0.0, moved))

    def within(self, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The nearest weight with the blocks and signs of `member`."""
        tiles = self.tiles(tuple(weight.shape))
        pruned, unified = self.members(member)
        signs = torch.where(tiles.split(member) < 0, -1.0, 1.0).double()
        blocks, real = tiles.split(weight), tiles.real()
        total = torch.where(real, signs * blocks.double(), 0.0).sum(1)
        uniform = half((total / real.sum(1)).clamp(min=0.0))[:, None] * signs + 0.0
        moved = torch.where(unified[:, None], uniform.to(weight.dtype), blocks)
        return tiles.join(torch.where(pruned[:, None], torch.zeros_like(moved), moved))

    def check(self, weight: torch.Tensor) -> Violation | None:
        """None if enough blocks are zero, and enough of the others have one magnitude."""
        require(self, tuple(weight.shape))
        tiles, counts = self.tiles(tuple(weight.shape)), self.counts(tuple(weight.shape))
        zero, uniform = self._found(weight)
        if int(zero.sum()) < counts.pruned:
            reason = f"{int(zero.sum())} blocks are zero, {counts.pruned} must be"
            wrong = ~zero
        elif int(uniform.sum()) < counts.pruned + counts.unified:
            fewest = counts.pruned + counts.unified
            reason = f"{int(uniform.sum())} blocks have one magnitude of 16 bits, {fewest} must"
            wrong = ~uniform
        else:
            return None
        nonzero = tiles.join(wrong[:, None] & (tiles.split(weight) != 0)).nonzero()
        return Violation(tuple(nonzero[0].tolist()), reason)

    def encode(self, weight: Array) -> Encoding:
        """The stored form: signs, values, and a map of blocks where they differ in class.

        Raises:
            StructureError: the weight is not a member, or of another element type.
        """
        elements = member_elements(self, weight)
        pruned, unified = (c.numpy() for c in self.members(torch.from_numpy(elements)))
        absent = pruned if self.counts(elements.shape).pruned else None
        return unify.encode(elements, self.tiles(elements.shape), absent, unified)

    def members(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which blocks (B,) of a member are pruned, and which unified; the others are free.

        Zero blocks are pruned if any must be; of the rest the first that have one magnitude are
        unified.
        """
        counts = self.counts(tuple(weight.shape))
        zero, uniform = self._found(weight)
        pruned = zero & (counts.pruned > 0)
        unified = uniform & ~pruned
        return pruned, unified & (unified.cumsum(0) <= counts.unified)

    def nbytes(self, shape: tuple[int, ...], element_bytes: int) -> int:
        """Bytes of the stored form of a projected weight without accidental zeros."""
        require(self, shape)
        counts = self.counts(shape)
        return unify.nbytes(self.tiles(shape), counts.pruned, counts.unified, element_bytes)

    def _nearest(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class and 16-bit magnitude (B,) of each block of the nearest member."""
        require(self, tuple(weight.shape))
        require_finite(weight)
        losses, counts = self.losses(weight), self.counts(tuple(weight.shape))
        magnitude = half(losses.magnitude)
        sizes = self.tiles(tuple(weight.shape)).real().sum(1)
        rounding = sizes * (magnitude - losses.magnitude).square()
        classes = assignment.exact(
            losses.prune, losses.unify + rounding, counts.pruned, counts.unified
        )
        return classes, magnitude

    def _found(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Blocks (B,) that are zero, and those of one magnitude of 16 bits, zero included."""
        tiles = self.tiles(tuple(weight.shape))
        values = tiles.split(weight.detach().double()).abs()
        top = values.amax(1)
        alike = (values == top[:, None]) | ~tiles.real()
        return top == 0, alike.all(1) & (half(top) == top)


def half(values: torch.Tensor) -> torch.Tensor:
    """The nearest numbers whose float32 form ends in 16 zero bits, float64."""
    return values.float().clamp(-_LARGEST, _LARGEST).bfloat16().double()


def _rounded(count: Fraction) -> int:
    """Nearest integer, halves to even; rates such as 1 / 0.7 are not exact decimals."""
    return round(round(float(count), 6))
