"""Regularised evolution: tournaments over a population that forgets its oldest members.

Source: Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019,
with one-point crossover added.
"""

from __future__ import annotations

from collections import deque

from cofit.core import ConfigError, numpy_generator
from cofit.search.space import Candidate, Space
from cofit.search.strategy import ATTEMPTS, Outcome


class Evolution:
    """Mutations and crossings of the winners of tournaments.

    Args:
        space: of the candidates.
        seed: of all draws.
        population: members; the first ones are drawn at random.
        tournament: members that compete to be a parent.
        mutation: probability of each decision to be drawn anew.
        crossover: probability of a child of two parents.

    Raises:
        ConfigError: a number is outside its range.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        population: int = 32,
        tournament: int = 8,
        mutation: float = 0.1,
        crossover: float = 0.3,
    ) -> None:
        if not 1 <= tournament <= population:
            raise ConfigError(f"tournament of {tournament}; give 1 to the population {population}")
        if not (0 <= mutation <= 1 and 0 <= crossover <= 1):
            raise ConfigError(f"rates {mutation}, {crossover}; give probabilities from 0 to 1")
        self._space, self._size, self._tournament = space, population, tournament
        self._mutation, self._crossover = mutation, crossover
        self._generator = numpy_generator(seed, "evolution")
        self._members: deque[tuple[float, Candidate]] = deque(maxlen=population)
        self._seen: set[Candidate] = set()

    def ask(self) -> Candidate:
        """A random design while the population grows, then a child that is new if one is found."""
        for _ in range(ATTEMPTS):
            candidate = self._proposal()
            if candidate not in self._seen:
                break
        return candidate

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        """Designs that break a constraint are not asked for again and have no children."""
        self._seen.add(candidate)
        if outcome.score is not None:
            self._members.append((outcome.score, candidate))

    def _proposal(self) -> Candidate:
        if len(self._members) < self._size:
            return self._space.sample(self._generator)
        child = self._parent()
        if self._generator.random() < self._crossover:
            child = self._space.cross(child, self._parent(), self._generator)
        return self._space.mutate(child, self._mutation, self._generator)

    def _parent(self) -> Candidate:
        drawn = self._generator.choice(len(self._members), self._tournament, replace=False)
        return max(self._members[index] for index in drawn)[1]
