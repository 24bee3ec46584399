"""Sums of charge on a bit line: a macro of plain SRAM cells, as CAP-RAM; and of current, beside it.

A column has `rows` summing circuits, each with a capacitor C_i; sharing their charge gives
V = V_ref sum C_i (x_i / x_max) d_i / (sum C_i + C_par): an average, so that what all capacitors
have in common cancels. Cells of `share` addresses use one circuit in turn.

A discharged bit line sums currents instead: I_i = I_0 (1 + sigma n_i), and saturates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import pad

from cofit.core import TargetError
from cofit.targets.arrays.charge_chip import ChargeChip
from cofit.targets.arrays.multiply import Programmed
from cofit.targets.arrays.sar import NO_ERRORS, Sar, SarBank, SarErrors, calibrated, sar_bank
from cofit.targets.arrays.schemes import Stored, store
from cofit.targets.arrays.spec import ArraySpec

CONVERTERS = 32
"""Of a macro; each serves neighbouring columns."""

SWEEP = 8
"""Passes over all sums that calibration takes."""


@dataclass(frozen=True)
class LineErrors:
    """How far a macro's sums are off.

    Attributes:
        capacitor: relative standard deviation of C_i; frozen per chip.
        parasitic: C_par over C_0.
        current: relative standard deviation of a cell's current; None for lines that share charge.
        saturation: sum at which a discharged line is empty, over the largest sum.
    """

    capacitor: float = 0.005
    parasitic: float = 2.0
    current: float | None = None
    saturation: float = 1.5


CHARGE = LineErrors()
CURRENT = LineErrors(current=0.1)


@dataclass(eq=False)
class ChargeMacro:
    """One chip: its cells, capacitors, currents and converters.

    Attributes:
        chip: geometry and coding.
        line: what its lines are.
        capacitors: (rows, columns), relative to C_0.
        currents: (share, rows, columns) relative to I_0; None for lines that share charge.
        bank: of converters.
        cells: (share, rows, columns) uint8, what is written at every address.
        used: columns that are taken, over all addresses.
    """

    chip: ChargeChip
    line: LineErrors
    capacitors: torch.Tensor
    currents: torch.Tensor | None
    bank: SarBank
    cells: torch.Tensor
    used: int = 0

    def write(self, matrix: torch.Tensor, spec: ArraySpec, full_scale: float) -> Programmed:
        """Put a matrix into the next free columns and give it back as the lines read it.

        Args:
            matrix: (N, K) integers.
            spec: its coding.
            full_scale: of the converters for this layer, in units of a sum.

        Raises:
            StructureError: the matrix does not fit the coding.
            TargetError: the macro is full.
        """
        stored = store(matrix, spec)
        kinds, rows, filters = stored.cells.shape
        deep = spec.groups(rows)
        each = kinds // spec.slices  # neighbouring columns of one digit
        taken = deep * kinds * filters
        there = self.chip.share * spec.columns
        if self.used + taken > there:
            raise TargetError(
                f"{self.chip.name} has {there:,} columns of {spec.rows} cells, "
                f"{self.used:,} are taken; a matrix of {rows} x {filters} needs {taken:,}: "
                f"{self.used + taken - there:,} too many"
            )
        first = torch.arange(deep * spec.slices * filters).reshape(deep, -1) * each + self.used
        self.used += taken
        levels = pad(stored.cells, (0, 0, 0, -rows % spec.group))
        levels = levels.reshape(each, spec.slices, deep, spec.group, filters)
        for part in range(each):
            address, column = divmod_slots(first + part, spec.columns)
            # (slices, deep, m, K) -> (deep, slices * K, m)
            values = levels[part].permute(1, 0, 3, 2).flatten(1, 2)
            self.cells[address, :, column] = values
        return self._read(stored, matrix, first, each, full_scale)

    def _read(
        self,
        stored: Stored,
        matrix: torch.Tensor,
        first: torch.Tensor,
        each: int,
        full_scale: float,
    ) -> Programmed:
        address, column = divmod_slots(first, self.chip.spec.columns)
        digits = [self._line(first + part) for part in range(each)]
        reads = digits[0] - digits[1] if each == 2 else 2 * digits[0] - self._unit(first)
        if self.currents is None:
            capacitors = self.capacitors[:, column]  # (rows, G, C)
            total = capacitors.sum(0) + self.line.parasitic
            nominal = len(self.capacitors) + self.line.parasitic
            reads = reads * (capacitors * nominal / total).permute(1, 0, 2)
        saturation = None
        if self.currents is not None:
            saturation = self.line.saturation * stored.spec.bounds()[1]
        converter = column // (self.chip.spec.columns // CONVERTERS)
        return Programmed(
            matrix.long(),
            stored,
            reads.float().contiguous(),
            None,
            Sar(self.bank, full_scale, converter[:, None]),
            0.0,
            ideal=False,
            saturation=saturation,
        )

    def _line(self, slots: torch.Tensor) -> torch.Tensor:
        """What cells of columns (G, C) hold, times their currents: (G, rows, C)."""
        return self.cells_at(slots) * self._unit(slots)

    def cells_at(self, slots: torch.Tensor) -> torch.Tensor:
        """What is written in columns (G, C), counted over all addresses: (G, rows, C)."""
        address, column = divmod_slots(slots, self.chip.spec.columns)
        return self.cells[address, :, column].movedim(-1, 1).float()

    def _unit(self, slots: torch.Tensor) -> torch.Tensor:
        address, column = divmod_slots(slots, self.chip.spec.columns)
        if self.currents is None:
            return torch.ones(len(slots), len(self.capacitors), slots.shape[1])
        return self.currents[address, :, column].movedim(-1, 1)


def divmod_slots(slots: torch.Tensor, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Address and column of columns that are counted over all addresses."""
    return slots // columns, slots % columns


