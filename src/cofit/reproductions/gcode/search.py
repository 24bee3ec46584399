"""Constraint-based random search of architecture and mapping together, and the sequential way.

Source: A. Zhou et al., "GCoDE", DAC 2024, arXiv 2404.05605.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cofit.core import ConfigError, InfeasibleError, format_quantity
from cofit.graphs.points import Genes
from cofit.graphs.points.coinference import mappings
from cofit.reproductions.gcode.space import DesignSpace
from cofit.search import Candidate, Evaluation, Ledger, Outcome, RandomSearch, explore

DRAWS = 3000
"""Designs drawn in a row that miss the bounds until the search gives up."""


@dataclass(frozen=True)
class Predicted:
    """What is known of a design before its accuracy.

    Attributes:
        latency_s: end to end.
        energy_j: of the device.
    """

    latency_s: float
    energy_j: float = 0.0


Predict = Callable[[Genes], Predicted | None]
"""None: it cannot run, since it does not fit the device's memory."""


@dataclass(frozen=True)
class Objective:
    """Bounds, and what is best within them: alpha accuracy - beta latency / latency bound.

    Attributes:
        latency_s: bound.
        energy_j: bound on the device's energy; None is no bound.
        alpha: weight of the accuracy.
        beta: weight of the latency.

    Raises:
        ConfigError: a bound that is not positive.
    """

    latency_s: float
    energy_j: float | None = None
    alpha: float = 1.0
    beta: float = 0.5

    def __post_init__(self) -> None:
        if self.latency_s <= 0 or (self.energy_j is not None and self.energy_j <= 0):
            raise ConfigError(
                f"bounds of {self.latency_s:g} s and {self.energy_j} J; give positive ones"
            )

    def met(self, found: Predicted | None) -> bool:
        """Whether a design is within the bounds."""
        return (
            found is not None
            and found.latency_s <= self.latency_s
            and (self.energy_j is None or found.energy_j <= self.energy_j)
        )

    def score(self, accuracy: float, latency_s: float) -> float:
        """Higher is better."""
        return self.alpha * accuracy - self.beta * latency_s / self.latency_s


@dataclass(frozen=True)
class Design:
    """A design that was evaluated.

    Attributes:
        genes: operations and transfers.
        accuracy: on the validation part, with shared weights.
        latency_s: predicted.
        energy_j: predicted.
        score: by the objective.
    """

    genes: Genes
    accuracy: float
    latency_s: float
    energy_j: float
    score: float


class WithinBounds:
    """Draws at random, and passes on only what is predicted to meet the bounds.

    Args:
        space: of the designs.
        predict: latency and energy of a design.
        objective: whose bounds.
        seed: of the draws.
    """

    def __init__(
        self, space: DesignSpace, predict: Predict, objective: Objective, seed: int
    ) -> None:
        self._random = RandomSearch(space, seed)
        self._space, self._predict, self._objective = space, predict, objective
        self._least_s = self._least_j = float("inf")
        self.rejected = 0
        """Designs that missed the bounds."""

    def ask(self) -> Candidate:
        """The next design within the bounds.

        Raises:
            InfeasibleError: `DRAWS` in a row missed them.
        """
        for _ in range(DRAWS):
            candidate = self._random.ask()
            found = self._predict(self._space.genes(candidate))
            if self._objective.met(found):
                return candidate
            self.rejected += 1
            self._random.tell(candidate, Outcome(None))
            if found is not None:
                self._least_s = min(self._least_s, found.latency_s)
                self._least_j = min(self._least_j, found.energy_j)
        raise InfeasibleError(
            f"no feasible design: {DRAWS} in a row missed {_bounds(self._objective)}; the tightest "
            f"that can be met is about {format_quantity(self._least_s, 'time')}"
            + (
                ""
                if self._objective.energy_j is None
                else f" and {format_quantity(self._least_j, 'energy')}"
            )
            + ", raise the bound to it"
        )

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        """Remember what was evaluated."""
        self._random.tell(candidate, outcome)


