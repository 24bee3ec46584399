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
        return self.lines(self.place(matrix, spec), full_scale)

    def place(self, matrix: torch.Tensor, spec: ArraySpec) -> Placed:
        """Put a matrix into the next free columns; see `write`."""
        stored = store(matrix, spec)
        kinds, rows, filters = stored.cells.shape
        deep = spec.groups(rows)
        each = kinds // spec.slices
        taken = deep * kinds * filters
        there = self.chip.share * spec.columns
        if self.used + taken > there:
            raise TargetError(
                f"{self.chip.name} has {there:,} columns of {spec.rows} cells, "
                f"{self.used:,} are taken; a matrix of {rows} x {filters} needs {taken:,}: "
                f"{self.used + taken - there:,} too many"
            )
        columns = torch.arange(deep * spec.slices * filters).reshape(deep, -1) * each + self.used
        self.used += taken
        levels = pad(stored.cells, (0, 0, 0, -rows % spec.group))
        levels = levels.reshape(each, spec.slices, deep, spec.group, filters)
        for part in range(each):
            values = levels[part].permute(1, 0, 3, 2).flatten(1, 2)  # (G, slices * K, rows)
            at = self._at(columns + part)
            self.cells[at[0], :, at[1]] = values
        return Placed(matrix.long(), stored, columns, each)

    def lines(self, placed: Placed, full_scale: float) -> Programmed:
        """What the cells of a matrix hold now, as the lines read it."""
        parts = [self._line(placed.columns + part) for part in range(placed.each)]
        unit = self._unit(placed.columns)
        reads = parts[0] - parts[1] if placed.each == 2 else 2 * parts[0] - unit
        _, column = self._at(placed.columns)
        saturation = None
        if self.currents is None:
            capacitors = self.capacitors[:, column]  # (rows, G, C)
            total = capacitors.sum(0) + self.line.parasitic
            nominal = len(self.capacitors) + self.line.parasitic
            reads = reads * (capacitors * nominal / total).permute(1, 0, 2)
        else:
            saturation = self.line.saturation * placed.stored.spec.bounds()[1]
        converter = column // (self.chip.spec.columns // CONVERTERS)
        return Programmed(
            placed.matrix,
            placed.stored,
            reads.float().contiguous(),
            None,
            Sar(self.bank, full_scale, converter[:, None]),
            0.0,
            ideal=False,
            saturation=saturation,
        )

    def _line(self, columns: torch.Tensor) -> torch.Tensor:
        """What cells of columns (G, C) hold, times their currents: (G, rows, C)."""
        address, column = self._at(columns)
        return self.cells[address, :, column].movedim(-1, 1) * self._unit(columns)

    def _unit(self, columns: torch.Tensor) -> torch.Tensor:
        address, column = self._at(columns)
        if self.currents is None:
            return torch.ones(len(columns), len(self.capacitors), columns.shape[1])
        return self.currents[address, :, column].movedim(-1, 1)

    def _at(self, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Address and place of columns that are counted over all addresses."""
        width = self.chip.spec.columns
        return columns // width, columns % width


@dataclass(frozen=True, eq=False)
class Placed:
    """Where a matrix lies in a macro.

    Attributes:
        matrix: (N, K) int64.
        stored: as cells.
        columns: (G, J * K) of the first cell of every digit, counted over all addresses.
        each: neighbouring columns of a digit.
    """

    matrix: torch.Tensor
    stored: Stored
    columns: torch.Tensor
    each: int


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
    macro: ChargeMacro,
    generator: torch.Generator,
    passes: int,
    shuffled: bool,
    full_scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, Programmed]:
    """True and analog sums of a macro whose columns are all 1 or all -1.

    Args:
        macro: its own cells stay as they are.
        generator: of the rows that are driven.
        passes: over all sums from one end to the other; over fewer sums there are more.
        shuffled: drive rows in random order, else from the first one on.
        full_scale: of the converters; None for the largest sum.

    Returns:
        Sums (S, 1) as they should be, (S, C) as the lines give them, and one written matrix whose
        converters are those of the columns.
    """
    spec = replace(macro.chip.spec, scheme="differential", weight_bits=1)
    drive = (1 << spec.dac_bits) - 1
    every = spec.rows * drive + 1
    scale = float(spec.bounds()[1]) if full_scale is None else full_scale
    some = min(every, int(1.1 * scale) + 1)
    sums = torch.arange(some).repeat(passes * every // some)
    order = torch.arange(spec.rows).expand(len(sums), -1)
    if shuffled:
        order = torch.rand(len(sums), spec.rows, generator=generator).argsort(1)
    inputs = (sums[:, None] - drive * order).clamp(0, drive)
    found = []
    for sign in (1, -1):
        blank = replace(macro, cells=torch.zeros_like(macro.cells), used=0)
        matrix = torch.full((spec.rows, macro.chip.sums), sign)
        chip = blank.write(matrix, spec, scale)
        found.append(chip.line_sums(inputs)[0])
    true = torch.cat([sums, -sums])[:, None].double()
    return true, torch.cat(found), chip


def calibrate(
    macro: ChargeMacro, generator: torch.Generator, full_scale: float | None = None
) -> ChargeMacro:
    """The macro with its converters calibrated in two steps, on sums of rows in their order.

    Args:
        macro: any.
        generator: of the comparators' noise.
        full_scale: at which the converters will be used; None for the largest sum.
    """
    true, analog, chip = sweep_sums(macro, generator, SWEEP, False, full_scale)
    adc = chip.adc
    assert isinstance(adc, Sar)
    middle = 1 << (macro.bank.bits - 1)
    of = adc.of[0, 0]
    codes = macro.bank.codes(analog / adc.step + middle, of, generator)
    levels = (true / adc.step + middle).expand(codes.shape)
    return replace(macro, bank=calibrated(macro.bank, levels, codes, of))


def residual(macro: ChargeMacro, generator: torch.Generator, passes: int = SWEEP) -> Residual:
    """Deviation of conversions on sums whose rows are drawn anew; codes at an end are left out."""
    true, analog, chip = sweep_sums(macro, generator, passes, shuffled=True)
    adc = chip.adc
    assert isinstance(adc, Sar)
    middle, of = 1 << (macro.bank.bits - 1), adc.of[0]
    codes = macro.bank.codes(analog / adc.step + middle, of, generator)
    levels = macro.bank.corrected(codes, of) - middle
    inside = (codes > 0) & (codes < 2 * middle - 1)
    off = (levels - true / adc.step)[inside]
    return Residual(float(off.abs().max()), float(off.square().mean().sqrt()))


def line_residual(macro: ChargeMacro, generator: torch.Generator) -> Residual:
    """Deviation of the lines alone, in steps: what no line per column nor common curve corrects."""
    true, analog, chip = sweep_sums(macro, generator, SWEEP, shuffled=True)
    adc = chip.adc
    assert isinstance(adc, Sar)
    sums = analog.double()
    x = true - true.mean()
    rest = sums - sums.mean(0) - x * ((x * sums).sum(0) / x.square().sum())
    places = (true[:, 0] - true.min()).long()
    count = torch.bincount(places).clamp(min=1)
    curve = torch.zeros(len(count), dtype=torch.float64).index_add_(0, places, rest.mean(1)) / count
    off = (rest - curve[places, None]) / adc.step
    return Residual(float(off.abs().max()), float(off.square().mean().sqrt()))
