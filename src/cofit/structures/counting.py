"""Exact counts: how many units a pruning rate keeps, and which ones."""

from __future__ import annotations

import math
from fractions import Fraction

import torch

from cofit.core import StructureError


def exact(rate: float) -> Fraction:
    """The decimal number a rate is written as: 8.1 is 81/10, not its nearest double."""
    return Fraction(str(float(rate)))


def kept_count(units: int, rate: float, base: Fraction = Fraction(1)) -> int:
    """Units kept at a pruning rate: ceil(units * base / rate), without rounding error.

    Args:
        units: number of removable units (weights, kernels, blocks, channels).
        rate: pruning rate of the whole weight.
        base: pruning rate that holds before any unit is removed (9/4 for 4-entry patterns).
    """
    return math.ceil(units * base / exact(rate))


def observed_rate(units: int, kept: int, base: Fraction = Fraction(1)) -> float:
    """The shortest decimal rate whose `kept_count` is `kept` (at least one unit counts as kept)."""
    kept = max(kept, 1)
    for digits in range(17):
        scale = 10**digits
        rate = float(Fraction(math.ceil(units * base / kept * scale), scale))
        if kept_count(units, rate, base) == kept:
            return rate
    raise AssertionError(f"no double separates {kept} of {units} units")


def require_rate(form: str, rate: float, least: Fraction = Fraction(1)) -> None:
    """Refuse a rate that removes less than nothing.

    Raises:
        StructureError: naming the form, the rate and the least rate.
    """
    if not math.isfinite(rate) or exact(rate) < least:
        raise StructureError(
            f"{form}: rate {rate} is not possible; the rate is 1 / density, "
            f"a number from {rate_text(float(least))} up"
        )


def rate_text(rate: float) -> str:
    """The shortest text that reads back as the same rate: 8.0 -> "8", 2.25 -> "2.25"."""
    return str(float(rate)).removesuffix(".0")


def keep_largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Mark exactly `count` largest entries along the last axis; ties go to the lower index.

    Selection by threshold, then by position among the tied: linear time where a stable sort
    would take n log n.

    Args:
        values: (..., n), without NaN.
        count: 1..n.

    Returns:
        Bool tensor of the shape of `values`.
    """
    n = values.shape[-1]
    if count >= n:
        return torch.ones_like(values, dtype=torch.bool)
    threshold = values.kthvalue(n - count + 1, dim=-1, keepdim=True).values
    above = values > threshold
    tied = values == threshold
    room = count - above.sum(-1, keepdim=True)
    return above | (tied & (tied.cumsum(-1) <= room))


def first_largest(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum and its index along the last axis; ties go to the lower index.

    `torch.argmax` leaves the choice among equal entries open.
    """
    best = values.amax(-1)
    n = values.shape[-1]
    index = torch.arange(n, device=values.device)
    return best, torch.where(values == best[..., None], index, n).amin(-1)