def co_search(
    space: DesignSpace,
    predict: Predict,
    accuracy: Callable[[Genes], float],
    objective: Objective,
    evaluations: int,
    seed: int,
    ledger: Ledger | None = None,
    study: str = "co-search",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Design]:
    """Architecture and mapping drawn together; every evaluated design, the best first.

    Raises:
        InfeasibleError: no design meets the bounds; the text says how tight they can be.
    """

    def evaluate(candidate: Candidate) -> Outcome:
        genes = space.genes(candidate)
        found, right = predict(genes), accuracy(genes)
        assert found is not None
        return _outcome(objective, right, found)

    strategy = WithinBounds(space, predict, objective, seed)
    done = explore(space, strategy, evaluate, evaluations, ledger or Ledger(), study, progress)
    return _ranked(space, done)


def sequential_search(
    space: DesignSpace,
    predict: Predict,
    accuracy: Callable[[Genes], float],
    objective: Objective,
    evaluations: int,
    seed: int,
    ledger: Ledger | None = None,
    study: str = "sequential",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Design | None:
    """The baseline: search an architecture for the device, then the best mapping of it.

    As many accuracies are evaluated as by `co_search`. The architecture is the one of the best
    score if the device ran alone; all its mappings are tried.

    Args:
        space: without transfers.
        predict: see `co_search`.
        accuracy: likewise.
        objective: likewise.
        evaluations: likewise.
        seed: likewise.
        ledger: likewise.
        study: likewise.
        progress: likewise.

    Returns:
        None if no mapping of the architecture meets the bounds.
    """

    def evaluate(candidate: Candidate) -> Outcome:
        genes = space.genes(candidate)
        found = predict(genes)
        if found is None:
            return Outcome(None, reason="out of memory")
        return _outcome(objective, accuracy(genes), found)

    done = explore(
        space, RandomSearch(space, seed), evaluate, evaluations, ledger or Ledger(), study, progress
    )
    ranked = _ranked(space, done)
    if not ranked:
        return None
    chosen = ranked[0]
    placed = []
    for genes in mappings(chosen.genes):
        found = predict(genes)
        if found is not None and objective.met(found):
            score = objective.score(chosen.accuracy, found.latency_s)
            placed.append(Design(genes, chosen.accuracy, found.latency_s, found.energy_j, score))
    return max(placed, key=lambda design: design.score, default=None)


def first_within(
    designs: Sequence[Design], objective: Objective, measured: Sequence[Predicted]
) -> tuple[Design, Predicted]:
    """The best design that meets the bounds when it is run, and what was measured.

    Args:
        designs: the best first.
        objective: whose bounds.
        measured: of each design.

    Raises:
        InfeasibleError: none does.
    """
    for design, found in zip(designs, measured, strict=True):
        if objective.met(found):
            return design, found
    least_s = min(found.latency_s for found in measured)
    raise InfeasibleError(
        f"no feasible design: none of {len(designs)} met {_bounds(objective)} when measured; the "
        f"lowest latency was {format_quantity(least_s, 'time')}, raise the bound to it"
    )


def pareto(designs: list[Design]) -> list[Design]:
    """Designs of which no other is both faster and as accurate; the fastest first."""
    found: list[Design] = []
    for design in sorted(designs, key=lambda d: (d.latency_s, -d.accuracy)):
        if not found or design.accuracy > found[-1].accuracy:
            found.append(design)
    return found


def _outcome(objective: Objective, accuracy: float, found: Predicted) -> Outcome:
    values = {"accuracy": accuracy, "latency_s": found.latency_s, "energy_j": found.energy_j}
    return Outcome(objective.score(accuracy, found.latency_s), values)


def _ranked(space: DesignSpace, done: list[Evaluation]) -> list[Design]:
    found = [
        Design(
            space.genes(each.candidate), each.outcome.values["accuracy"],
            each.outcome.values["latency_s"], each.outcome.values["energy_j"], each.outcome.score,
        )
        for each in done
        if each.outcome.score is not None
    ]  # fmt: skip
    return sorted(found, key=lambda design: -design.score)


def _bounds(objective: Objective) -> str:
    text = f"latency <= {format_quantity(objective.latency_s, 'time')}"
    if objective.energy_j is not None:
        text += f", energy <= {format_quantity(objective.energy_j, 'energy')}"
    return text
