"""Weights of one sign per crossbar fragment, and crossbars with fewer word lines.

Source: FORMS (Yuan et al., ISCA 2021, arXiv 2106.09144). A layer is a matrix of N = C*R*S rows and
K columns; a fragment is `m` consecutive rows of one column. Cells hold magnitudes only, so a
fragment whose weights have one sign needs one sign bit and no second crossbar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Violation
from cofit.structures.counting import rate_text, require_rate
from cofit.structures.formats import Layout, four, lines, polar
from cofit.structures.formats.matrix import ORDERS, Order, grouped, groups_of, spread
from cofit.structures.support import Support, UnitSupport, require, require_finite

_LARGEST_FRAGMENT = 128


def _require_fragment(form: str, m: int, order: str) -> None:
    if not 1 <= m <= _LARGEST_FRAGMENT or order not in ORDERS:
        raise StructureError(
            f"{form}: fragments have 1 to {_LARGEST_FRAGMENT} rows, in the order 'c', 'h' or 'w'"
        )


@dataclass(frozen=True)
class Polarised(Support):
    """Every fragment of `m` rows of one column is >= 0 throughout or <= 0 throughout.

    Projection keeps the sign with more energy and zeroes the other entries: exact, with squared
    distance min(E+, E-) per fragment. Equal energies keep the positive ones.

    Attributes:
        m: rows of a fragment; the last one of a column may have fewer.
        order: of the rows, "c" channels fastest, "h" kernel rows, "w" kernel columns.
    """

    m: int
    order: Order = "c"
    by_zeros = False

    def __post_init__(self) -> None:
        _require_fragment(f"polarised{self.m}", self.m, self.order)

    @property
    def text(self) -> str:
        """For example "polarised8", or "polarised8w" in another order than channels fastest."""
        return f"polarised{self.m}{self.order.removeprefix('c')}"

    @property
    def rate(self) -> float:
        """1: signs are given up, not weights."""
        return 1.0

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of polar."""
        return polar.layout(shape, self.m)

    def encode_elements(self, weight: Array) -> Encoding:
        """Store as polar."""
        return polar.encode(weight, self.m, self.order)

    def signs(
        self, weight: torch.Tensor, rule: Literal["energy", "sum"] = "energy"
    ) -> torch.Tensor:
        """Sign (K, G), +1 or -1, that each fragment takes.

        Args:
            weight: (K, C, R, S) or (K, C).
            rule: "energy" gives the nearest member; "sum", the sign of the plain sum, is the
                published rule and is never nearer.
        """
        values = grouped(weight.detach().reshape(four(tuple(weight.shape))), self.m, self.order)
        values = values.double()
        balance = values * values.abs() if rule == "energy" else values
        return torch.where(balance.sum(-1) < 0, -1, 1)

    def clamp(self, weight: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
        """The weight with every entry against its fragment's sign (K, G) at +0."""
        return torch.where(self._agrees(weight, signs), weight, torch.zeros_like(weight))

    def within(self, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The nearest weight whose fragments have the signs of `member` (its convex piece)."""
        return self.clamp(weight, self.signs(member))

    def check(self, weight: torch.Tensor) -> Violation | None:
        """None if no fragment holds both signs (and int8 magnitudes fit 7 bits)."""
        require(self, tuple(weight.shape))
        if weight.dtype == torch.int8 and len(wide := (weight == -128).nonzero()):
            return Violation(tuple(wide[0].tolist()), "magnitude 128 needs 8 bits, cells hold 7")
        values = grouped(weight.detach().reshape(four(tuple(weight.shape))), self.m, self.order)
        mixed = (values > 0).any(-1, keepdim=True) & (values < 0)
        where = spread(mixed, torch.Size(four(tuple(weight.shape))), self.order).nonzero()
        if len(where) == 0:
            return None
        first = tuple(where[0].tolist())
        value = weight[first[: weight.ndim]].item()
        return Violation(
            first[: weight.ndim], f"{value:g} stands in a fragment with positive weights"
        )

    def _agrees(self, weight: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
        shape = torch.Size(four(tuple(weight.shape)))
        each = spread(signs[..., None].expand(-1, -1, self.m), shape, self.order)
        return weight * each.reshape(weight.shape).to(weight.dtype) >= 0

    def _mask(self, weight: torch.Tensor) -> torch.Tensor:
        return self._agrees(weight, self.signs(weight))

    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        return None  # zeros alone break nothing; `check` looks at the signs


def best_order(weight: torch.Tensor, m: int) -> Order:
    """The row order whose projection onto Polarised(m) lies nearest; ties to the earlier of chw."""
    require_finite(weight)

    def distance(order: Order) -> float:
        values = weight.detach().double()
        return float((values - Polarised(m, order).project(values)).square().sum())

    return min(ORDERS, key=distance)


@dataclass(frozen=True)
class Rows(UnitSupport):
    """ceil(groups / rate) groups of `m` consecutive rows (word lines) stay, in all columns.

    Groups, not single rows, so that the fragments of what remains are those of the whole.
    """

    m: int
    rate: float
    order: Order = "c"
    _unit = "row groups"

    def __post_init__(self) -> None:
        _require_fragment(f"rows{self.m}", self.m, self.order)
        require_rate(f"rows{self.m}", self.rate)

    @property
    def text(self) -> str:
        """For example "rows8@2"."""
        return f"rows{self.m}{self.order.removeprefix('c')}@{rate_text(self.rate)}"

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of the kept row groups."""
        return lines.layout(shape, self.m, self.kept(shape))

    def encode_elements(self, weight: Array) -> Encoding:
        """Store the kept row groups."""
        return lines.encode(weight, self.m, self.order)

    def _units(self, shape: tuple[int, int, int, int]) -> int:
        return groups_of(shape, self.m)

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        return grouped(values, self.m, self.order).sum(dim=(0, 2))

    def _spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        marks = units[None, :, None].expand(shape[0], -1, self.m)
        return spread(marks, shape, self.order)
