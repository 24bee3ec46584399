"""The baseline: search an architecture for the device alone, then the best mapping of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cofit.core import derive_seed
from cofit.graphs.points import Genes
from cofit.reproductions.gcode.search import (
    Design,
    Objective,
    Placer,
    Predict,
    outcome_of,
    ranked,
)
from cofit.reproductions.gcode.space import DesignSpace
from cofit.search import Candidate, Ledger, Outcome, RandomSearch, explore


def sequential_search(
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
    """Architectures, the best for the device alone first, each where it is placed best.

    Those that no mapping brings within the bounds are left out, so that the first is the best that
    can be used. It evaluates as many accuracies as `co_search`, whose arguments these are, of draws
    of its own; the ledger's study is "sequential".

    Returns:
        None of them has to be better than the next where it is placed; empty if none is usable.
    """

    def evaluate(candidate: Candidate) -> Outcome:
        genes = space.genes(candidate)
        found = predict(genes)
        if found is None:
            return Outcome(None, reason="out of memory")
        return outcome_of(objective, accuracy(genes), found)

    strategy = RandomSearch(space, derive_seed(seed, "sequential"))
    done = explore(
        space, strategy, evaluate, evaluations, ledger or Ledger(), "sequential", progress
    )
    place = Placer(quick, objective)
    usable = []
    for design in ranked(done, space.genes):
        placed = place(design.genes)
        found = None if placed is None else predict(placed)
        if placed is not None and found is not None and objective.met(found):
            score = objective.score(design.accuracy, found.latency_s)
            usable.append(replace(
                design, genes=placed, latency_s=found.latency_s, energy_j=found.energy_j,
                score=score,
            ))  # fmt: skip
    return usable
