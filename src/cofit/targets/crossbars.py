"""How many crossbars a network takes, and how many input cycles bit-serial operation needs.

Counts only, in closed form; source of the mapping: FORMS (ISCA 2021, arXiv 2106.09144). A weight
takes several adjacent cells of one row; a column sums currents of one sign, so signs cost cells
(split), an offset (offset), or a constraint on the weights (polarised).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from cofit.core import ConfigError
from cofit.structures.formats import four
from cofit.structures.formats.matrix import Order, grouped

Scheme = Literal["split", "offset", "polarised"]
SCHEMES: tuple[Scheme, ...] = ("split", "offset", "polarised")


@dataclass(frozen=True)
class Crossbar:
    """Geometry of one crossbar.

    Attributes:
        rows: word lines.
        columns: bit lines.
        cell_bits: bits of one cell.
    """

    rows: int = 128
    columns: int = 128
    cell_bits: int = 2

    def cells(self, bits: int, scheme: Scheme) -> int:
        """Adjacent cells of one weight of `bits` bits, sign included.

        Raises:
            ConfigError: no such scheme, or fewer than two bits.
        """
        if bits < 2 or scheme not in SCHEMES:
            raise ConfigError(
                f"weights of {bits} bits, {scheme!r}; give 2 bits or more and one of "
                f"{', '.join(SCHEMES)}"
            )
        magnitude = math.ceil((bits - 1) / self.cell_bits)
        if scheme == "offset":
            return math.ceil(bits / self.cell_bits)
        return 2 * magnitude if scheme == "split" else magnitude

    def count(self, rows: int, filters: int, bits: int, scheme: Scheme) -> int:
        """Crossbars of a layer whose matrix has `rows` rows and `filters` columns."""
        lines = math.ceil(filters * self.cells(bits, scheme) / self.columns)
        return math.ceil(rows / self.rows) * lines


def used_matrix(weight: torch.Tensor, m: int, order: Order = "c") -> tuple[int, int]:
    """Rows and columns of a layer's matrix that must be stored: those with a non-zero.

    Args:
        weight: (K, C, R, S) or (K, C).
        m: rows that are kept or left out together, the rows of a fragment.
        order: of the rows.
    """
    columns = grouped((weight != 0).reshape(four(tuple(weight.shape))), m, order)
    groups = columns.any(2).any(0)
    rows = int(groups.sum()) * m
    if bool(groups[-1]):  # the last group may be ragged
        rows -= len(groups) * m - weight[0].numel()
    return rows, int(columns.any(2).any(1).sum())


def input_cycles(inputs: torch.Tensor, m: int) -> torch.Tensor:
    """Cycles (P, G) until no input of a group of `m` rows has a bit left: the EIC of FORMS.

    A group ends with the highest bit of its largest input; zero planes below it are not skipped.

    Args:
        inputs: (P, N) unsigned integers, rows in the order of the crossbar.
        m: rows of a group.

    Raises:
        ConfigError: an input is negative or no integer.
    """
    if bool((inputs < 0).any()) or inputs.is_floating_point():
        raise ConfigError(
            "bit-serial inputs are unsigned integers; encode negative ones with an offset first"
        )
    padded = torch.nn.functional.pad(inputs, (0, -inputs.shape[1] % m))
    largest = padded.reshape(len(inputs), -1, m).amax(2)
    return torch.frexp(largest.double()).exponent
