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

TOP: dict[str, type] = {
    "about": str, "node_nm": int, "source": dict, "together": dict, **dict.fromkeys(TABLES, dict),
}  # fmt: skip

Counts = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Datapath:
    """One unit: 8 x 8 bits, sums of 24.

    Attributes:
        weight_j, input_j: (9,) joules of a cycle by the bits that toggle in this operand alone.
        sum_j: (25,) likewise.
        top_j: what a cycle in which everything toggles tends to.
        facts: what reports say.
    """

    weight_j: NDArray[np.float64]
    input_j: NDArray[np.float64]
    sum_j: NDArray[np.float64]
    top_j: float
    facts: Mapping[str, str] = field(default_factory=dict)

    def energy_j(self, weight: Counts, inputs: Counts, sums: Counts) -> float:
        """Joules of cycles in which so many bits of each operand toggle, arrays of one shape.

        Operands that toggle together move some of the same gates: with the share of `top_j` that
        each would move taken for independent, 1 - (1 - a) (1 - b) (1 - c) of it is moved.
        """
        still = 1 - self.weight_j[weight] / self.top_j
        still *= 1 - self.input_j[inputs] / self.top_j
        still *= 1 - self.sum_j[sums] / self.top_j
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
    facts = {"unit": sheet.document["about"], "node": f"{sheet.document['node_nm']} nm"}
    return Datapath(tables["weight"], tables["input"], tables["sum"], top, facts | sheet.facts())
