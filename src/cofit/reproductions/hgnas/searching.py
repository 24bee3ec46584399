"""The objective of a machine, and designs found for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cofit.core import InfeasibleError
from cofit.data import Split
from cofit.graphs.points import Genes, PointNetwork, Supernet, calibrate
from cofit.reproductions.hgnas.clouds import accuracy
from cofit.reproductions.hgnas.space import Functions, Limits, functions_of, genes_of, type_space
from cofit.search import Candidate, Evaluation, Ledger, Outcome, Space, Strategy, best, explore

Costs = Callable[[Genes], tuple[float, float]]
"""Latency in s and peak bytes of a design, as a target predicts them."""


@dataclass(frozen=True)
class Bounds:
    """What a design may cost, and how much its latency weighs against its accuracy.

    Attributes:
        latency_s: designs reach less.
        peak_bytes: designs reach less.
        beta: weight of latency over the bound; the accuracy's is 1.
    """

    latency_s: float
    peak_bytes: float
    beta: float


class SharedAccuracy:
    """Accuracy of designs with the weights of a supernet, each computed once.

    Args:
        supernet: trained.
        calibration: clouds whose statistics normalise.
        validation: decides.
    """

    def __init__(self, supernet: Supernet, calibration: torch.Tensor, validation: Split) -> None:
        self._supernet, self._calibration, self._split = supernet, calibration, validation
        self._known: dict[Genes, float] = {}

    def network(self, genes: Genes) -> PointNetwork:
        """The design on its own, with copied weights, ready to run."""
        network = self._supernet.extract(genes)
        calibrate(network, self._calibration)
        return network

    def __call__(self, genes: Genes) -> float:
        """Fraction of the validation clouds that are classified rightly."""
        if genes not in self._known:
            self._known[genes] = accuracy(self.network(genes), self._split)
        return self._known[genes]


def objective(
    genes: Genes, costs: Costs, bounds: Bounds, accuracy: Callable[[Genes], float]
) -> Outcome:
    """Accuracy - beta latency / bound; a design beyond a bound has no score."""
    latency, peak = costs(genes)
    values = {"latency_s": latency, "peak_bytes": peak}
    if latency >= bounds.latency_s:
        return Outcome(None, values, "latency")
    if peak >= bounds.peak_bytes:
        return Outcome(None, values, "memory")
    right = accuracy(genes)
    score = right - bounds.beta * latency / bounds.latency_s
    return Outcome(score, values | {"accuracy": right})


def search(
    space: Space,
    strategy: Strategy,
    costs: Costs,
    bounds: Bounds,
    accuracy: Callable[[Genes], float],
    evaluations: int,
    ledger: Ledger,
    study: str,
) -> list[Evaluation]:
    """Let a strategy look for designs within the bounds.

    Returns:
        All evaluations, those beyond a bound included.

    Raises:
        InfeasibleError: none of them is within the bounds; the text says what was reached.
    """

    def evaluate(candidate: Candidate) -> Outcome:
        return objective(genes_of(space, candidate), costs, bounds, accuracy)

    found = explore(space, strategy, evaluate, evaluations, ledger, study)
    if best(found) is None:
        least = min(each.outcome.values["latency_s"] for each in found)
        memory = min(each.outcome.values["peak_bytes"] for each in found)
        raise InfeasibleError(
            f"no design below {bounds.latency_s:.3g} s and {bounds.peak_bytes:.3g} B among "
            f"{evaluations}; the least found are {least:.3g} s and {memory:.3g} B: allow more"
        )
    return found


def leaders(found: list[Evaluation], number: int) -> list[Candidate]:
    """The distinct candidates of the highest scores, best first."""
    scored = [each for each in found if each.outcome.score is not None]
    ranked = sorted(scored, key=lambda each: -(each.outcome.score or 0.0))
    return list(dict.fromkeys(each.candidate for each in ranked))[:number]


def search_functions(
    space: Space,
    strategy: Strategy,
    limits: Limits,
    accuracy: Callable[[Genes], float],
    settings: int,
    designs: int,
    draw: Callable[[Space, int], Candidate],
    ledger: Ledger,
) -> tuple[Functions, Functions]:
    """Stage 1: the pair of settings whose random type strings are the most accurate on average.

    Args:
        space: `function_space`.
        strategy: proposes pairs of settings.
        limits: of designs.
        accuracy: of a design in the supernet.
        settings: pairs that are tried.
        designs: type strings per pair.
        draw: the i-th type string of a space.
        ledger: keeps the evaluations.
    """

    def evaluate(candidate: Candidate) -> Outcome:
        types = type_space(*functions_of(space, candidate), limits)
        rights = [accuracy(genes_of(types, draw(types, i))) for i in range(designs)]
        return Outcome(sum(rights) / designs, {"best": max(rights)})

    found = best(explore(space, strategy, evaluate, settings, ledger, "functions"))
    assert found is not None  # no setting breaks a constraint
    return functions_of(space, found.candidate)
