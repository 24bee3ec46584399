"""Products as an array computes them: plane by plane, slice by slice, group by group.

    sums[t, g, s] = planes[t, :, g] @ read[s, g];  y = sum over t, s, g of factor * convert(sums)

Where every converter gives all possible sums back and no cell is off, that is the integer product,
and computed as such; `fast=False` goes the long way all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cofit.core import ConfigError
from cofit.targets.arrays.activity import group_bits
from cofit.targets.arrays.adc import Adc
from cofit.targets.arrays.planes import driven, plane_factors, planes_of
from cofit.targets.arrays.schemes import Stored, store
from cofit.targets.arrays.spec import ArraySpec
from cofit.targets.arrays.variation import Variation, levels_of_chip

CHUNK = 1 << 19
"""Sums that are held at once (float32), so that they stay in the cache between two passes."""


@dataclass(frozen=True, eq=False)
class Programmed:
    """A matrix written into the arrays of one chip.

    Attributes:
        matrix: (N, K) int64, as it was given.
        stored: as cells.
        reads: (G, m, J * K) float32, what the columns of a group multiply with.
        dummy: (G, m) float32, taken off every sum; None without leakage.
        adc: None for an ideal one.
        read_sigma: noise of every sum.
        saturation: sum at which a discharging bit line is empty; None for linear lines.
        ideal: whether all of it is as it was written.
    """

    matrix: torch.Tensor
    stored: Stored
    reads: torch.Tensor
    dummy: torch.Tensor | None
    adc: Adc | None
    read_sigma: float
    ideal: bool
    saturation: float | None = None

    @property
    def spec(self) -> ArraySpec:
        """Of the array."""
        return self.stored.spec

    @property
    def exact(self) -> bool:
        """Whether products equal those of integers."""
        converted = self.adc is None or self.adc.exact(*self.spec.bounds())
        return self.ideal and self.read_sigma == 0 and converted

    def multiply(
        self, inputs: torch.Tensor, generator: torch.Generator | None = None, fast: bool = True
    ) -> torch.Tensor:
        """Products of inputs (P, N) with the matrix.

        Args:
            inputs: integers in the range of the spec.
            generator: of what is drawn at each read.
            fast: take the integer product where it is the same.

        Returns:
            (P, K): int64 where converters give whole numbers (an ideal one does if cells are as
            written), else float64.

        Raises:
            ConfigError: inputs do not fit; reads are noisy and there is no generator.
        """
        rows = self.matrix.shape[0]
        if inputs.ndim != 2 or inputs.shape[1] != rows:
            raise ConfigError(
                f"inputs have shape {tuple(inputs.shape)}; the matrix takes (P, {rows})"
            )
        words = driven(inputs, self.spec)
        if fast and self.exact:
            return (inputs.double() @ self.matrix.double()).long()
        total = self._converted(words, generator)
        summed = inputs.sum(1) if self.spec.inputs == "twos_complement" else words.sum(1)
        total += (summed[:, None] * self.stored.per_input).double()
        if self.spec.inputs == "offset":
            total -= (1 << (self.spec.input_bits - 1)) * self.matrix.sum(0).double()
        whole = self.ideal and self.read_sigma == 0 if self.adc is None else self.adc.whole
        return total.round().long() if whole else total

    def line_sums(self, inputs: torch.Tensor) -> torch.Tensor:
        """What every conversion of inputs (P, N) would see, (G, T * P, J * K)."""
        spec, (groups, size, _) = self.spec, self.reads.shape
        words = pad(driven(inputs, spec), (0, groups * size - inputs.shape[1]))
        planes = planes_of(words, spec).reshape(-1, groups, size).transpose(0, 1)
        return self._analog(planes.contiguous())

    def _converted(self, words: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Weighted sums of conversions (P, K), float64."""
        spec, (groups, size, columns) = self.spec, self.reads.shape
        slices, filters = len(self.stored.gains), self.stored.filters
        padded = pad(words, (0, groups * size - words.shape[1]))
        factors = plane_factors(spec)
        step = max(1, CHUNK // (groups * columns * len(factors)))
        found = []
        for part in padded.split(step):
            planes = planes_of(part, spec).reshape(-1, len(part), groups, size)
            sums = self._sums(planes.flatten(0, 1).transpose(0, 1).contiguous(), generator)
            sums = sums.reshape(groups, len(factors), len(part), columns)
            if spec.skipping:
                driven_planes = -(-group_bits(part, size) // spec.dac_bits)
                on = torch.arange(len(factors))[:, None, None] < driven_planes
                sums *= on.permute(2, 0, 1)[..., None]
            if self.stored.signs is not None:
                sums.view(*sums.shape[:3], slices, filters).mul_(
                    self.stored.signs[:, None, None, None].float()
                )
            counted = torch.zeros(len(part), columns, dtype=torch.float64)
            for plane, factor in enumerate(factors):
                counted.add_(sums[:, plane].sum(0), alpha=factor)
            gains = self.stored.gains.double()
            found.append((counted.reshape(len(part), slices, filters) * gains[:, None]).sum(1))
        return torch.cat(found) if found else torch.zeros(0, filters, dtype=torch.float64)

    def _sums(self, planes: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Conversions (G, B, J * K) of planes (G, B, m), flipped columns turned back."""
        sums = self._analog(planes)
        if self.dummy is not None:
            sums -= planes @ self.dummy[..., None]
        if self.read_sigma:
            if generator is None:
                raise ConfigError("reads are noisy; pass the generator of their noise")
            sums += self.read_sigma * torch.randn(sums.shape, generator=generator)
        if self.adc is not None:
            sums = self.adc.convert(sums, generator)
        flipped = self.stored.flipped
        if flipped is not None:  # sum of x * (most - v) -> sum of x * v
            turned = flipped.permute(1, 0, 2).flatten(1).float()[:, None]
            driven_sum = planes.sum(2, keepdim=True) * self.spec.most
            sums = sums.mul_(1 - 2 * turned).addcmul_(driven_sum, turned)
        return sums

    def _analog(self, planes: torch.Tensor) -> torch.Tensor:
        if self.saturation is None:
            return torch.bmm(planes, self.reads)
        falls = (torch.bmm(planes, part.clamp(min=0)) for part in (self.reads, -self.reads))
        up, down = (self.saturation * -torch.expm1(-fall / self.saturation) for fall in falls)
        return up - down


def program(
    matrix: torch.Tensor,
    spec: ArraySpec,
    adc: Adc | None = None,
    variation: Variation | None = None,
    generator: torch.Generator | None = None,
) -> Programmed:
    """Write a matrix into arrays.

    Args:
        matrix: (N, K) integers.
        spec: of the arrays.
        adc: of their columns, None for an ideal one.
        variation: of the chip; None for cells as they were written.
        generator: of the chip.

    Raises:
        StructureError: the matrix does not fit the scheme.
        ConfigError: there is a variation and no generator.
    """
    stored = store(matrix, spec)
    size = spec.group
    dummy = None
    if variation is None or not variation.frozen:
        levels = stored.cells.double()
    elif generator is None:
        raise ConfigError("cells vary; pass the generator of the chip")
    else:
        levels, each = levels_of_chip(stored, variation, generator)
        dummy = pad(each, (0, -len(each) % size)).reshape(-1, size).float()
    return Programmed(
        matrix.long(),
        stored,
        grouped_reads(stored, levels),
        dummy if variation is not None and variation.on_off is not None else None,
        adc,
        variation.read_sigma if variation is not None else 0.0,
        ideal=variation is None or not variation.frozen,
    )


def grouped_reads(stored: Stored, levels: torch.Tensor) -> torch.Tensor:
    """(G, m, J * K) float32 of what the columns multiply with, cells at `levels` (L, N, K')."""
    reads = stored.read(levels)
    slices, rows, filters = reads.shape
    size = stored.spec.group
    reads = pad(reads, (0, 0, 0, -rows % size)).reshape(slices, -1, size, filters)
    return reads.permute(1, 2, 0, 3).reshape(-1, size, slices * filters).float().contiguous()
