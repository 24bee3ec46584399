"""Connectivity sparsity: whole kernels (PatDNN, ASPLOS 2020; PCONV, AAAI 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Violation
from cofit.structures.counting import keep_largest, kept_count, rate_text, require_rate
from cofit.structures.formats import Layout, fkw, four
from cofit.structures.support import UnitSupport


@dataclass(frozen=True)
class Connectivity(UnitSupport):
    """Whole (output, input channel) kernels of largest L2 norm stay. Stored as fkw, one full shape.

    Attributes:
        rate: kernels / kept kernels.
        balance: "layer" keeps ceil(K*C / rate) kernels wherever they are (PatDNN); "filter" keeps
            ceil(C / rate) in every output channel (PCONV), so that all run equally long.
    """

    rate: float
    balance: Literal["layer", "filter"] = "layer"
    _unit = "kernels"

    def __post_init__(self) -> None:
        require_rate("connectivity", self.rate)
        if self.balance not in ("layer", "filter"):
            raise StructureError(f"connectivity balance {self.balance!r}; use 'layer' or 'filter'")

    @property
    def text(self) -> str:
        """For example "connectivity@3.6" or "connectivity-filter@3.6"."""
        form = "connectivity" if self.balance == "layer" else "connectivity-filter"
        return f"{form}@{rate_text(self.rate)}"

    def kept(self, shape: tuple[int, ...]) -> int:
        """Kernels kept in a weight of this shape, exactly."""
        k, c, _, _ = four(shape)
        if self.balance == "layer":
            return kept_count(k * c, self.rate)
        return k * kept_count(c, self.rate)

    def select(self, energy: torch.Tensor) -> torch.Tensor:
        """Mark the kernels that stay, given the energy (K, C) of each."""
        if self.balance == "layer":
            return super().select(energy)
        return keep_largest(energy, kept_count(energy.shape[1], self.rate))

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of fkw with one pattern of all positions."""
        _, _, r, s = four(shape)
        return fkw.layout(shape, 1, r * s, 1, self.kept(shape))

    def encode_elements(self, weight: Array) -> Encoding:
        """Store as fkw with one pattern of all positions."""
        _, _, r, s = four(weight.shape)
        return fkw.encode(weight, [2 ** (r * s) - 1], 1)

    def _unsuited(self, shape: tuple[int, int, int, int]) -> str | None:
        if shape[1] == 1 and self.rate > 1:
            return "with one input channel per output, removing a kernel removes the output channel"
        return None

    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        used = self._used(nonzero)
        if self.balance == "layer":
            return self._excess(used, nonzero)
        allowed = kept_count(used.shape[1], self.rate)
        counts = used.sum(1)
        if bool((counts <= allowed).all()):
            return None
        k = int((counts > allowed).nonzero()[0])
        c = int(used[k].nonzero()[allowed])
        return Violation(
            (k, c), f"{int(counts[k])} kernels of the filter are not zero, {allowed} are allowed"
        )

    def _units(self, shape: tuple[int, int, int, int]) -> int:
        return shape[0] * shape[1]

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        return values.sum(dim=(2, 3))

    def _spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        return units[:, :, None, None].expand(shape)
