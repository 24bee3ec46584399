"""Filter pairs that are each other's complement, up to a constant.

Source: DDC-PIM (Duan et al., IEEE TCAD 43(3), 2024, arXiv 2310.20424). A 6T SRAM cell holds a bit
and its complement; read on both sides, a stored word u serves one filter as u and another as ~u.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Violation
from cofit.structures.formats import paired
from cofit.structures.support import member_elements, require, require_finite, unsuited_rank

Float64 = NDArray[np.float64]

LARGEST = 127
"""Largest magnitude of an int8 weight, so that every stored word fits 8 bits."""


@dataclass(frozen=True)
class Complementary:
    """Filters 2i and 2i+1 add up to one constant: a_j + b_j = S for all j.

    The last filter of an odd number is free. int8 elements are integers and so is their S; their
    projection is the integer optimum wherever no weight has to be clipped to -127..127. The values
    of a float pair and their S are multiples of one power of two (22 bits below the largest of them
    in float32), so that a + b = S holds exactly.
    """

    by_zeros = False
    couples_filters = True
    """Scaling one filter alone, as folding a normalisation does, leaves the set."""

    approximation = "nearest member, up to rounding in the last two bits of a pair's largest weight"

    @property
    def text(self) -> str:
        """Always "complementary"."""
        return "complementary"

    @property
    def rate(self) -> float:
        """1: nothing is removed; half of the weights follow from the others."""
        return 1.0

    def applies(self, shape: tuple[int, ...]) -> str | None:
        """None for a weight with two filters or more."""
        if reason := unsuited_rank(shape):
            return reason
        return "a pair takes two filters, the weight has one" if shape[0] < 2 else None

    def mask(self, weight: torch.Tensor) -> torch.Tensor:
        """Everything stays trainable."""
        return torch.ones_like(weight, dtype=torch.bool)

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest member: A' = (A - B + S) / 2, B' = S - A' with S the mean of A + B.

        The squared distance is L/2 Var(A + B) for every pair of filters of L weights.

        Raises:
            StructureError: elements are not float32, float64 or int8, or not finite.
        """
        require(self, tuple(weight.shape))
        require_finite(weight)
        if weight.dtype not in (torch.float32, torch.float64, torch.int8):
            raise StructureError(
                f"{self.text} takes float32, float64 or int8 weights, not {weight.dtype}"
            )
        values = weight.detach().double()
        if weight.dtype == torch.int8:
            halves = _integer_pairs(*_pairs(values))
        else:
            halves = _exact_pairs(*_pairs(real_pairs(values)), torch.finfo(weight.dtype).eps)
        result = _joined(values, *halves).to(weight.dtype)
        return result + result.new_zeros(())  # no negative zeros

    def within(self, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The nearest member: the set is one convex piece."""
        return self.project(weight)

    def check(self, weight: torch.Tensor) -> Violation | None:
        """None if all pairs add up to a constant (int8: and all weights lie in -127..127)."""
        require(self, tuple(weight.shape))
        values = weight.detach().double()
        if weight.dtype == torch.int8:
            wide = (values < -LARGEST).nonzero()
            if len(wide):
                return Violation(tuple(wide[0].tolist()), f"-128 is outside -{LARGEST}..{LARGEST}")
        a, b = _pairs(values)
        total = (a + b)[:, :1]
        exact = total if weight.dtype == torch.int8 else total.to(weight.dtype).double()
        off = (a + b != total) | (total - a != b) | (total != exact)
        if not bool(off.any()):
            return None
        pair, place = off.nonzero()[0].tolist()
        where = torch.unravel_index(torch.tensor(place), weight.shape[1:])
        return Violation(
            (2 * pair + 1, *map(int, where)),
            f"filters {2 * pair} and {2 * pair + 1} add up to {(a + b)[pair, place]:g} here and to "
            f"{total[pair, 0]:g} at their first weight",
        )

    def encode(self, weight: Array) -> Encoding:
        """The stored form: half of the weights and one or two constants per pair.

        Raises:
            StructureError: the weight is not a member, or of another element type.
        """
        return paired.encode(member_elements(self, weight))

    def nbytes(self, shape: tuple[int, ...], element_bytes: int) -> int:
        """Bytes of the stored form."""
        require(self, shape)
        return paired.nbytes(shape, element_bytes)


def real_pairs(weight: torch.Tensor) -> torch.Tensor:
    """The nearest real pairs of a weight (K, ...): linear, and differentiable by autograd."""
    a, b = _pairs(weight)
    total = a + b
    # the mean of equal sums is their value to the bit
    total = total[:, :1] + (total - total[:, :1]).mean(1, keepdim=True)
    first = (a - b + total) / 2
    return _joined(weight, first, total - first)


def pair_scale(weight: torch.Tensor, largest: int = LARGEST) -> torch.Tensor:
    """Scale (K,) whose grid spans the largest weight of each pair, float64.

    Rounded up to 16 significant bits, as in `FixedPoint`, so that scale * level is exact.
    """
    top = weight.detach().double().abs().flatten(1).amax(1)
    stop = len(top) // 2 * 2
    top[:stop] = top[:stop].reshape(-1, 2).amax(1).repeat_interleave(2)
    mantissa, exponent = torch.frexp(top / largest)
    scale = torch.ldexp((mantissa * 2**16).ceil(), exponent - 16)
    return torch.where(top > 0, scale.clamp(min=2.0**-110), 1.0)


def pair_levels(weight: torch.Tensor, scale: torch.Tensor, largest: int = LARGEST) -> torch.Tensor:
    """Integer members near weight / scale: float64, shape of `weight`.

    Args:
        weight: (K, ...) any weight; its real projection is taken first.
        scale: one positive number, or (K,) equal within each pair.
        largest: magnitude that levels are clipped to.

    Raises:
        StructureError: the filters of a pair have different scales.
    """
    each = scale.detach().double().expand(len(weight)) if scale.dim() == 0 else scale.double()
    stop = len(weight) // 2 * 2
    unequal = (each[0:stop:2] != each[1:stop:2]).nonzero()
    if len(unequal):
        pair = int(unequal[0])
        raise StructureError(
            f"filters {2 * pair} and {2 * pair + 1} have scales {each[2 * pair]:g} and "
            f"{each[2 * pair + 1]:g}; the filters of a pair share one"
        )
    values = weight.detach().double() / each.reshape(-1, *[1] * (weight.ndim - 1))
    a, b = _pairs(values)
    single = values.round().clamp(-largest, largest)
    return _joined(single, *_integer_pairs(a, b, largest))


class PairGrid:
    """The grid of pairs, as `cofit.ir.quantise` takes it: one scale per pair, and integer pairs."""

    def scales(self, least: Float64) -> Float64:
        """The larger scale of each pair (K,)."""
        found = least.copy()
        stop = len(found) // 2 * 2
        found[:stop] = found[:stop].reshape(-1, 2).max(1).repeat(2)
        return found

    def levels(self, weight: Float64, scales: Float64, largest: int) -> Float64:
        """Integer pairs near weight (K, ...) / scale (K,)."""
        found = pair_levels(torch.from_numpy(weight), torch.from_numpy(scales), largest)
        levels: Float64 = found.numpy()
        return levels


def _pairs(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(K, ...) -> first and second filters (P, L)."""
    flat = values.flatten(1)
    stop = len(flat) // 2 * 2
    return flat[0:stop:2], flat[1:stop:2]


def _joined(weight: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Inverse of `_pairs`, with the unpaired filter of `weight` (K, ...)."""
    flat = torch.stack([first, second], dim=1).flatten(0, 1)
    return torch.cat([flat, weight.flatten(1)[len(flat) :]]).reshape(weight.shape)


def _integer_pairs(
    a: torch.Tensor, b: torch.Tensor, largest: int = LARGEST
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest integer pairs, of the two sums next to the mean the better one.

    For integers a, b the error is sum (s - S)^2 / 2 plus 1/2 for each j where a - b + S is odd, so
    only the parity of S matters beside its distance from the mean: the two neighbours are enough.
    """
    mean = (a + b).mean(1, keepdim=True)
    found = []
    for total in (mean.floor(), mean.ceil()):
        low, high = (total - largest).clamp(min=-largest), (total + largest).clamp(max=largest)
        first = ((a - b + total) / 2).round().clamp(low, high)
        error = ((a - first).square() + (b - total + first).square()).sum(1, keepdim=True)
        found.append((first, total - first, error))
    (a0, b0, error0), (a1, b1, error1) = found
    return torch.where(error1 < error0, a1, a0), torch.where(error1 < error0, b1, b0)


def _exact_pairs(
    a: torch.Tensor, b: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs whose values and sum are multiples of one power of two, few enough to be exact.

    With all magnitudes at most 2^e the step is 2^(e+1) eps: sums up to 2^(e+1) have their bits.
    """
    total = a[:, :1] + b[:, :1]
    top = torch.maximum(a.abs().amax(1, keepdim=True), b.abs().amax(1, keepdim=True))
    mantissa, exponent = torch.frexp(top)
    bound = torch.ldexp(torch.ones_like(top), exponent - (mantissa == 0.5).int())
    bound = torch.where(top > 0, bound, 1.0)
    for _ in range(2):  # rounding may carry a weight past the bound, where steps are twice as wide
        step = 2 * epsilon * bound
        rounded = (total / step).round() * step
        first = (a / step).round() * step
        second = rounded - first
        carried = torch.maximum(first.abs(), second.abs()).amax(1, keepdim=True) > bound
        bound = torch.where(carried, 2 * bound, bound)
    return first, second
