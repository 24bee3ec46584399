"""Libraries of 3x3 kernel patterns, and how to extract one from trained weights.

Position `i = 3*r + s`; the centre is 4. Pattern i of a library is its i-th mask.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from cofit.core import StructureError
from cofit.structures.counting import first_largest

POSITIONS = 9


@dataclass(frozen=True)
class PatternLibrary:
    """Distinct patterns of equal size.

    Attributes:
        masks: one 9-bit mask per pattern; bit `3*r + s` is kernel position (r, s).
    """

    masks: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.masks:
            raise StructureError("a pattern library needs at least one pattern")
        for mask in self.masks:
            if not 0 < mask < 2**POSITIONS:
                raise StructureError(
                    f"pattern mask {mask:#x} is not a non-empty set of 3x3 positions (9 bits)"
                )
        for i, mask in enumerate(self.masks):
            if mask in self.masks[:i]:
                raise StructureError(
                    f"pattern {positions(mask)} is in the library twice; keep one of them"
                )
            if mask.bit_count() != self.entries:
                raise StructureError(
                    f"pattern {positions(mask)} has {mask.bit_count()} entries, the first "
                    f"{self.entries}; patterns of a library have equal size"
                )

    @staticmethod
    def of(kept: Iterable[Iterable[int]]) -> PatternLibrary:
        """Library of the patterns that keep the given positions, for example [(0, 1, 3, 4)].

        Raises:
            StructureError: a position outside 0..8, a repeated pattern, or unequal sizes.
        """
        masks = []
        for pattern in kept:
            chosen = tuple(pattern)
            if len(set(chosen)) != len(chosen) or not set(chosen) <= set(range(POSITIONS)):
                raise StructureError(f"pattern {chosen}: give distinct positions from 0 to 8")
            masks.append(sum(1 << i for i in chosen))
        return PatternLibrary(tuple(masks))

    @property
    def entries(self) -> int:
        """Positions a pattern keeps."""
        return self.masks[0].bit_count()

    @property
    def name(self) -> str:
        """Name in a structure's text: "pattern8" if known, else the masks, "pattern[1b-b2]"."""
        for name, library in LIBRARIES.items():
            if library == self:
                return name
        return f"pattern[{'-'.join(f'{mask:x}' for mask in self.masks)}]"

    @staticmethod
    def named(name: str) -> PatternLibrary | None:
        """Inverse of `name`; None if the text names no library."""
        if name in LIBRARIES:
            return LIBRARIES[name]
        match = re.fullmatch(r"pattern\[([0-9a-f]+(?:-[0-9a-f]+)*)\]", name)
        return PatternLibrary(tuple(int(m, 16) for m in match[1].split("-"))) if match else None

    def bits(self) -> torch.Tensor:
        """Masks as bool (patterns, 9)."""
        return torch.tensor([[bool(m >> i & 1) for i in range(POSITIONS)] for m in self.masks])


def positions(mask: int) -> tuple[int, ...]:
    """Kernel positions of a mask, ascending."""
    return tuple(i for i in range(POSITIONS) if mask >> i & 1)


ALL_CENTRED = PatternLibrary.of(
    (4, *others) for others in itertools.combinations((0, 1, 2, 3, 5, 6, 7, 8), 3)
)
"""The 56 patterns of four entries with the centre, where extraction starts."""

T_SHAPES = PatternLibrary.of([(1, 3, 4, 5), (1, 3, 4, 7), (1, 4, 5, 7), (3, 4, 5, 7)])
"""Centre and three of its four edge neighbours. Their mean is an enhanced Laplacian of Gaussian.

Source: PCONV (arXiv 1909.05073), sparse convolution patterns.
"""

VGG8 = PatternLibrary.of(
    [
        (3, 6, 7, 8), (5, 6, 7, 8), (0, 1, 2, 3), (0, 1, 2, 5),
        (0, 1, 3, 4), (1, 2, 4, 5), (3, 4, 6, 7), (4, 5, 7, 8),
    ]
)  # fmt: skip
"""Eight four-entry patterns found in an ImageNet VGG-16 (repository 7bvcxz/PatDNN)."""

YOLO13 = PatternLibrary.of(
    sorted(set(range(POSITIONS)) - set(removed))
    for removed in [
        (0, 2, 6, 8), (0, 1, 7, 8), (0, 1, 6, 7), (0, 1, 3, 4), (2, 3, 5, 6),
        (0, 3, 5, 8), (1, 2, 6, 7), (1, 2, 7, 8), (3, 5, 6, 8), (0, 2, 3, 5),
        (4, 5, 7, 8), (3, 4, 6, 7), (1, 2, 4, 5),
    ]
)  # fmt: skip
"""Thirteen five-entry patterns, complements of removed positions (repository nightsnack/YOLObile).

Four of them drop the centre.
"""

CORNERS = PatternLibrary.of([(0, 1, 3, 4), (1, 2, 4, 5), (3, 4, 6, 7), (4, 5, 7, 8)])
"""The 2x2 corners: two horizontal pairs each, which one SMLAD multiplies on Cortex-M."""

