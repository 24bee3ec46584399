"""Pattern-based sparsity: 3x3 kernels of few shapes, and fewer kernels.

Sources: PCONV (arXiv 1909.05073), PatDNN (arXiv 2001.00138), Ma et al. (arXiv 2001.07710).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import torch
from torch.nn.functional import pad

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Violation
from cofit.structures.counting import (
    first_largest,
    keep_largest,
    kept_count,
    observed_rate,
    rate_text,
    require_rate,
)
from cofit.structures.formats import Layout, fkw, four
from cofit.structures.library import POSITIONS, PatternLibrary
from cofit.structures.support import Support


@dataclass(frozen=True)
class Pattern(Support):
    """Every kernel of a 3x3 weight is zero or has one shape of a library. Stored as fkw.

    Projection is joint and exact: each kernel (of each group of filters) takes the pattern that
    keeps most of its energy, then the kernels whose kept energy is largest stay.

    Attributes:
        library: allowed shapes.
        group: consecutive output channels that share input channel and pattern; 1, 4 or 8.
        rate: rate of the whole. ceil(kernels * (9/entries) / rate) kernels stay, so 9/entries
            (2.25 for four entries) keeps all of them and 8.1 one kernel in 3.6.
    """

    library: PatternLibrary
    group: int
    rate: float

    def __post_init__(self) -> None:
        if self.group not in (1, 4, 8):
            raise StructureError(f"pattern group {self.group}; filters share in groups of 1, 4, 8")
        require_rate(self._form, self.rate, self.least_rate)

    @property
    def _form(self) -> str:
        return f"{self.library.name}g{self.group}"

    @property
    def least_rate(self) -> Fraction:
        """Rate with all kernels kept."""
        return Fraction(POSITIONS, self.library.entries)

    @property
    def keeps_all(self) -> bool:
        """Whether no kernel is removed."""
        return self.rate == float(self.least_rate)

    @property
    def text(self) -> str:
        """For example "pattern8g4@8.1"."""
        return f"{self._form}@{rate_text(self.rate)}"

    def kept(self, shape: tuple[int, ...]) -> int:
        """Kernels (of whole groups of filters) kept in a weight of this shape, exactly."""
        groups = math.ceil(shape[0] / self.group)
        return kept_count(groups * shape[1], self.rate, self.least_rate)

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of fkw."""
        return self.layout_of(shape, self.kept(shape))

    def layout_of(self, shape: tuple[int, ...], kept: int) -> Layout:
        """Bytes of fkw with `kept` kernels."""
        library = self.library
        return fkw.layout(shape, len(library.masks), library.entries, self.group, kept)

    def encode_elements(self, weight: Array) -> Encoding:
        """Store as fkw."""
        return fkw.encode(weight, self.library.masks, self.group)

    def fitted(self, weight: torch.Tensor) -> tuple[Self, int] | None:
        """The same library and group at the rate the kernels show, and the elements it keeps."""
        nonzero = weight.reshape(four(tuple(weight.shape))) != 0
        if self.misfit(nonzero) is not None:
            return None
        used = self.used(nonzero)
        rate = observed_rate(used.numel(), int(used.sum()), self.least_rate)
        kernels = int(used.repeat_interleave(self.group, dim=0)[: len(weight)].sum())
        return replace(self, rate=rate), kernels * self.library.entries

    def best(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Energy (G, C) that the best pattern of each kernel keeps, and its bits (G, C, 9)."""
        energy = self._grouped(weight.double().square()).sum(1)
        bits = self.library.bits().to(weight.device)
        kept_energy, index = first_largest(energy @ bits.double().T)
        return kept_energy, bits[index]

    def mask_of(self, keep: torch.Tensor, bits: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Mask (K, C, 3, 3) that keeps `bits` in the kernels (G, C) marked by `keep`."""
        marks = (bits & keep[..., None]).repeat_interleave(self.group, dim=0)
        return marks[: shape[0]].reshape(shape)

    def used(self, nonzero: torch.Tensor) -> torch.Tensor:
        """Which kernels (G, C) hold a non-zero."""
        return self._grouped(nonzero).any(1).any(-1)

    def misfit(self, nonzero: torch.Tensor) -> Violation | None:
        """The first kernel whose shape is in no pattern."""
        shape = self._grouped(nonzero).any(1).float()
        outside = shape @ (~self.library.bits().to(shape.device)).float().T
        misfits = (outside > 0).all(-1).nonzero()
        if len(misfits) == 0:
            return None
        group, channel = misfits[0].tolist()
        seen = tuple(shape[group, channel].nonzero().flatten().tolist())
        return Violation(
            (group * self.group, channel),
            f"kernel positions {seen} are in no pattern of {self.library.name}",
        )

    def _grouped(self, values: torch.Tensor) -> torch.Tensor:
        """(K, C, 3, 3) -> (G, group, C, 9), padded virtually."""
        k, c = values.shape[:2]
        groups = math.ceil(k / self.group)
        rows = pad(values.reshape(k, c, POSITIONS), (0, 0, 0, 0, 0, groups * self.group - k))
        return rows.reshape(groups, self.group, c, POSITIONS)

    def _unsuited(self, shape: tuple[int, int, int, int]) -> str | None:
        k, c, r, s = shape
        if (r, s) != (3, 3):
            return f"the library holds 3x3 patterns, the kernels are {r}x{s}"
        if self.group > k:
            return f"{self.group} filters share a pattern, the weight has {k}"
        if c == 1 and self.kept(shape) < math.ceil(k / self.group):
            all_kept = rate_text(float(self.least_rate))
            return (
                "with one input channel per output, removing a kernel removes the output channel; "
                f"use {self._form}@{all_kept}"
            )
        return None

    def _mask(self, weight: torch.Tensor) -> torch.Tensor:
        energy, bits = self.best(weight)
        keep = keep_largest(energy.reshape(-1), self.kept(tuple(weight.shape)))
        return self.mask_of(keep.reshape(energy.shape), bits, weight.shape)

    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        misfit = self.misfit(nonzero)
        if misfit is not None:
            return misfit
        used, allowed = self.used(nonzero), self.kept(tuple(nonzero.shape))
        count = int(used.sum())
        if count <= allowed:
            return None
        group, channel = used.nonzero()[allowed].tolist()
        return Violation(
            (group * self.group, channel), f"{count} kernels are not zero, {allowed} are allowed"
        )
