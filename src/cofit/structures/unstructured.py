"""Single weights by magnitude."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from cofit.structures.contract import Array, Encoding
from cofit.structures.counting import rate_text, require_rate
from cofit.structures.formats import Layout, csr
from cofit.structures.support import UnitSupport


@dataclass(frozen=True)
class Unstructured(UnitSupport):
    """ceil(weights / rate) weights of a layer stay. Stored as csr.

    The most accurate form at a given rate and the slowest on every target here.
    """

    rate: float
    _unit = "weights"

    def __post_init__(self) -> None:
        require_rate("unstructured", self.rate)

    @property
    def text(self) -> str:
        """For example "unstructured@8"."""
        return f"unstructured@{rate_text(self.rate)}"

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of csr."""
        return csr.layout(shape, self.kept(shape))

    def encode_elements(self, weight: Array) -> Encoding:
        """Store as csr."""
        return csr.encode(weight)

    def _units(self, shape: tuple[int, int, int, int]) -> int:
        return math.prod(shape)

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def _spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        return units
