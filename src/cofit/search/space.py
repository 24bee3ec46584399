"""A space of decisions, of which later ones may be limited by earlier ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cofit.core import ConfigError

Candidate = tuple[int, ...]
"""The index of the chosen option of each decision."""


@dataclass(frozen=True)
class Decision:
    """One choice among options.

    Attributes:
        name: unique within its space.
        options: what may be chosen; order is kept.
    """

    name: str
    options: tuple[Hashable, ...]


class Space:
    """Decisions in order, with a mask over the options of the next one.

    Args:
        decisions: at least one, each with at least one option.
        allowed: given the choices made so far, whether each option of the next decision is
            allowed. At least one always must be: a prefix that no choice can complete must be
            masked one decision earlier. None allows all.
        canonical: the representative of all candidates that are the same design; identity where
            None. It must be idempotent and its results allowed.

    Raises:
        ConfigError: no decision, a decision without options, or two of one name.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        allowed: Callable[[Candidate], Sequence[bool]] | None = None,
        canonical: Callable[[Candidate], Candidate] | None = None,
    ) -> None:
        self.decisions = tuple(decisions)
        names = [decision.name for decision in self.decisions]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"decisions {names}; give at least one, each of its own name")
        for decision in self.decisions:
            if not decision.options:
                raise ConfigError(f"decision {decision.name!r} has no options; give at least one")
        self._allowed = allowed
        self._canonical = canonical or (lambda candidate: candidate)

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.decisions)

    @property
    def size(self) -> int:
        """Number of combinations, those that are masked and those that are equal included."""
        return math.prod(len(decision.options) for decision in self.decisions)

    def choices(self, prefix: Candidate) -> list[int]:
        """The options of the next decision that are allowed after `prefix`.

        Raises:
            ConfigError: none is; the space's mask is wrong.
        """
        options = range(len(self.decisions[len(prefix)].options))
        if self._allowed is None:
            return list(options)
        mask = self._allowed(prefix)
        found = [index for index in options if mask[index]]
        if not found:
            name = self.decisions[len(prefix)].name
            raise ConfigError(
                f"no option of {name!r} is allowed after {prefix}; mask an earlier one"
            )
        return found

    def contains(self, candidate: Candidate) -> bool:
        """Whether every choice is allowed after those before it."""
        return len(candidate) == len(self) and all(
            choice in self.choices(candidate[:index]) for index, choice in enumerate(candidate)
        )

    def values(self, candidate: Candidate) -> Mapping[str, Hashable]:
        """Chosen option by decision name."""
        return {d.name: d.options[i] for d, i in zip(self.decisions, candidate, strict=True)}

    def sample(self, generator: np.random.Generator) -> Candidate:
        """Each decision drawn uniformly from what is allowed, then made canonical."""
        return self.repair((), generator)

    def mutate(self, parent: Candidate, rate: float, generator: np.random.Generator) -> Candidate:
        """Each decision drawn anew with probability `rate`, at least one of them."""
        renewed = generator.random(len(self)) < rate
        renewed[generator.integers(len(self))] = True
        wanted = tuple(-1 if new else old for old, new in zip(parent, renewed, strict=True))
        return self.repair(wanted, generator)

    def cross(
        self, first: Candidate, second: Candidate, generator: np.random.Generator
    ) -> Candidate:
        """One-point crossover."""
        cut = int(generator.integers(1, len(self))) if len(self) > 1 else 0
        return self.repair(first[:cut] + second[cut:], generator)

    def repair(self, wanted: Candidate, generator: np.random.Generator) -> Candidate:
        """Keep what is wanted and allowed, draw the rest (-1: no wish), and make it canonical."""
        made: Candidate = ()
        for index in range(len(self)):
            found = self.choices(made)
            wish = wanted[index] if index < len(wanted) else -1
            made += (wish if wish in found else found[generator.integers(len(found))],)
        return self._canonical(made)

    def canonical(self, candidate: Candidate) -> Candidate:
        """The representative of the candidate's design."""
        return self._canonical(candidate)

    def __iter__(self) -> Iterator[Candidate]:
        """All allowed candidates in lexicographic order, equal designs included."""
        return self._completions(())

    def _completions(self, prefix: Candidate) -> Iterator[Candidate]:
        if len(prefix) == len(self):
            yield prefix
            return
        for choice in self.choices(prefix):
            yield from self._completions((*prefix, choice))
