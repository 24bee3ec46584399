"""Which structure a zero set has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from cofit.core import StructureError
from cofit.structures.contract import Structure
from cofit.structures.library import POSITIONS, observed_library
from cofit.structures.support import Support, density
from cofit.structures.text import family

BLOCKS = ("block32x4", "block32x1", "block16x4", "block16x1")
LIBRARIES = ("pattern4", "corner4", "pattern8", "pattern13")
SCATTERED = ("channel", "nm2:4", "nm1:4")

ACCIDENTAL = 0.05
"""Part of the kept elements that may be zero by accident: a trained float weight almost never is,
an int8 level of a normally distributed channel about once in 100."""


def detect(weight: torch.Tensor, candidates: Sequence[str] | None = None) -> Structure | None:
    """The first candidate form that explains the zeros of a weight, at the rate they show.

    A form explains a zero set if the weight is a member and what the form keeps is non-zero, save
    for `ACCIDENTAL`. Whether it pays to compile the form is a question of cost, not asked here.

    Args:
        weight: (K, C, R, S) or (K, C).
        candidates: names of families, best first; by default the largest block first, then
            patterns by group (the known libraries, then the shapes seen), channels, N:M and
            single weights.

    Returns:
        None if the weight is dense: no candidate explains it, or none removes anything.

    Raises:
        UnknownNameError: an unknown candidate.
        StructureError: a candidate that is not a matter of zeros ("int8").
    """
    shape = tuple(weight.shape)
    filled = int((weight != 0).sum())
    if filled == weight.numel():
        return None
    forms = _default_forms(weight) if candidates is None else map(_form, candidates)
    for form in forms:
        fitted = form.fitted(weight) if form.applies(shape) is None else None
        if fitted is None:
            continue
        found, kept = fitted
        explained = kept < weight.numel() and filled >= (1 - ACCIDENTAL) * kept
        if explained and found.applies(shape) is None:
            return found
    return None


def _form(name: str) -> Support:
    form = family(name)
    structure = form(form.least_rate)
    if not isinstance(structure, Support):
        raise StructureError(f"{name} shows in no zeros; name forms that only remove weights")
    return structure


def _default_forms(weight: torch.Tensor) -> Iterator[Support]:
    yield from map(_form, BLOCKS)
    libraries: list[str] = []
    if weight.ndim == 4 and tuple(weight.shape[2:]) == (3, 3):
        kernels = (weight != 0).reshape(-1, POSITIONS)
        observed = observed_library(kernels[kernels.any(1)])
        libraries = [*LIBRARIES, *([observed.name] if observed else []), "pattern56"]
    yield from (_form(f"{library}g8") for library in libraries)
    yield _form("block8x1")  # after the patterns of 8 filters, which are such blocks too
    yield from (_form(f"{library}g{group}") for group in (4, 1) for library in libraries)
    yield from map(_form, SCATTERED)
    if density(weight) < 1 - ACCIDENTAL:
        yield _form("unstructured")
