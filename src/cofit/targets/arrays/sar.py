"""Successive-approximation converters that inject charge, one bank of them per chip.

Decisions go from the largest charge to the smallest; a charge that is kept is taken off what is
left. Charges, gains and offsets are frozen per chip, the comparator's noise is drawn at every
decision. Calibration corrects each converter by a line and all of them by one curve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cofit.core import ConfigError


@dataclass(frozen=True)
class SarErrors:
    """How far converters are off; steps are those of the code.

    Attributes:
        charge: relative standard deviation of each injected charge.
        noise: standard deviation of the comparator, in steps.
        offset: largest offset, in steps; drawn evenly from both sides.
        gain: largest relative error of the gain; drawn evenly from both sides.
    """

    charge: float = 0.005
    noise: float = 0.3
    offset: float = 3.0
    gain: float = 0.03

    def __post_init__(self) -> None:
        if min(self.charge, self.noise, self.offset, self.gain) < 0:
            raise ConfigError(f"{self} has a negative value; give 0 or more")


NO_ERRORS = SarErrors(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Correction:
    """Level of a code: slope * code + shift of its converter, and what all have in common.

    Attributes:
        slope: (A,).
        shift: (A,).
        master: (2^bits,), the common curve.
    """

    slope: torch.Tensor
    shift: torch.Tensor
    master: torch.Tensor


@dataclass(frozen=True, eq=False)
class SarBank:
    """The converters of one chip.

    Attributes:
        charges: (A, bits), in steps, smallest first.
        gain: (A,).
        offset: (A,), in steps.
        noise: of the comparator, in steps.
        correction: None before calibration.
    """

    charges: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    noise: float
    correction: Correction | None = None

    @property
    def bits(self) -> int:
        """Of a code."""
        return self.charges.shape[1]

    def codes(
        self, levels: torch.Tensor, of: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Codes (float) of levels in steps, 0 at code 0.

        Args:
            levels: (..., C).
            of: converter of each column, broadcasts with `levels`.
            generator: of the comparators' noise; needed if there is some.

        Raises:
            ConfigError: there is noise and no generator.
        """
        if self.noise and generator is None:
            raise ConfigError("comparators are noisy; pass the generator of their noise")
        middle = 1 << (self.bits - 1)
        left = (levels - middle) * self.gain[of] + self.offset[of] + (middle + 0.5)
        codes = torch.zeros_like(left)
        for bit in reversed(range(self.bits)):
            charge = self.charges[:, bit][of]
            seen = left
            if self.noise:
                seen = left + self.noise * torch.randn(left.shape, generator=generator)
            kept = seen >= charge
            codes += kept * float(1 << bit)
            left = left - kept * charge
        return codes

    def corrected(self, codes: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        """Levels that codes stand for, calibrated if it was."""
        if self.correction is None:
            return codes
        found = self.correction
        return found.slope[of] * codes + found.shift[of] + found.master[codes.long()]

    def linearity(self) -> Linearity:
        """How even the steps of the converters' charges are."""
        codes = torch.arange(1 << self.bits)
        on = (codes[:, None] >> torch.arange(self.bits)) & 1
        levels = on.double() @ self.charges.double().T
        steps = levels.diff(dim=0)
        ends = torch.linspace(0, 1, len(codes), dtype=torch.float64)[:, None] * levels[-1]
        return Linearity(
            dnl=float((steps - 1).abs().max()),
            inl=float((levels - ends).abs().max()),
            monotone=bool((steps > 0).all()),
        )


@dataclass(frozen=True)
class Linearity:
    """Of the worst converter of a bank, in steps.

    Attributes:
        dnl: largest deviation of one step.
        inl: largest deviation from the line through both ends.
        monotone: whether a larger code never stands for a smaller charge.
    """

    dnl: float
    inl: float
    monotone: bool


def sar_bank(count: int, bits: int, errors: SarErrors, generator: torch.Generator) -> SarBank:
    """Converters of one chip."""
    nominal = (1 << torch.arange(bits)).float()

    def evenly(bound: float) -> torch.Tensor:
        return bound * (2 * torch.rand(count, generator=generator) - 1)

    off = torch.randn(count, bits, generator=generator)
    return SarBank(
        nominal * (1 + errors.charge * off),
        1 + evenly(errors.gain),
        evenly(errors.offset),
        errors.noise,
    )


def calibrated(
    bank: SarBank, levels: torch.Tensor, codes: torch.Tensor, of: torch.Tensor
) -> SarBank:
    """The bank with corrections fitted to a sweep of known levels; earlier ones are forgotten.

    Args:
        bank: converters.
        levels: (S, C) that were put in, in steps.
        codes: (S, C) that came out.
        of: (C,) converter of each column.

    Raises:
        ConfigError: a converter saw fewer than two different codes.
    """
    most = (1 << bank.bits) - 1
    each = of.expand(codes.shape)
    inside = (codes > 0) & (codes < most)
    x, y, group = codes[inside].double(), levels[inside].double(), each[inside]
    count = len(bank.gain)

    def total(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.float64).index_add_(0, group, values)

    number = total(torch.ones_like(x)).clamp(min=1)
    mean_x, mean_y = total(x) / number, total(y) / number
    spread = total((x - mean_x[group]).square())
    if bool((spread[each.unique()] == 0).any()):
        raise ConfigError(
            "a converter gave the same code for the whole sweep; sweep the sums over its full scale"
        )
    slope = total((x - mean_x[group]) * (y - mean_y[group])) / spread.clamp(min=1e-9)
    shift = mean_y - slope * mean_x
    rest = y - slope[group] * x - shift[group]
    sums = torch.zeros(most + 1, dtype=torch.float64).index_add_(0, x.long(), rest)
    seen = torch.bincount(x.long(), minlength=most + 1)
    master = sums / seen.clamp(min=1)
    # one curve for all, and one that rises: pooled levels never fall behind a smaller code's
    rising = torch.cummax(torch.arange(most + 1) + master, 0).values
    master = rising - torch.arange(most + 1)
    correction = Correction(slope.float(), shift.float(), master.float())
    return replace(bank, correction=correction)


@dataclass(frozen=True, eq=False)
class Sar:
    """Converters of the columns of a written matrix.

    Attributes:
        bank: of the chip.
        full_scale: sum at the upper end; codes run from minus this to one step below it.
        of: converter of each column, (G, 1, C) or broadcastable to (G, B, C).
    """

    bank: SarBank
    full_scale: float
    of: torch.Tensor

    @property
    def step(self) -> float:
        """Of one code, in units of the sum."""
        return 2 * self.full_scale / (1 << self.bank.bits)

    @property
    def whole(self) -> bool:
        """False: levels lie where the full scale puts them."""
        return False

    def exact(self, low: int, high: int) -> bool:
        """False: products always go through the converters."""
        return False

    def convert(self, sums: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """See `Adc`."""
        middle = 1 << (self.bank.bits - 1)
        codes = self.bank.codes(sums / self.step + middle, self.of, generator)
        return (self.bank.corrected(codes, self.of) - middle) * self.step


def best_full_scale(sums: torch.Tensor, bits: int) -> float:
    """Full scale of least squared error, clipping and rounding together, on sums that were seen.

    Args:
        sums: of calibration inputs, any shape, signed.
        bits: of a code.
    """
    values = sums.flatten().double()
    most = float(values.abs().max())
    if most == 0:
        return 1.0
    found = []
    for share in torch.linspace(0.1, 1.05, 39).tolist():
        scale = share * most
        step = 2 * scale / (1 << bits)
        levels = (values / step).round().clamp(-(1 << bits - 1), (1 << bits - 1) - 1) * step
        found.append((float((values - levels).square().mean()), scale))
    return float(min(found)[1])
