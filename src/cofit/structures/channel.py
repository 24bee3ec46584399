"""Whole output channels by L2 norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cofit.structures.contract import Array, Encoding
from cofit.structures.counting import rate_text, require_rate
from cofit.structures.formats import Layout, kept
from cofit.structures.support import UnitSupport


@dataclass(frozen=True)
class Channel(UnitSupport):
    """ceil(K / rate) output channels stay. Stored as the list of kept channels."""

    rate: float
    _unit = "output channels"

    def __post_init__(self) -> None:
        require_rate("channel", self.rate)

    @property
    def text(self) -> str:
        """For example "channel@2"."""
        return f"channel@{rate_text(self.rate)}"

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of the kept channels."""
        return kept.layout(shape, self.kept(shape))

    def encode_elements(self, weight: Array) -> Encoding:
        """Store the kept channels."""
        return kept.encode(weight)

    def _units(self, shape: tuple[int, int, int, int]) -> int:
        return shape[0]

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        return values.sum(dim=(1, 2, 3))

    def _spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        return units[:, None, None, None].expand(shape)
