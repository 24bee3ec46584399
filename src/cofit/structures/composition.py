"""Two structures at once: "connectivity@3.6+pattern8g1@2.25", "block16x1@4+int8"."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Structure, Violation
from cofit.structures.fixed_point import FixedPoint
from cofit.structures.joined import ALLOWED, joined
from cofit.structures.support import Support, member_elements, require, unsuited_rank


@dataclass(frozen=True)
class Composition:
    """A weight that is a member of every part.

    Parts are [connectivity and pattern | rows and polarised | one structure that removes weights],
    then perhaps FixedPoint; a pattern given before its connectivity, or polarised before its rows,
    is the same set and is put behind. Projection of such pairs is joint and exact (see `joined`).
    With FixedPoint it chooses the support first and rounds second: exact where kept weights are
    compared within one channel only (N:M), since what rounding keeps of a weight grows with its
    magnitude; elsewhere a unit of less energy may lie closer to its grid, and the squared distance
    exceeds the least one by at most the sum of (scale / 2)^2 over kept weights.

    Raises:
        StructureError: parts that have no joint storage.
    """

    parts: tuple[Structure, ...]

    def __post_init__(self) -> None:
        flat: list[Structure] = []
        for part in self.parts:
            flat.extend(part.parts if isinstance(part, Composition) else [part])
        if len(flat) > 1 and joined(flat[:2]) is None and joined(flat[1::-1]) is not None:
            flat[:2] = flat[1::-1]
        object.__setattr__(self, "parts", tuple(flat))
        if len(flat) < 2 or joined(self._removing) is None:
            raise StructureError(f"cannot join {self.text}; {ALLOWED}")

    @property
    def text(self) -> str:
        """Texts of the parts, joined by "+"."""
        return "+".join(part.text for part in self.parts)

    @property
    def rate(self) -> float:
        """Product of the parts' rates."""
        return math.prod(part.rate for part in self.parts)

    @property
    def by_zeros(self) -> bool:
        """Whether any values on a member's support are members too, the grid set aside."""
        return self._support.by_zeros

    @property
    def approximation(self) -> str | None:
        """None where projection is exact."""
        return None if self._grid is None else "support first, then the grid of what is kept"

    @property
    def _removing(self) -> tuple[Structure, ...]:
        return self.parts if self._grid is None else self.parts[:-1]

    @functools.cached_property
    def _support(self) -> Support:
        support = joined(self._removing)
        assert support is not None  # __post_init__ has refused it
        return support

    @property
    def _grid(self) -> FixedPoint | None:
        last = self.parts[-1]
        return last if isinstance(last, FixedPoint) else None

    def applies(self, shape: tuple[int, ...]) -> str | None:
        """None if every part applies, else the first reason."""
        return unsuited_rank(shape) or self._support.applies(shape)

    def mask(self, weight: torch.Tensor) -> torch.Tensor:
        """Where the removing parts let a weight be non-zero: bool, shape of `weight`."""
        return self._support.mask(weight)

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        """A member near `weight`; see the class for how near."""
        kept = self._support.project(weight)
        return kept if self._grid is None else self._grid.project(kept)

    def within(self, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The nearest weight of the convex piece of `member`, not rounded to a grid."""
        return self._support.within(member, weight)

    def check(self, weight: torch.Tensor) -> Violation | None:
        """None if the weight is a member of every part."""
        violation = self._support.check(weight)
        if violation is None and self._grid is not None:
            violation = self._grid.check(weight)
        return violation

    def encode(self, weight: Array) -> Encoding:
        """The format of the removing parts, its values on the grid.

        Raises:
            StructureError: the weight is not a member, or of another element type.
        """
        elements = member_elements(self, weight)
        if self._grid is None:
            return self._support.encode_elements(elements)
        return self._grid.store(elements, self._support.encode_elements)

    def nbytes(self, shape: tuple[int, ...], element_bytes: int) -> int:
        """Bytes of the stored form of a projected weight without accidental zeros."""
        require(self, shape)
        layout = self._support.layout(shape)
        if self._grid is None:
            return layout.nbytes(element_bytes)
        return self._grid.stored_bytes(layout, shape[0], element_bytes)

    def __add__(self, other: Structure) -> Composition:
        """The same with one part more."""
        return Composition((*self.parts, other))