def charge_macro(
    chip: ChargeChip,
    generator: torch.Generator,
    line: LineErrors = CHARGE,
    errors: SarErrors | None = None,
) -> ChargeMacro:
    """A chip as it comes from the factory, its converters not calibrated.

    Args:
        chip: geometry.
        generator: of what is frozen in it.
        line: how its lines are off.
        errors: of its converters; None for the usual ones.
    """
    size = (chip.spec.rows, chip.spec.columns)
    capacitors = 1 + line.capacitor * torch.randn(size, generator=generator)
    currents = None
    if line.current is not None:
        currents = 1 + line.current * torch.randn((chip.share, *size), generator=generator)
    bank = sar_bank(CONVERTERS, chip.converter_bits, errors or SarErrors(), generator)
    cells = torch.zeros((chip.share, *size), dtype=torch.uint8)
    return ChargeMacro(chip, line, capacitors, currents, bank, cells)


def ideal_macro(chip: ChargeChip) -> ChargeMacro:
    """A chip without any error but the rounding of its converters."""
    generator = torch.Generator().manual_seed(0)
    return charge_macro(chip, generator, LineErrors(0.0, 0.0), NO_ERRORS)


@dataclass(frozen=True)
class Residual:
    """Deviation of converted sums from the true ones, in steps of a code over the full range."""

    largest: float
    rms: float


def sweep_sums(
    macro: ChargeMacro, generator: torch.Generator, passes: int, shuffled: bool
) -> tuple[torch.Tensor, torch.Tensor, Programmed]:
    """True and analog sums of a macro whose columns are all 1 or all -1.

    Args:
        macro: its own cells stay as they are.
        generator: of the rows that are driven.
        passes: over all sums from one end to the other.
        shuffled: drive rows in random order, else from the first one on.

    Returns:
        Sums (S, 1) as they should be, (S, C) as the lines give them, and one written matrix whose
        converters are those of the columns.
    """
    spec = replace(macro.chip.spec, scheme="differential", weight_bits=1)
    drive = (1 << spec.dac_bits) - 1
    sums = torch.arange(spec.rows * drive + 1).repeat(passes)
    order = torch.arange(spec.rows).expand(len(sums), -1)
    if shuffled:
        order = torch.rand(len(sums), spec.rows, generator=generator).argsort(1)
    inputs = (sums[:, None] - drive * order).clamp(0, drive)
    found = []
    for sign in (1, -1):
        blank = replace(macro, cells=torch.zeros_like(macro.cells), used=0)
        matrix = torch.full((spec.rows, macro.chip.sums), sign)
        chip = blank.write(matrix, spec, float(spec.bounds()[1]))
        found.append(chip.line_sums(inputs)[0])
    true = torch.cat([sums, -sums])[:, None].double()
    return true, torch.cat(found), chip


def calibrate(macro: ChargeMacro, generator: torch.Generator) -> ChargeMacro:
    """The macro with its converters calibrated in two steps, on sums of rows in their order."""
    true, analog, chip = sweep_sums(macro, generator, SWEEP, shuffled=False)
    adc = chip.adc
    assert isinstance(adc, Sar)
    middle = 1 << (macro.bank.bits - 1)
    of = adc.of[0, 0]
    codes = macro.bank.codes(analog / adc.step + middle, of, generator)
    levels = (true / adc.step + middle).expand(codes.shape)
    return replace(macro, bank=calibrated(macro.bank, levels, codes, of))


def residual(macro: ChargeMacro, generator: torch.Generator, passes: int = SWEEP) -> Residual:
    """Deviation on sums whose rows are drawn anew, of codes that are not at an end."""
    true, analog, chip = sweep_sums(macro, generator, passes, shuffled=True)
    adc = chip.adc
    assert isinstance(adc, Sar)
    found = adc.convert(analog[None], generator)[0]
    inside = (true.abs() < adc.full_scale * 0.98).expand(found.shape)
    off = ((found - true) / adc.step)[inside]
    return Residual(float(off.abs().max()), float(off.square().mean().sqrt()))
