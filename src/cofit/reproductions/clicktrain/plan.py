"""Which kernels and patterns stay: ClickTrain's percentages and libraries as structures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch

from cofit.core import StructureError
from cofit.regimes.prune_in_training import Chooser
from cofit.structures import Connectivity, Pattern, PatternLibrary, Structure, covering_library
from cofit.structures.counting import observed_rate

EVERY_KERNEL = 1
"""Filters that share a pattern: none, as in the paper."""


def removed_kernels(percent: float, kernels: int) -> int:
    """ceil(P * K * C / 100), exactly.

    Raises:
        StructureError: the percentage is not in [0, 100), or nothing would stay.
    """
    if not 0 <= percent < 100:
        raise StructureError(f"{percent} % of the kernels; prune from 0 to less than 100")
    removed = math.ceil(Fraction(str(float(percent))) * kernels / 100)
    if removed >= kernels:
        raise StructureError(f"{percent} % of {kernels} kernels are all of them; prune less")
    return removed


def connectivity(percent: float, shape: tuple[int, ...]) -> Connectivity:
    """Removes exactly that share of the kernels of a weight (of the weights, if it is 1x1)."""
    kernels = shape[0] * shape[1]
    return Connectivity(observed_rate(kernels, kernels - removed_kernels(percent, kernels)))


def joint(percent: float, shape: tuple[int, ...], library: PatternLibrary) -> Pattern:
    """Connectivity and pattern in one, as a program stores them."""
    kernels = shape[0] * shape[1]
    kept = kernels - removed_kernels(percent, kernels)
    base = Fraction(9, library.entries)
    return Pattern(library, EVERY_KERNEL, observed_rate(kernels, kept, base))


def parts(percent: float, shape: tuple[int, ...], library: PatternLibrary) -> tuple[Structure, ...]:
    """Connectivity, and for a 3x3 weight the pattern that every kernel gets, removed or not."""
    kernels = connectivity(percent, shape)
    if len(shape) == 2 or shape[2:] == (1, 1):
        return (kernels,)
    return kernels, Pattern(library, EVERY_KERNEL, 9 / library.entries)


def chooser(percents: Mapping[str, float], library: PatternLibrary | int) -> Chooser:
    """What `PruneInTraining` chooses by.

    Args:
        percents: of the kernels to remove, by weight name.
        library: of patterns; a number makes one of that size from the importance, greedily.
    """

    def choose(importance: Mapping[str, torch.Tensor]) -> dict[str, tuple[Structure, ...]]:
        if isinstance(library, int):
            found = [i for name, i in importance.items() if i.shape[2:] == (3, 3)]
            patterns = covering_library(found, library)
        else:
            patterns = library
        chosen = {}
        for name, percent in percents.items():
            try:
                chosen[name] = parts(percent, tuple(importance[name].shape), patterns)
            except StructureError as error:
                raise StructureError(f"{name!r}: {error}") from None
        return chosen

    return choose
