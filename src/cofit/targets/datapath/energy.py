"""Energy of a multiply-accumulate by the bits that its operands toggle, from a TOML file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.core.quantities import HardwareFile

OPERAND_BITS, SUM_BITS = 8, 24
TABLES = {"weight": OPERAND_BITS, "input": OPERAND_BITS, "sum": SUM_BITS}
"""Operands and their widths."""

FACTORS = {"weight": "by_input_ones", "input": "by_weight_ones"}
"""Tables of how the energy of an operand's flips goes with the ones of the other factor."""

TOP: dict[str, type] = {
    "about": str, "node_nm": int, "source": dict, "together": dict,
    **dict.fromkeys((*TABLES, *FACTORS.values()), dict),
}  # fmt: skip

Counts = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Bits:
    """Numbers of bits by operand, arrays of one shape."""

    weights: Counts
    inputs: Counts
    sums: Counts


@dataclass(frozen=True, eq=False)
class Datapath:
    """One unit: 8 x 8 bits, sums of 24.

    Attributes:
        weight_j, input_j: (9,) joules of a cycle by the bits that toggle in this operand alone.
        sum_j: (25,) likewise.
        weight_factor: (9,) times `weight_j`, by the ones of the input.
        input_factor: (9,) times `input_j`, by the ones of the weight.
        top_j: what a cycle in which everything toggles tends to.
        facts: what reports say.
    """

    weight_j: NDArray[np.float64]
    input_j: NDArray[np.float64]
    sum_j: NDArray[np.float64]
    weight_factor: NDArray[np.float64]
    input_factor: NDArray[np.float64]
    top_j: float
    facts: Mapping[str, str] = field(default_factory=dict)

    def energy_j(self, flips: Bits, ones: Bits) -> float:
        """Joules of cycles.

        Operands that toggle together move some of the same gates: with the share of `top_j` that
        each would move taken for independent, 1 - (1 - a) (1 - b) (1 - c) of it is moved.

        Args:
            flips: bits that toggle in weights, inputs and sums, arrays of one shape.
            ones: bits that are set after the cycle, of weights and inputs.
        """
        shares = (
            self.weight_j[flips.weights] * self.weight_factor[ones.inputs] / self.top_j,
            self.input_j[flips.inputs] * self.input_factor[ones.weights] / self.top_j,
            self.sum_j[flips.sums] / self.top_j,
        )
        still = np.ones(flips.weights.shape)
        for share in shares:
            still *= 1 - np.minimum(share, 1)
        return float((self.top_j * (1 - still)).sum())


@functools.cache
def datapath() -> Datapath:
    """The unit that comes with cofit."""
    return read_datapath(Path(__file__).with_name("datapath.toml"))


def read_datapath(path: Path) -> Datapath:
    """A unit from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks unit or source, a source is of
            another node, or energies fall where more bits toggle.
    """
    sheet = HardwareFile(path, "data path", TOP, TOP)
    tables = {}
    for name, bits in TABLES.items():
        known = {str(flips): "energy" for flips in range(1, bits + 1)}
        found = sheet.numbers(sheet.document[name], name, known)
        tables[name] = 1e-12 * np.array([0.0, *(found[key] for key in known)])
        if (np.diff(tables[name]) < 0).any():
            flips = int(np.argmin(np.diff(tables[name]))) + 1
            raise sheet.fail(f"{name}.{flips} is below the energy of fewer flips")
    top = 1e-12 * sheet.numbers(sheet.document["together"], "together", {"top": "energy"})["top"]
    if top < max(table[-1] for table in tables.values()):
        raise sheet.fail("together.top is below the energy of one operand alone")
    ones = {str(count): "share" for count in range(OPERAND_BITS + 1)}
    factors = {}
    for name, table in FACTORS.items():
        numbers = sheet.numbers(sheet.document[table], table, ones)
        factors[name] = np.array([numbers[key] for key in ones])
    facts = {"unit": sheet.document["about"], "node": f"{sheet.document['node_nm']} nm"}
    return Datapath(
        weight_j=tables["weight"],
        input_j=tables["input"],
        sum_j=tables["sum"],
        weight_factor=factors["weight"],
        input_factor=factors["input"],
        top_j=top,
        facts=facts | sheet.facts(),
    )
