"""Chips of resistive crossbars in which all weights stay: ISAAC, PUMA, FORMS.

A layer's crossbars work in parallel; within one, row groups and input planes follow one another.
A step ends when the crossbar has settled and its converters have been round all columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cofit.targets.arrays.activity import Activity, full_activity
from cofit.targets.arrays.adc import Clip
from cofit.targets.arrays.matrix import Matrix, MatrixCost
from cofit.targets.arrays.spec import ArraySpec


@dataclass(frozen=True)
class CrossbarChip:
    """Coding, parts and what they cost.

    Attributes:
        name: for example "isaac".
        spec: geometry and coding; widths of inputs and weights are those of a layer where one runs.
        converter_bits: of a converter.
        arrays: crossbars of a unit.
        converters: of a unit, shared by its crossbars.
        units: of a tile, which share buffer, bus and router.
        read_s: until a crossbar has settled.
        conversion_hz: of one converter.
        read_pj: of a crossbar, all rows, one plane.
        conversion_pj: of one conversion.
        drive_pj: of a row that is driven with something other than zero.
        shift_add_pj: of adding one conversion.
        buffer_pj: per bit.
        bus_pj: per bit.
        router_pj: per bit.
        array_um2, converter_um2, driver_um2, shift_add_um2: one of each; a driver per row, a
            shift-add per converter.
        buffer_um2, bus_um2, router_um2: of a tile.
        lanes: element-wise operations per cycle.
        clock_hz: of the lanes.
        node_nm: of energies and areas.
        facts: what reports say.
    """

    name: str
    spec: ArraySpec
    converter_bits: int
    arrays: int
    converters: int
    units: int
    read_s: float
    conversion_hz: float
    read_pj: float
    conversion_pj: float
    drive_pj: float
    shift_add_pj: float
    buffer_pj: float
    bus_pj: float
    router_pj: float
    array_um2: float
    converter_um2: float
    driver_um2: float
    shift_add_um2: float
    buffer_um2: float
    bus_um2: float
    router_um2: float
    lanes: int
    clock_hz: float
    node_nm: int
    facts: Mapping[str, str] = field(default_factory=dict)

    assumed = None
    states_energy = True

    @property
    def sign_group(self) -> int | None:
        """Rows of a group that holds one sign, None where signs are held with the weights."""
        return self.spec.group if self.spec.scheme == "polarised" else None

    @property
    def adc(self) -> Clip:
        """Its converters: one level per unit of the sum."""
        return Clip(self.converter_bits)

    def spec_for(self, matrix: Matrix) -> ArraySpec:
        """Coding of a layer's inputs and weights; mixed groups are split into two of one sign."""
        scheme = "split" if matrix.mixed and self.sign_group else self.spec.scheme
        return replace(
            self.spec,
            scheme=scheme,
            input_bits=matrix.input_bits,
            weight_bits=matrix.weight_bits,
        )

    def step_s(self, columns: int) -> float:
        """Time of one plane of one group, so many columns converted."""
        each = self.conversion_hz * self.converters / self.arrays
        return max(self.read_s, columns / each)

    def array_mm2(self) -> float:
        """Area of a crossbar with its share of everything."""
        tile = self.buffer_um2 + self.bus_um2 + self.router_um2
        part = self.converters / self.arrays * (self.converter_um2 + self.shift_add_um2)
        own = self.array_um2 + self.spec.rows * self.driver_um2 + part
        return (own + tile / (self.units * self.arrays)) * 1e-6

    def cost(self, matrix: Matrix, activity: Activity | None = None) -> MatrixCost:
        """Cost of a layer.

        Args:
            matrix: the layer.
            activity: of its inputs, per position and copy; None for the most there can be.
        """
        spec = self.spec_for(matrix)
        seen = activity or full_activity(matrix.rows, spec)
        lines, groups = spec.lines(matrix.filters), spec.groups(matrix.rows)
        across = math.ceil(lines / spec.columns)
        blocks = blocks_per_array(matrix, spec)
        arrays = (
            math.ceil(matrix.copies / blocks)
            if blocks
            else matrix.copies * spec.arrays(matrix.rows, matrix.filters)
        )
        if blocks:
            together = min(matrix.copies, blocks)
            most = math.ceil(together * matrix.rows / spec.group)
            columns = lines * min(together, math.ceil(spec.group / matrix.rows))
        else:
            most, columns = min(groups, spec.rows // spec.group), min(lines, spec.columns)
        products = matrix.positions * matrix.copies
        latency = matrix.positions * seen.cycles / groups * most * self.step_s(columns)
        conversions = products * seen.cycles * spec.slices * matrix.filters
        read_bits = products * matrix.rows * matrix.input_bits
        written_bits = products * matrix.filters * matrix.output_bits
        energy = {
            "drivers": products * seen.drives * across * self.drive_pj,
            "crossbars": products * seen.cycles * across * self.read_pj * spec.group / spec.rows,
            "converters": conversions * self.conversion_pj,
            "shift-adds": conversions * self.shift_add_pj,
            "buffers": (read_bits + written_bits) * self.buffer_pj,
            "buses": (read_bits + written_bits) * self.bus_pj,
            "routers": written_bits * self.router_pj,
        }
        held = matrix.copies * spec.cells(matrix.rows, matrix.filters)
        return MatrixCost(latency, energy, arrays, held / (arrays * spec.rows * spec.columns))


def blocks_per_array(matrix: Matrix, spec: ArraySpec) -> int:
    """Groups of a convolution that lie on the diagonal of one array; 0 if none fits or shares."""
    if matrix.copies == 1:
        return 0
    return min(spec.rows // matrix.rows, spec.columns // spec.lines(matrix.filters))
