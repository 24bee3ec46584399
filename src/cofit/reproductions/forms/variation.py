"""Device variation: every cell's conductance multiplied by a log-normal factor."""

from __future__ import annotations

import torch

from cofit.structures import FixedPoint

CELL_BITS = 2
CELLS = 4
"""Cells of a 7-bit magnitude, least significant first."""


def varied(weight: torch.Tensor, sigma: float, generator: torch.Generator) -> torch.Tensor:
    """A weight as cells of one chip hold it: conductance g becomes g exp(sigma n).

    Magnitudes lie in `CELLS` cells of `CELL_BITS` bits, the sign outside of them.

    Args:
        weight: (K, ...) on the int8 grid of `FixedPoint`.
        sigma: of the logarithm; 0 gives the weight back to the bit.
        generator: of the draw.
    """
    grid = FixedPoint(8)
    levels = grid.levels(weight)
    magnitude = levels.abs().long()
    read = torch.zeros_like(levels)
    for cell in range(CELLS):
        plane = (magnitude >> CELL_BITS * cell) % (1 << CELL_BITS)
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        read += plane * (sigma * noise).exp() * float(1 << CELL_BITS * cell)
    scale = grid.scale(weight).reshape(-1, *[1] * (weight.ndim - 1))
    return (read * levels.sign() * scale).to(weight.dtype)