CORNERS8 = PatternLibrary(
    CORNERS.masks
    + PatternLibrary.of([(5, 6, 7, 8), (3, 4, 5, 7), (1, 4, 5, 7), (1, 3, 4, 7)]).masks
)
"""The corners and four more (repository hipdac-lab/ICS21-ClickTrain)."""

CORNERS12 = PatternLibrary(
    CORNERS8.masks
    + PatternLibrary.of([(0, 1, 2, 4), (3, 6, 7, 8), (0, 1, 2, 3), (3, 5, 7, 8)]).masks
)
"""And four more (the same source)."""

ALL_OF_FOUR = PatternLibrary.of(itertools.combinations(range(POSITIONS), 4))
"""All 126 patterns of four entries."""

LIBRARIES = {
    "pattern4": T_SHAPES,
    "corner4": CORNERS,
    "corner8": CORNERS8,
    "corner12": CORNERS12,
    "pattern8": VGG8,
    "pattern13": YOLO13,
    "pattern56": ALL_CENTRED,
}


def extract_library(
    weights: Iterable[torch.Tensor], size: int, candidates: PatternLibrary = ALL_CENTRED
) -> PatternLibrary:
    """The most used patterns of a set of layers.

    Every non-zero 3x3 kernel votes for its best candidate, the one that keeps most energy; with
    the default candidates that is the centre and the three largest others (PatDNN). Calling it
    again with the result as candidates shrinks a library during training, 56 to 32 to 16 to 8
    (arXiv 2001.07710).

    Args:
        weights: convolution weights (K, C, 3, 3); others are refused.
        size: patterns to keep; ties go to the earlier candidate.
        candidates: patterns to choose from.

    Raises:
        StructureError: `size` is outside 1..len(candidates), a weight is not 3x3, or all kernels
            are zero.
    """
    _check_size(size, candidates)
    votes = torch.zeros(len(candidates.masks), dtype=torch.int64)
    bits = candidates.bits().double()
    for weight in weights:
        energy = _kernels(weight).double().square().cpu()
        _, best = first_largest(energy[energy.sum(1) > 0] @ bits.T)
        votes += torch.bincount(best, minlength=len(votes))
    if not bool(votes.any()):
        raise StructureError("no non-zero 3x3 kernel to extract a pattern library from")
    order = torch.sort(votes, descending=True, stable=True).indices[:size]
    return PatternLibrary(tuple(candidates.masks[i] for i in order.tolist()))


def covering_library(
    importances: Iterable[torch.Tensor], size: int, candidates: PatternLibrary = ALL_OF_FOUR
) -> PatternLibrary:
    """The patterns that together retain most importance, chosen greedily.

    Every kernel retains what its best chosen pattern covers. The total is monotone and submodular,
    so the greedy choice reaches at least 1 - 1/e of the optimum (Nemhauser et al. 1978).

    Args:
        importances: of each element of the convolution weights (K, C, 3, 3), none negative.
        size: patterns to choose; ties go to the earlier candidate.
        candidates: patterns to choose from.

    Raises:
        StructureError: `size` is outside 1..len(candidates), or a weight is not 3x3.
    """
    _check_size(size, candidates)
    bits = candidates.bits().double().T
    retained = torch.cat([_kernels(each).double().cpu() @ bits for each in importances])
    covered = torch.zeros(len(retained), dtype=torch.float64)
    chosen: list[int] = []
    for _ in range(size):
        gain = (retained - covered[:, None]).clamp_min(0).sum(0)
        gain[chosen] = -1.0  # also where nothing is left to gain, every pattern is chosen once
        _, best = first_largest(gain)
        chosen.append(int(best))
        covered = torch.maximum(covered, retained[:, chosen[-1]])
    return PatternLibrary(tuple(candidates.masks[i] for i in chosen))


def _check_size(size: int, candidates: PatternLibrary) -> None:
    if not 1 <= size <= len(candidates.masks):
        raise StructureError(
            f"a library of {size} patterns; choose 1 to {len(candidates.masks)}, "
            "as many as there are candidates"
        )


def _kernels(weight: torch.Tensor) -> torch.Tensor:
    """(K, C, 3, 3) as (K * C, 9)."""
    if weight.ndim != 4 or tuple(weight.shape[2:]) != (3, 3):
        raise StructureError(f"patterns are 3x3; a weight of shape {tuple(weight.shape)} has none")
    return weight.detach().reshape(-1, POSITIONS)


def observed_library(used: torch.Tensor, most: int = 16) -> PatternLibrary | None:
    """The few shapes that non-zero kernels have, if few they are.

    Args:
        used: bool (kernels, 9), zero set of the non-zero kernels.
        most: patterns a library may have (the papers use 4 to 12).

    Returns:
        The distinct shapes of full size in ascending order of mask; None if there are too many, a
        smaller shape fits in none, or there are fewer than four kernels per pattern as evidence.
    """
    powers = 2 ** torch.arange(POSITIONS, device=used.device)
    shapes = torch.unique((used * powers).sum(1)).tolist()
    size = max((mask.bit_count() for mask in shapes), default=POSITIONS)
    full = tuple(mask for mask in shapes if mask.bit_count() == size)
    if size == POSITIONS or len(full) > most or 4 * len(full) > len(used):
        return None
    if any(all(mask & ~pattern for pattern in full) for mask in shapes):
        return None
    return PatternLibrary(full)
