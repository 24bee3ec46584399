"""One SRAM macro that sums charge, as CAP-RAM: cells share a summing circuit, layers take turns.

Weights lie at addresses: `share` cells of a column share a circuit, and one address is read in a
step. A network must fit the macro; nothing is loaded between layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cofit.core import TargetError
from cofit.targets.arrays.activity import Activity
from cofit.targets.arrays.matrix import Matrix, MatrixCost
from cofit.targets.arrays.spec import ArraySpec, cells_per_weight


@dataclass(frozen=True)
class ChargeChip:
    """Geometry, and energy as it was published for the whole macro.

    Attributes:
        name: for example "capram:1.5".
        spec: coding; `rows` are the summing circuits of a column.
        share: cells that share one, that is addresses.
        converter_bits: of a converter.
        clock_hz: steps per second.
        op_pj: of an operation (two per multiply-accumulate) in a macro that is fully used and
            holds one differential digit per weight.
        converter_share: of the energy of a full step that is its conversions.
        area_um2: of the macro.
        lanes: element-wise operations per step.
        node_nm: of energy and area.
        facts: what reports say.
    """

    name: str
    spec: ArraySpec
    share: int
    converter_bits: int
    clock_hz: float
    op_pj: float
    converter_share: float
    area_um2: float
    lanes: int
    node_nm: int
    facts: Mapping[str, str] = field(default_factory=dict)

    sign_group = None
    states_energy = True

    @property
    def assumed(self) -> str:
        """What networks are taken to have been trained to."""
        digits = self.spec.weight_bits
        return f"weights of {digits} {self.spec.scheme} digit{'s' if digits > 1 else ''}"

    @property
    def cells(self) -> int:
        """Of the macro."""
        return self.spec.rows * self.share * self.spec.columns

    @property
    def sums(self) -> int:
        """Columns summed in a step: pairs of bit lines, whichever encoding."""
        return self.spec.columns // 2

    def step_pj(self, columns: int) -> float:
        """Energy of a step with so many conversions; rows that are not used charge all the same."""
        full = 2 * self.spec.rows * self.sums * self.op_pj
        share = self.converter_share
        return full * (1 - share + share * columns / self.sums)

    def cost(self, matrix: Matrix, activity: Activity | None = None) -> MatrixCost:
        """Cost of a layer, its weights at the precision of the macro."""
        digits = self.spec.weight_bits
        blocks = max(1, min(matrix.copies, self.spec.rows // matrix.rows))
        deep = math.ceil(matrix.rows / self.spec.rows)
        columns = matrix.filters * digits * blocks
        rounds = math.ceil(matrix.copies / blocks)
        steps = matrix.positions * rounds * deep * math.ceil(columns / self.sums)
        conversions = matrix.positions * matrix.copies * deep * matrix.filters * digits
        idle = self.step_pj(0)
        energy = {
            "array": steps * idle,
            "converters": conversions * (self.step_pj(1) - idle),
        }
        used = matrix.macs * digits / (steps * self.spec.rows * self.sums)
        return MatrixCost(steps / self.clock_hz, energy, 1, used)

    def peak(self, rows: int | None = None) -> tuple[float, float]:
        """Operations per second and per joule with `rows` of its summing circuits in use."""
        used = self.spec.rows if rows is None else rows
        digits = self.spec.weight_bits
        cost = self.cost(Matrix(used, self.sums // digits, 1))
        operations = 2 * used * (self.sums // digits)
        assert cost.total_pj is not None
        return operations / cost.latency_s, operations / (cost.total_pj * 1e-12)


def check_capacity(chip: ChargeChip, layers: Mapping[str, Matrix]) -> int:
    """Cells that a network takes of one macro.

    A column of `rows` cells at one address belongs to one filter's digit: what a short filter
    leaves of it is lost.

    Raises:
        TargetError: it does not fit; the text says by how much.
    """
    each = cells_per_weight(chip.spec.scheme, chip.spec.weight_bits, chip.spec.cell_bits)
    cells = sum(int(layer.weights * each) for layer in layers.values())
    if cells > chip.cells:
        raise TargetError(
            f"{chip.name} has {chip.cells:,} cells, the network needs {cells:,}: "
            f"{cells - chip.cells:,} too many; prune it or choose a lower precision"
        )
    columns = sum(
        layer.copies * chip.spec.lines(layer.filters) * chip.spec.groups(layer.rows)
        for layer in layers.values()
    )
    there = chip.share * chip.spec.columns
    if columns > there:
        raise TargetError(
            f"{chip.name} has {there:,} columns of {chip.spec.rows} cells, the network needs "
            f"{columns:,} (its {cells:,} cells fill them badly): {columns - there:,} too many; "
            f"prune filters, or rows to multiples of {chip.spec.rows}"
        )
    return cells
