"""Converters at the ends of the bit lines; None in place of one means an ideal one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from cofit.core import ConfigError


class Adc(Protocol):
    """Turns analog sums into numbers, every (plane, slice, group) by itself."""

    @property
    def whole(self) -> bool:
        """Whether its results are whole numbers."""
        ...

    def exact(self, low: int, high: int) -> bool:
        """Whether it gives every whole sum from `low` to `high` back as it is."""
        ...

    def convert(self, sums: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Converted sums (..., C), perhaps in place; C are the columns of the array."""
        ...


@dataclass(frozen=True)
class Clip:
    """One level per unit of the sum, 2^bits of them from `low`; what lies beyond saturates.

    Attributes:
        bits: of a code.
        low: sum at code 0; negative for signed sums.
    """

    bits: int
    low: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise ConfigError(
                f"a converter of {self.bits} bits; give 1 to 16, None for an ideal one"
            )

    @property
    def whole(self) -> bool:
        """True."""
        return True

    def exact(self, low: int, high: int) -> bool:
        """Whether the codes reach from `low` to `high`."""
        return self.low <= low and high < self.low + (1 << self.bits)

    def convert(self, sums: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """See `Adc`."""
        return sums.round_().clamp_(self.low, self.low + (1 << self.bits) - 1)


@dataclass(frozen=True)
class Uniform:
    """2^bits levels spread over a range; a code stands for the middle of its step.

    Attributes:
        bits: of a code.
        low: sum at the first level.
        high: sum at the last level.
    """

    bits: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16 or not self.low < self.high:
            raise ConfigError(
                f"a converter of {self.bits} bits from {self.low:g} to {self.high:g}; give 1 to 16 "
                "bits and a range"
            )

    @property
    def step(self) -> float:
        """Of one code, in units of the sum."""
        return (self.high - self.low) / ((1 << self.bits) - 1)

    @property
    def whole(self) -> bool:
        """Whether its levels are the whole numbers."""
        return self.step == 1 and self.low == int(self.low)

    def exact(self, low: int, high: int) -> bool:
        """Whether its levels are the whole numbers and reach far enough."""
        return self.whole and self.low <= low and high <= self.high

    def convert(self, sums: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """See `Adc`."""
        codes = sums.sub_(self.low).div_(self.step).round_().clamp_(0, (1 << self.bits) - 1)
        return codes.mul_(self.step).add_(self.low)


@dataclass(frozen=True)
class Table:
    """Levels that are not evenly spaced: a sum becomes the level between whose thresholds it lies.

    Attributes:
        thresholds: rising, one fewer than levels; a sum on one belongs to the lower level.
        levels: one per code.
    """

    thresholds: tuple[float, ...]
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.thresholds, self.thresholds[1:], strict=False))
        if len(self.levels) != len(self.thresholds) + 1 or not rising:
            raise ConfigError(
                f"{len(self.levels)} levels and {len(self.thresholds)} thresholds; give rising "
                "thresholds, one fewer than levels"
            )

    @property
    def whole(self) -> bool:
        """Whether all levels are whole numbers."""
        return all(level == int(level) for level in self.levels)

    def exact(self, low: int, high: int) -> bool:
        """Whether every whole number is its own level."""
        sums = torch.arange(low, high + 1, dtype=torch.float32)
        return torch.equal(self.convert(sums, None), sums)

    def convert(self, sums: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """See `Adc`."""
        codes = torch.bucketize(sums, torch.tensor(self.thresholds))
        return torch.tensor(self.levels)[codes]


def fitted_table(sums: torch.Tensor, bits: int, rounds: int = 100) -> Table:
    """Levels of least squared error on the sums of calibration inputs (Lloyd's iteration).

    Args:
        sums: any shape.
        bits: of a code; fewer levels are made where fewer values occur.
        rounds: of the iteration.
    """
    values, counts = sums.flatten().double().unique(return_counts=True)
    zero = torch.zeros(1, dtype=torch.float64)
    mass = torch.cat([zero, counts.double().cumsum(0)])
    weighted = torch.cat([zero, (values * counts).cumsum(0)])
    # cuts by the cube root of the density, which is where many fine levels would lie
    share = (counts.double() ** (1 / 3)).cumsum(0)
    cuts = torch.linspace(0, float(share[-1]), (1 << bits) + 1, dtype=torch.float64)[1:-1]
    thresholds = values[torch.bucketize(cuts, share)].unique()
    levels = values
    for _ in range(rounds):
        edges = torch.bucketize(thresholds, values, right=True)
        edges = torch.cat([edges.new_zeros(1), edges.unique(), edges.new_tensor([len(values)])])
        edges = edges.unique()
        levels = (weighted[edges[1:]] - weighted[edges[:-1]]) / (mass[edges[1:]] - mass[edges[:-1]])
        thresholds = (levels[1:] + levels[:-1]) / 2
    return Table(tuple(thresholds.tolist()), tuple(levels.tolist()))
