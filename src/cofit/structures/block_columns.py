"""Block-based structured pruning of matrices: columns of blocks, then rows.

After P. Dong, S. Wang, W. Niu et al., "RTMobile: Beyond Real-Time Mobile Acceleration of RNNs for
Speech Recognition", DAC 2020, arXiv 2002.11474. The method is the subject of US patent 12626131;
this is an independent form of the general block-sparse idea.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch.nn.functional import pad

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Violation
from cofit.structures.counting import exact, keep_largest, rate_text, require_rate
from cofit.structures.formats import Layout, bspc
from cofit.structures.support import Support


@dataclass(frozen=True)
class BlockColumns(Support):
    """Each block keeps as many of its columns as any other, then each stripe as many of its rows.

    The matrix is cut into stripes of `stripe` rows and each of these into blocks of `width`
    columns. Step 1 keeps round(width * row_rate / rate) columns per block, those of largest
    energy. Step 2 removes round(R * (1 - 1 / row_rate)) of all R rows, those of least energy,
    spread evenly over the stripes, so that no gate of a recurrent layer loses more than another.
    A removed row leaves its output at the bias.

    Attributes:
        stripe: rows of a stripe, which share their columns.
        width: columns of a block.
        rate: of both steps together.
        row_rate: of step 2.
    """

    stripe: int
    width: int
    rate: float
    row_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.stripe < 1 or self.width < 1:
            raise StructureError(f"{self._form}: stripes and blocks have at least 1 row and column")
        require_rate(f"{self._form}: rows", self.row_rate)
        require_rate(self._form, self.rate, exact(self.row_rate))

    @property
    def text(self) -> str:
        """For example "bsp64x128@10", or "bsp64x128r1.25@20" where rows go at 1.25."""
        return f"{self._form}@{rate_text(self.rate)}"

    @property
    def approximation(self) -> str | None:  # type: ignore[override]
        """None where only columns are removed."""
        return None if self.row_rate == 1 else "columns first, then rows of what they leave"

    @property
    def columns(self) -> BlockColumns:
        """Step 1 alone."""
        return replace(self, rate=float(exact(self.rate) / exact(self.row_rate)), row_rate=1.0)

    def rows_kept(self, rows: int) -> list[int]:
        """Rows that each stripe keeps of a matrix of so many."""
        removed = _round(rows * (1 - 1 / exact(self.row_rate)))
        ends = [min(end, rows) for end in range(0, rows + self.stripe, self.stripe)]
        gone = [removed * end // rows for end in ends]
        return [b - a - (h - g) for a, b, g, h in zip(ends, ends[1:], gone, gone[1:], strict=False)]

    def columns_kept(self, columns: int) -> list[int]:
        """Columns that each block of a stripe keeps of a matrix of so many."""
        widths = [min(self.width, columns - at) for at in range(0, columns, self.width)]
        return [_round(width * exact(self.row_rate) / exact(self.rate)) for width in widths]

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of bspc."""
        columns = sum(self.columns_kept(shape[1]))
        return bspc.layout(shape, [(n, columns if n else 0) for n in self.rows_kept(shape[0])])

    def encode_elements(self, weight: Array) -> Encoding:
        """Store as bspc."""
        return bspc.encode(weight, self.stripe)

    @property
    def _form(self) -> str:
        rows = "" if self.row_rate == 1 else f"r{rate_text(self.row_rate)}"
        return f"bsp{self.stripe}x{self.width}{rows}"

    def _unsuited(self, shape: tuple[int, int, int, int]) -> str | None:
        rows, columns, r, s = shape
        if r * s > 1:
            return f"it is for matrices; use block{self.stripe}x1 on a convolution"
        if self.stripe > rows:
            return f"a stripe has {self.stripe} rows, the weight {rows}"
        if max(self.columns_kept(columns)) < 1:
            return f"at rate {rate_text(self.rate)} a block of {self.width} columns keeps none"
        if max(self.rows_kept(rows)) < 1:
            return f"at row rate {rate_text(self.row_rate)} a stripe of {self.stripe} keeps no row"
        return None

    def _mask(self, weight: torch.Tensor) -> torch.Tensor:
        rows, columns = weight.shape[:2]
        energy = weight.reshape(rows, columns).double().square()
        stripes = math.ceil(rows / self.stripe)
        by_stripe = pad(energy, (0, 0, 0, stripes * self.stripe - rows))
        by_stripe = by_stripe.reshape(stripes, self.stripe, columns)
        sums = by_stripe.sum(dim=1)
        blocks = zip(sums.split(self.width, 1), self.columns_kept(columns), strict=True)
        chosen = torch.cat([_largest(block, count) for block, count in blocks], 1)
        left = (by_stripe * chosen[:, None]).sum(dim=2)  # of each row: (stripes, rows of a stripe)
        left[-1, rows - (stripes - 1) * self.stripe :] = -1  # padding is no row
        counts = self.rows_kept(rows)
        kept = torch.stack([_largest(row, n) for row, n in zip(left, counts, strict=True)])
        marks = kept[:, :, None] & chosen[:, None]
        return marks.reshape(-1, columns)[:rows].reshape(weight.shape)

    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        rows, columns = nonzero.shape[:2]
        matrix = nonzero.reshape(rows, columns)
        for i, (part, allowed) in enumerate(
            zip(matrix.split(self.stripe), self.rows_kept(rows), strict=True)
        ):
            used_rows, used = part.any(1), part.any(0)
            if int(used_rows.sum()) > allowed:
                row = int(used_rows.nonzero()[allowed])
                column = int(part[row].nonzero()[0])
                return Violation(
                    (i * self.stripe + row, column, 0, 0),
                    f"{int(used_rows.sum())} rows of stripe {i} are not zero, {allowed} may be",
                )
            for j, (block, most) in enumerate(
                zip(used.split(self.width), self.columns_kept(columns), strict=True)
            ):
                if int(block.sum()) > most:
                    column = j * self.width + int(block.nonzero()[most])
                    row = int(part[:, column].nonzero()[0])
                    return Violation(
                        (i * self.stripe + row, column, 0, 0),
                        f"{int(block.sum())} columns of block {j} of stripe {i} are not zero, "
                        f"{most} may be",
                    )
        return None


def _round(value: Fraction) -> int:
    """To the nearest integer, halves up."""
    return math.floor(value + Fraction(1, 2))


def _largest(values: torch.Tensor, count: int) -> torch.Tensor:
    return keep_largest(values, count) if count else torch.zeros_like(values, dtype=torch.bool)
