"""Structures that only choose which weights stay: masks, and everything that follows from a mask.

`Support` turns a mask into projection, check, encoding and bytes. `UnitSupport` is the common case
of equal rights: the weight falls into units, and the units of largest energy stay. Zeroing the
units of least energy is the exact Euclidean projection, since dist^2 is the energy zeroed.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, runtime_checkable

import numpy as np
import torch

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Structure, Violation
from cofit.structures.counting import keep_largest, kept_count, observed_rate
from cofit.structures.formats import Layout, four

if TYPE_CHECKING:
    from cofit.structures.composition import Composition


def unsuited_rank(shape: tuple[int, ...]) -> str | None:
    """None for a convolution or linear weight, else why a tensor of this shape is neither."""
    if len(shape) not in (2, 4) or 0 in shape:
        return "weights are (K, C, R, S) or (K, C), no dimension empty"
    return None


def require(structure: Structure, shape: tuple[int, ...]) -> None:
    """Refuse a shape to which a structure does not apply.

    Raises:
        StructureError: naming the structure, the shape and the reason.
    """
    reason = structure.applies(shape)
    if reason is not None:
        raise StructureError(f"{structure.text} does not fit a weight of shape {shape}: {reason}")


def require_finite(weight: torch.Tensor) -> None:
    """Refuse a weight without a nearest member.

    Raises:
        StructureError: the weight holds NaN or infinity.
    """
    if not bool(torch.isfinite(weight).all()):
        raise StructureError(
            "the weight holds NaN or infinite values; find the training step that made them"
        )


def member_elements(structure: Structure, weight: Array) -> Array:
    """A member ready to be stored: negative zeros become zeros, everything else is unchanged.

    Raises:
        StructureError: elements are neither float32 nor int8, or the weight is not a member.
    """
    if weight.dtype not in (np.float32, np.int8):
        raise StructureError(f"cannot encode {weight.dtype} elements; give float32 or int8")
    require(structure, weight.shape)
    elements: Array = np.ascontiguousarray(weight + weight.dtype.type(0))
    violation = structure.check(torch.from_numpy(elements))
    if violation is not None:
        raise StructureError(
            f"the weight is not {structure.text}, {violation}; project it before encoding"
        )
    return elements


class Support(ABC):
    """A set of weights given by where they may be non-zero.

    Required to implement: `text`, `rate`, `layout`, `encode_elements`, `_mask`, `_violation`, and
    `fitted` if zero sets can show it. What you get: the Structure contract, `mask` and `a + b`.
    """

    by_zeros = True
    """Whether any values on a member's support are members too; see `holds_by_zeros`."""

    approximation: str | None = None
    """None where `project` is the exact Euclidean projection, else what it does instead."""

    @property
    @abstractmethod
    def text(self) -> str:
        """Canonical name, read back by `parse`."""

    if TYPE_CHECKING:  # dataclasses would take an inherited property for the field's default

        @property
        def rate(self) -> float:
            """Nominal pruning rate, 1 / density."""

    def applies(self, shape: tuple[int, ...]) -> str | None:
        """None if a weight of this shape can carry the structure, else the reason it cannot."""
        return unsuited_rank(shape) or self._unsuited(four(shape))

    def mask(self, weight: torch.Tensor) -> torch.Tensor:
        """Where a weight nearest to `weight` may be non-zero: bool, shape of `weight`.

        Exactly the units the rate allows are marked, even those whose weights happen to be zero.

        Raises:
            StructureError: the shape is unsuited, or values are not finite.
        """
        require(self, tuple(weight.shape))
        require_finite(weight)
        with torch.no_grad():
            elements = weight.detach().reshape(four(tuple(weight.shape)))
            return self._mask(elements).reshape(weight.shape)

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest member; removed weights are +0.

        Raises:
            StructureError: the shape is unsuited, or values are not finite.
        """
        return torch.where(self.mask(weight), weight, torch.zeros_like(weight))

    def within(self, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The nearest weight on the support of `member`, which is a convex piece of the set."""
        return torch.where(self.mask(member), weight, torch.zeros_like(weight))

    def check(self, weight: torch.Tensor) -> Violation | None:
        """None if the weight is a member, else the first place where it is not."""
        require(self, tuple(weight.shape))
        violation = self._violation(weight.detach().reshape(four(tuple(weight.shape))) != 0)
        return violation and Violation(violation.where[: weight.ndim], violation.reason)

    def encode(self, weight: Array) -> Encoding:
        """The stored form of a float32 or int8 member.

        `decode` gives the same bits, except that a negative zero reads as zero.

        Raises:
            StructureError: the weight is not a member, or of another element type.
        """
        return self.encode_elements(member_elements(self, weight))

    def nbytes(self, shape: tuple[int, ...], element_bytes: int) -> int:
        """Bytes of the stored form of a projected weight without accidental zeros."""
        require(self, shape)
        return self.layout(shape).nbytes(element_bytes)

    def __add__(self, other: Structure) -> Composition:
        """`a + b`; see Composition for what may be joined."""
        from cofit.structures.composition import Composition  # it builds on this module

        return Composition((self, other))

    @abstractmethod
    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Closed form of the stored bytes, for a shape that applies."""

    @abstractmethod
    def encode_elements(self, weight: Array) -> Encoding:
        """Store a weight known to be a member, free of negative zeros."""

    def fitted(self, weight: torch.Tensor) -> tuple[Self, int] | None:
        """The same form at the rate that the zeros of `weight` show, and the elements it keeps.

        None if the zeros break the form, or the form does not follow from zeros.
        """
        return None

    def _unsuited(self, shape: tuple[int, int, int, int]) -> str | None:
        """Reason against a (K, C, R, S) shape."""
        return None

    @abstractmethod
    def _mask(self, weight: torch.Tensor) -> torch.Tensor:
        """Mask of a (K, C, R, S) weight."""

    @abstractmethod
    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        """First offence of a (K, C, R, S) zero set."""


class UnitSupport(Support):
    """Keeps ceil(units / rate) units of largest energy. Subclasses are frozen dataclasses."""

    _unit = "units"

    def kept(self, shape: tuple[int, ...]) -> int:
        """Units kept in a weight of this shape, exactly."""
        return kept_count(self._units(four(shape)), self.rate)

    def select(self, energy: torch.Tensor) -> torch.Tensor:
        """Mark the units that stay, given the energy of each unit."""
        count = kept_count(energy.numel(), self.rate)
        return keep_largest(energy.reshape(-1), count).reshape(energy.shape)

    def fitted(self, weight: torch.Tensor) -> tuple[Self, int]:
        """The same form at the rate that the zeros of `weight` show, and the elements it keeps."""
        nonzero = weight.reshape(four(tuple(weight.shape))) != 0
        used = self._used(nonzero)
        rate = observed_rate(used.numel(), int(used.sum()))
        replaced: Self = dataclasses.replace(cast(Any, self), rate=rate)
        return replaced, int(self._spread(used, nonzero.shape).sum())

    def _mask(self, weight: torch.Tensor) -> torch.Tensor:
        return self._spread(self.select(self._sums(weight.double().square())), weight.shape)

    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        return self._excess(self._used(nonzero), nonzero)

    def _used(self, nonzero: torch.Tensor) -> torch.Tensor:
        return self._sums(nonzero.float()) > 0

    def _excess(self, used: torch.Tensor, nonzero: torch.Tensor) -> Violation | None:
        allowed = self.kept(tuple(nonzero.shape))
        count = int(used.sum())
        if count <= allowed:
            return None
        surplus = used & (used.reshape(-1).cumsum(0).reshape(used.shape) > allowed)
        where = (self._spread(surplus, nonzero.shape) & nonzero).nonzero()[0]
        return Violation(
            tuple(where.tolist()), f"{count} {self._unit} are not zero, {allowed} are allowed"
        )

    @abstractmethod
    def _units(self, shape: tuple[int, int, int, int]) -> int:
        """Number of units in a weight of this shape."""

    @abstractmethod
    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of (K, C, R, S) values over each unit, in storage order."""

    @abstractmethod
    def _spread(self, units: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Inverse of `_sums` for marks: each element takes the mark of its unit."""


@runtime_checkable
class Masked(Protocol):
    """A structure that knows where it may be non-zero, not only where it is."""

    def mask(self, weight: torch.Tensor) -> torch.Tensor:
        """Bool, shape of `weight`."""
        ...


def support(structure: Structure, weight: torch.Tensor) -> torch.Tensor:
    """Weights that stay trainable after projection: bool, shape of `weight`.

    A zero inside a kept block stays trainable, which `project(weight) != 0` would miss.
    """
    if isinstance(structure, Masked):
        return structure.mask(weight)
    return structure.project(weight) != 0


@runtime_checkable
class Pieced(Protocol):
    """A structure that knows the convex piece of its set around a member."""

    def within(self, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The weight of the piece of `member` nearest to `weight`."""
        ...


def within(structure: Structure, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The nearest weight that shares the choices a member has made: its support, its signs.

    Training that stays within one piece never jumps, whereas `project` may choose anew.
    """
    if isinstance(structure, Pieced):
        return structure.within(member, weight)
    return torch.where(support(structure, member), weight, torch.zeros_like(weight))


def holds_by_zeros(structure: Structure) -> bool:
    """Whether any values on the support of a member are members too, a grid set aside.

    False for sets of values: signs (Polarised), sums of filters (Complementary).
    """
    return bool(getattr(structure, "by_zeros", True))


def couples_filters(structure: Structure) -> bool:
    """Whether scaling one filter alone, as folding a normalisation does, leaves the set."""
    return any(
        bool(getattr(part, "couples_filters", False))
        for part in getattr(structure, "parts", (structure,))
    )


def density(weight: torch.Tensor) -> float:
    """Fraction of non-zero elements."""
    return int((weight != 0).sum()) / weight.numel()


def kept_fraction(structure: Structure, weight: torch.Tensor) -> float:
    """Fraction of elements a structure keeps of `weight`, accidental zeros included."""
    return int(support(structure, weight).sum()) / weight.numel()
