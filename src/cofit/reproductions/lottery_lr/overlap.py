"""Does a weight remember where it started? Overlap of the largest weights, with its exact null.

S_p(w) is the set of the p n largest magnitudes of a weight of n elements. For independent weights
the overlap of two such sets of k = p n elements is hypergeometric: X ~ Hypergeom(n, k, k), so

    E X = k^2 / n,    Var X = (k (n - k))^2 / (n^2 (n - 1)).

R_p = X / k is p in the mean, and z = (X - E X) / sqrt(Var X) says how far from chance it is.
Weights of one network have different scales, and a pooled set mostly tells the layers apart: it
overlaps without any memory. So layers are compared each for itself and their counts are summed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from cofit.core import ConfigError, ModelError
from cofit.structures.counting import keep_largest


@dataclass(frozen=True)
class Overlap:
    """Common elements of two sets of largest weights.

    Attributes:
        common: number of elements in both, X.
        kept: elements of each set, k; summed over layers where there are several.
        expected: of X if the weights were independent.
        variance: of X then.
    """

    common: int
    kept: int
    expected: float
    variance: float

    @property
    def ratio(self) -> float:
        """R_p."""
        return self.common / self.kept

    @property
    def z(self) -> float:
        """Distance of X from its expectation in standard deviations; 0 where nothing varies."""
        if self.variance == 0:
            return 0.0
        return (self.common - self.expected) / math.sqrt(self.variance)

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(
            self.common + other.common,
            self.kept + other.kept,
            self.expected + other.expected,
            self.variance + other.variance,
        )


def overlap(a: torch.Tensor, b: torch.Tensor, share: float) -> Overlap:
    """Overlap of the largest weights of two tensors of one shape.

    Args:
        a: any shape.
        b: likewise.
        share: p, in (0, 1); p n is rounded to the nearest element, at least one.

    Raises:
        ConfigError: the share is not in (0, 1).
        ModelError: the shapes differ.
    """
    if not 0 < share < 1:
        raise ConfigError(f"share {share} of largest weights; it must be above 0 and below 1")
    if a.shape != b.shape:
        raise ModelError(
            f"weights of shapes {tuple(a.shape)} and {tuple(b.shape)} have no common elements; "
            "compare one network with itself"
        )
    n = a.numel()
    kept = min(max(round(share * n), 1), n)
    first, second = (keep_largest(w.detach().abs().reshape(-1), kept) for w in (a, b))
    variance = (kept * (n - kept)) ** 2 / (n**2 * (n - 1)) if n > 1 else 0.0
    return Overlap(int((first & second).sum()), kept, kept**2 / n, variance)


def layerwise(
    a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor], share: float
) -> Overlap:
    """Counts of all layers summed, each compared for itself."""
    parts = [overlap(a[name], b[name], share) for name in a]
    return sum(parts[1:], parts[0])


def pooled(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor], share: float) -> Overlap:
    """One set of largest weights over all layers; layers of other scale make it high by itself."""
    first, second = (torch.cat([w[name].reshape(-1) for name in a]) for w in (a, b))
    return overlap(first, second, share)


def moved(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> float:
    """Mean change of magnitude relative to the mean magnitude before."""
    change = sum(float((b[name].abs() - a[name].abs()).abs().sum()) for name in a)
    return change / sum(float(a[name].abs().sum()) for name in a)
