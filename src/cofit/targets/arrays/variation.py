"""What keeps resistive cells from being what was written: spread, leakage, faults, wires, noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cofit.core import ConfigError
from cofit.targets.arrays.schemes import Stored


@dataclass(frozen=True)
class Variation:
    """How far the cells of one chip are off, and how noisy a read is.

    Attributes:
        sigma: of the logarithm of a conductance, g -> g exp(sigma n), frozen per chip.
        on_off: ratio of largest to smallest conductance; a cell at level 0 still conducts, which a
            dummy column takes off again. None is no leakage.
        stuck_low: probability that a cell is at level 0 whatever is written.
        stuck_high: probability that it is at its largest level.
        wire: resistance of a wire segment over that of a cell; currents fall with the distance to
            driver and converter (to first order).
        read_sigma: standard deviation of every single sum, in units of it, drawn at each read.
    """

    sigma: float = 0.0
    on_off: float | None = None
    stuck_low: float = 0.0
    stuck_high: float = 0.0
    wire: float = 0.0
    read_sigma: float = 0.0

    def __post_init__(self) -> None:
        if min(self.sigma, self.wire, self.read_sigma, self.stuck_low, self.stuck_high) < 0:
            raise ConfigError(f"{self} has a negative value; give 0 or more")
        if self.stuck_low + self.stuck_high > 1:
            raise ConfigError(
                f"stuck_low {self.stuck_low:g} and stuck_high {self.stuck_high:g} are "
                "probabilities of one cell; together at most 1"
            )
        if self.on_off is not None and self.on_off <= 1:
            raise ConfigError(f"on_off is {self.on_off:g}; give a ratio over 1, or None")

    @property
    def frozen(self) -> bool:
        """Whether chips differ from what was written."""
        return bool(self.sigma or self.on_off or self.stuck_low or self.stuck_high or self.wire)

    def leakage(self, most: int) -> float:
        """Levels that a cell at level 0 shows, of `most`."""
        return 0.0 if self.on_off is None else most / (self.on_off - 1)


def levels_of_chip(
    stored: Stored, variation: Variation, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels that the cells of one chip show, and those of its dummy column.

    Returns:
        (L, N, K') and (N,), float64. The dummy column is all at level 0.
    """
    spec = stored.spec
    written = stored.cells.double()
    count, rows, columns = written.shape
    if variation.stuck_low or variation.stuck_high:
        drawn = torch.rand(written.shape, generator=generator, dtype=torch.float64)
        written = written.masked_fill(drawn < variation.stuck_low, 0.0)
        high = (drawn >= variation.stuck_low) & (drawn < variation.stuck_low + variation.stuck_high)
        written = written.masked_fill(high, float(spec.most))
    leakage = variation.leakage(spec.most)
    shown, dummy = written + leakage, torch.full((rows,), leakage, dtype=torch.float64)
    if variation.sigma:
        noise = torch.randn(written.shape, generator=generator, dtype=torch.float64)
        shown = shown * (variation.sigma * noise).exp()
        noise = torch.randn(rows, generator=generator, dtype=torch.float64)
        dummy = dummy * (variation.sigma * noise).exp()
    if variation.wire:
        row = torch.arange(rows) % spec.rows
        line = (torch.arange(columns) * count + torch.arange(count)[:, None]) % spec.columns
        distance = row[None, :, None] + line[:, None, :]
        shown = shown * (1 - variation.wire * distance).clamp(min=0)
    return shown, dummy
