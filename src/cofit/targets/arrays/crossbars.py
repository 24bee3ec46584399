"""How many crossbars a network takes, in closed form.

Source of the mapping: FORMS (ISCA 2021, arXiv 2106.09144). A weight takes several adjacent cells of
one row; a column sums currents of one sign, so signs cost cells (split), an offset (offset), or a
constraint on the weights (polarised).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from cofit.core import ConfigError
from cofit.structures.formats import four
from cofit.structures.formats.matrix import Order, grouped
from cofit.targets.arrays.spec import LEVELS, Scheme, cells_per_weight


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
            ConfigError: a scheme of other arrays, or fewer than two bits.
        """
        if bits < 2 or scheme not in LEVELS:
            raise ConfigError(
                f"weights of {bits} bits, {scheme!r}; give 2 bits or more and one of "
                f"{', '.join(LEVELS)}"
            )
        return int(cells_per_weight(scheme, bits, self.cell_bits))

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
