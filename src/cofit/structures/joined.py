"""Pairs of structures that remove weights together, with a joint projection that is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cofit.structures.connectivity import Connectivity
from cofit.structures.contract import Array, Encoding, Structure, Violation
from cofit.structures.formats import Layout
from cofit.structures.pattern import Pattern
from cofit.structures.polarised import Polarised, Rows
from cofit.structures.support import Support

ALLOWED = (
    "join one structure that removes weights with int8 or int4, in that order, "
    "or connectivity with a pattern of group 1 that keeps all kernels, "
    "or rows with polarised of the same fragments"
)


def joined(parts: Sequence[Structure]) -> Support | None:
    """The set of weights that are members of all parts; None if they have no joint storage."""
    match parts:
        case [Support() as alone]:
            return alone
        case [Connectivity() as kernels, Pattern(group=1) as pattern] if pattern.keeps_all:
            return Connected(kernels, pattern)
        case [Rows(m=m, order=order) as rows, Polarised(m=n, order=other) as signs] if (
            m == n and order == other
        ):
            return PolarisedRows(rows, signs)
        case _:
            return None


@dataclass(frozen=True)
class Connected(Support):
    """Kernels chosen by what their best pattern keeps, under the balance of connectivity.

    Exact: patterns of different kernels do not interact, so the energy of a kernel is that of its
    best pattern, and connectivity keeps the largest of those.
    """

    connectivity: Connectivity
    pattern: Pattern

    @property
    def text(self) -> str:
        """Both texts, joined by "+"."""
        return f"{self.connectivity.text}+{self.pattern.text}"

    @property
    def rate(self) -> float:
        """Product of both."""
        return self.connectivity.rate * self.pattern.rate

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of the kept kernels' patterns."""
        return self.pattern.layout_of(shape, self.connectivity.kept(shape))

    def encode_elements(self, weight: Array) -> Encoding:
        """Store as patterns."""
        return self.pattern.encode_elements(weight)

    def _unsuited(self, shape: tuple[int, int, int, int]) -> str | None:
        return self.pattern.applies(shape) or self.connectivity.applies(shape)

    def _mask(self, weight: torch.Tensor) -> torch.Tensor:
        energy, bits = self.pattern.best(weight)
        return self.pattern.mask_of(self.connectivity.select(energy), bits, weight.shape)

    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        return self.pattern.misfit(nonzero) or self.connectivity.check(nonzero)


@dataclass(frozen=True)
class PolarisedRows(Support):
    """Word lines chosen by what their fragments keep when each has one sign (FORMS).

    Exact: a fragment lies within one group of rows, so signs are chosen fragment by fragment, and
    the groups of most remaining energy stay.
    """

    rows: Rows
    polarised: Polarised
    by_zeros = False

    @property
    def text(self) -> str:
        """Both texts, joined by "+"."""
        return f"{self.rows.text}+{self.polarised.text}"

    @property
    def rate(self) -> float:
        """That of the rows; signs are given up, not weights."""
        return self.rows.rate

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of the kept rows."""
        return self.rows.layout(shape)

    def encode_elements(self, weight: Array) -> Encoding:
        """Store the kept rows, signs with the weights."""
        return self.rows.encode_elements(weight)

    def within(self, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The nearest weight with the rows and the signs of `member`."""
        return self.rows.within(member, self.polarised.within(member, weight))

    def check(self, weight: torch.Tensor) -> Violation | None:
        """None if rows are few enough and no fragment holds both signs."""
        return self.rows.check(weight) or self.polarised.check(weight)

    def _mask(self, weight: torch.Tensor) -> torch.Tensor:
        signs = self.polarised.mask(weight)
        return signs & self.rows.mask(torch.where(signs, weight, torch.zeros_like(weight)))

    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        return None  # zeros alone do not tell; `check` looks at rows and signs
