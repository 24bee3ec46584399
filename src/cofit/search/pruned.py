"""Every candidate that is not provably useless: depth first, with branches cut by lower bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.search.space import Candidate, Space

Reals = NDArray[np.float64]
Bound = Callable[[Candidate], Sequence[float]]
"""Of a prefix: per objective a number that no candidate beginning with it is below."""
CHUNK = 512
"""Candidates that are evaluated at once."""


@dataclass(frozen=True)
class Pruned:
    """What a pruned search found and how much it did.

    Attributes:
        front: feasible candidates that no other feasible one dominates, in lexicographic order; of
            equal objectives the first.
        objectives: of each, smaller is better.
        visited: prefixes and candidates that were looked at.
        evaluated: candidates among them.
        feasible: of these, within the limits.
    """

    front: tuple[Candidate, ...]
    objectives: tuple[tuple[float, ...], ...]
    visited: int
    evaluated: int
    feasible: int


def depth_first(
    space: Space,
    evaluate: Callable[[Sequence[Candidate]], Reals],
    limits: Sequence[float],
    bound: Bound | None = None,
) -> Pruned:
    """The Pareto front of a space under limits, the same as if all of it were evaluated.

    A branch is cut where its bound is above a limit, or where a candidate of the front is nowhere
    above the bound. Without a bound nothing is cut.

    Args:
        space: of the candidates; masked ones do not exist.
        evaluate: (m, objectives) of m candidates; smaller is better.
        limits: per objective; infinity for none.
        bound: see `Bound`.

    Raises:
        ConfigError: as many limits as objectives were not given.
    """
    search = _Search(space, evaluate, np.asarray(limits, float), bound)
    search.descend(())
    search.settle()
    order = sorted(range(len(search.front)), key=lambda i: search.front[i])
    return Pruned(
        tuple(search.front[i] for i in order),
        tuple(tuple(map(float, search.values[i])) for i in order),
        search.visited,
        search.evaluated,
        search.feasible,
    )


class _Search:
    def __init__(
        self,
        space: Space,
        evaluate: Callable[[Sequence[Candidate]], Reals],
        limits: Reals,
        bound: Bound | None,
    ) -> None:
        self._space, self._evaluate, self._limits, self._bound = space, evaluate, limits, bound
        self.front: list[Candidate] = []
        self.values = np.empty((0, len(limits)))
        self._open: list[Candidate] = []
        self.visited = self.evaluated = self.feasible = 0

    def descend(self, prefix: Candidate) -> None:
        """Look at a prefix and all that begins with it, unless it is cut."""
        self.visited += 1
        if self._bound is not None:
            least = np.asarray(self._bound(prefix), float)
            if (least > self._limits).any() or (self.values <= least).all(1).any():
                return
        if len(prefix) == len(self._space):
            self._open.append(prefix)
            if len(self._open) >= CHUNK:
                self.settle()
            return
        for choice in self._space.choices(prefix):
            self.descend((*prefix, choice))

    def settle(self) -> None:
        """Evaluate what is open and renew the front."""
        if not self._open:
            return
        found = np.asarray(self._evaluate(self._open), float)
        if found.shape != (len(self._open), len(self._limits)):
            raise ConfigError(
                f"{len(self._limits)} limits for objectives of shape {found.shape}; give one "
                "per objective"
            )
        self.evaluated += len(found)
        within: NDArray[np.bool_] = np.all(found <= self._limits, axis=1)
        self.feasible += int(within.sum())
        candidates = [*self.front, *(self._open[i] for i in np.flatnonzero(within))]
        values = np.concatenate([self.values, found[within]])
        kept = pareto(values)
        self.front = [candidates[i] for i in kept]
        self.values = values[kept]
        self._open = []


def pareto(values: Reals) -> list[int]:
    """Rows of (m, objectives) that no other row dominates; of equal rows the first."""
    kept: list[int] = []
    best = np.empty((0, values.shape[1]))
    # whatever dominates a row comes before it in lexicographic order
    for index in np.lexsort([*values.T[::-1]]):
        if not (best <= values[index]).all(1).any():
            kept.append(int(index))
            best = np.concatenate([best, values[index : index + 1]])
    return sorted(kept)
