"""What an in-memory array is: geometry, cells, drivers, and how signs are held.

A weight matrix (N, K) lies in sub-arrays of `rows` word lines and `columns` bit lines; `group` rows
are summed at once; inputs come in planes of `dac_bits`; a weight takes several cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from cofit.core import ConfigError

Scheme = Literal[
    "split", "offset", "polarised", "twos_complement", "complementary", "bipolar", "differential"
]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
LEVELS: tuple[Scheme, ...] = ("split", "offset", "polarised")
"""Schemes whose cells may hold several bits, and whose columns may be stored flipped."""

Inputs = Literal["unsigned", "offset", "twos_complement"]
INPUTS: tuple[Inputs, ...] = get_args(Inputs)


def cells_per_weight(scheme: Scheme, weight_bits: int, cell_bits: int) -> float:
    """Cells of one weight, sign included; half of `weight_bits` where a pair shares its cells."""
    magnitude = math.ceil((weight_bits - 1) / cell_bits)
    found: dict[Scheme, float] = {
        "split": 2 * magnitude,
        "offset": math.ceil(weight_bits / cell_bits),
        "polarised": magnitude,
        "twos_complement": weight_bits,
        "complementary": weight_bits / 2,
        "bipolar": weight_bits,
        "differential": 2 * weight_bits,
    }
    return found[scheme]


@dataclass(frozen=True)
class ArraySpec:
    """Geometry and coding.

    Attributes:
        rows: word lines of a sub-array.
        columns: bit lines of a sub-array, one cell wide.
        group: rows summed by one conversion; divides `rows`.
        cell_bits: of one cell.
        dac_bits: of an input that are driven at once.
        input_bits: of an input.
        weight_bits: of a weight, sign included; digits for "bipolar" and "differential".
        scheme: how signs are held.
        flip: store 2^cell_bits - 1 - v in a column of a group where that gives the smaller sum.
        inputs: how negative ones are driven.
        skipping: end a group of inputs at the highest bit of its largest one.

    Raises:
        ConfigError: a value is out of range, or two do not go together.
    """

    rows: int = 128
    columns: int = 128
    group: int = 128
    cell_bits: int = 2
    dac_bits: int = 1
    input_bits: int = 8
    weight_bits: int = 8
    scheme: Scheme = "offset"
    flip: bool = False
    inputs: Inputs = "unsigned"
    skipping: bool = False

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ConfigError(f"sign scheme {self.scheme!r}; known: {', '.join(SCHEMES)}")
        if self.inputs not in INPUTS:
            raise ConfigError(f"inputs {self.inputs!r}; known: {', '.join(INPUTS)}")
        least = 1 if self.scheme in ("bipolar", "differential") else 2
        for name, low, high in (
            ("rows", 1, 1 << 16), ("columns", 1, 1 << 16), ("group", 1, 1 << 16),
            ("cell_bits", 1, 8), ("dac_bits", 1, 8), ("input_bits", 1, 24),
            ("weight_bits", least, 24),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}; give {low} to {high}")
        if self.rows % self.group:
            raise ConfigError(
                f"groups of {self.group} rows do not divide {self.rows} rows; "
                f"give a divisor of {self.rows}"
            )
        if self.scheme not in LEVELS and (self.cell_bits > 1 or self.flip):
            raise ConfigError(
                f"scheme {self.scheme!r} has cells of 1 bit and no flipped columns; "
                f"{', '.join(LEVELS)} have them"
            )
        if self.inputs == "twos_complement" and self.dac_bits > 1:
            raise ConfigError(
                f"inputs in two's complement are driven bit by bit, not {self.dac_bits} at once; "
                "encode them with an offset"
            )

    @property
    def planes(self) -> int:
        """T, steps in which an input is driven."""
        return math.ceil(self.input_bits / self.dac_bits)

    @property
    def slices(self) -> int:
        """Conversions of a weight column for one plane and group."""
        if self.scheme in ("complementary", "differential"):
            return self.weight_bits
        return int(cells_per_weight(self.scheme, self.weight_bits, self.cell_bits))

    @property
    def most(self) -> int:
        """Largest level of a cell."""
        return (1 << self.cell_bits) - 1

    def groups(self, rows: int) -> int:
        """Row groups of a matrix."""
        return math.ceil(rows / self.group)

    def lines(self, filters: int) -> int:
        """Bit lines that hold so many filters."""
        if self.scheme == "complementary":
            return math.ceil(filters / 2) * self.weight_bits
        return filters * int(cells_per_weight(self.scheme, self.weight_bits, self.cell_bits))

    def cells(self, rows: int, filters: int) -> int:
        """Cells that hold a matrix."""
        return rows * self.lines(filters)

    def arrays(self, rows: int, filters: int) -> int:
        """Sub-arrays that hold a matrix, unused rows and columns included."""
        return math.ceil(rows / self.rows) * math.ceil(self.lines(filters) / self.columns)

    def conversions(self, rows: int, filters: int, positions: int) -> int:
        """Conversions of a product, every plane read."""
        return positions * self.planes * self.slices * filters * self.groups(rows)

    def bounds(self) -> tuple[int, int]:
        """Least and largest sum that one conversion may see."""
        drive = (1 << self.dac_bits) - 1
        if self.scheme in ("bipolar", "differential"):
            return -drive * self.group, drive * self.group
        most = self.group * self.most
        return 0, drive * (most // 2 if self.flip else most)

    def lossless_bits(self) -> int:
        """Bits that tell all sums of a conversion apart: 3, 4, 5, 8 flipped at 4, 8, 16, 128 rows.

        These are of 2-bit cells and 1-bit inputs; without flipping they are one more.
        """
        low, high = self.bounds()
        return max((high - low).bit_length(), 1)
