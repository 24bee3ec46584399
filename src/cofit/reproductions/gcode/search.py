"""Constraint-based random search of architecture and mapping together.

Architectures are drawn. Their mapping is not: it changes no accuracy, so that all mappings of an
architecture can be judged by the table of operations, and the best one stands for it. Drawing the
mapping too, as published, found worse designs with as many accuracies on a modelled machine.

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


class Placer:
    """The best mapping of an architecture, each found once.

    Args:
        quick: latency and energy of a design, by the table of operations.
        objective: the fastest mapping within its bounds is the best, or the fastest of all.
    """

    def __init__(self, quick: Predict, objective: Objective) -> None:
        self._quick, self._objective = quick, objective
        self._found: dict[Genes, Genes | None] = {}

    def __call__(self, genes: Genes) -> Genes | None:
        """None if the device's memory holds no mapping."""
        if genes not in self._found:
            known = [(design, self._quick(design)) for design in mappings(genes)]
            fitting = [(design, found) for design, found in known if found is not None]
            within = [pair for pair in fitting if self._objective.met(pair[1])]
            best = min(within or fitting, key=lambda pair: pair[1].latency_s, default=None)
            self._found[genes] = None if best is None else best[0]
        return self._found[genes]


class WithinBounds:
    """Draws at random, and passes on only what is predicted to meet the bounds when placed best.

    Args:
        space: of architectures.
        place: the best mapping of one.
        predict: latency and energy of a design.
        objective: whose bounds.
        seed: of the draws.
    """

    def __init__(
        self,
        space: DesignSpace,
        place: Placer,
        predict: Predict,
        objective: Objective,
        seed: int,
    ) -> None:
        self._random = RandomSearch(space, seed)
        self._space, self._place, self._predict = space, place, predict
        self._objective = objective
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
            placed = self._place(self._space.genes(candidate))
            found = None if placed is None else self._predict(placed)
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
    quick: Predict,
    predict: Predict,
    accuracy: Callable[[Genes], float],
    objective: Objective,
    evaluations: int,
    seed: int,
    ledger: Ledger | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Design]:
    """Architectures that meet the bounds where they are placed best; the best first.

    Args:
        space: of architectures.
        quick: latency and energy by the table, for choosing among mappings.
        predict: latency and energy of the chosen one, as good as they are known.
        accuracy: of an architecture.
        objective: bounds and score.
        evaluations: accuracies that are evaluated.
        seed: of the draws.
        ledger: where the search is kept, as "co-search".
        progress: called with (done, all).

    Raises:
        InfeasibleError: no design meets the bounds; the text says how tight they can be.
    """
    place = Placer(quick, objective)

    def evaluate(candidate: Candidate) -> Outcome:
        placed = place(space.genes(candidate))
        assert placed is not None
        found = predict(placed)
        assert found is not None
        return outcome_of(objective, accuracy(placed), found)

    strategy = WithinBounds(space, place, predict, objective, seed)
    done = explore(
        space, strategy, evaluate, evaluations, ledger or Ledger(), "co-search", progress
    )
    return ranked(done, lambda candidate: place(space.genes(candidate)))


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


def outcome_of(objective: Objective, accuracy: float, found: Predicted) -> Outcome:
    """What a ledger keeps of an evaluated design."""
    values = {"accuracy": accuracy, "latency_s": found.latency_s, "energy_j": found.energy_j}
    return Outcome(objective.score(accuracy, found.latency_s), values)


def ranked(done: list[Evaluation], genes_of: Callable[[Candidate], Genes | None]) -> list[Design]:
    """The designs of evaluations, the best first."""
    found = []
    for each in done:
        genes, values, score = genes_of(each.candidate), each.outcome.values, each.outcome.score
        if genes is not None and score is not None:
            found.append(
                Design(genes, values["accuracy"], values["latency_s"], values["energy_j"], score)
            )
    return sorted(found, key=lambda design: -design.score)


def _bounds(objective: Objective) -> str:
    text = f"latency <= {format_quantity(objective.latency_s, 'time')}"
    if objective.energy_j is not None:
        text += f", energy <= {format_quantity(objective.energy_j, 'energy')}"
    return text
