"""What proposes candidates and learns from their outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cofit.core import numpy_generator
from cofit.search.space import Candidate, Space

ATTEMPTS = 1000
"""Draws until a candidate is new; a space that gives none any more repeats itself."""


@dataclass(frozen=True)
class Outcome:
    """What evaluating a candidate gave.

    Attributes:
        score: higher is better; None if the candidate breaks a constraint.
        values: what was found, each under a name with its unit.
        reason: the constraint that was broken; empty if none was.
    """

    score: float | None
    values: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


class Strategy(Protocol):
    """Proposes candidates, one after another.

    A strategy draws from its own seeded generator only, so that the same outcomes lead to the same
    proposals: told a stored history again, it goes on as if it had never stopped.
    """

    def ask(self) -> Candidate:
        """The next candidate."""

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        """The outcome of a candidate that was asked for."""


class RandomSearch:
    """Draws uniformly, without repeating a design while there are new ones."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seen = space, set[Candidate]()
        self._generator = numpy_generator(seed, "random search")

    def ask(self) -> Candidate:
        """A new design."""
        for _ in range(ATTEMPTS):
            candidate = self._space.sample(self._generator)
            if candidate not in self._seen:
                break
        return candidate

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        """Remember it."""
        self._seen.add(candidate)
