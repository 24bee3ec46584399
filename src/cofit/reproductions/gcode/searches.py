"""The search that finds the winner, and the contest of co-search and the sequential way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, zip_longest

from cofit.graphs.points import Genes, parse, spell
from cofit.graphs.points.coinference import without_transfers
from cofit.reproductions.gcode.bench import Edge, setting_of, time_designs
from cofit.reproductions.gcode.networks import Results, Shared, frame_of, space_of
from cofit.reproductions.gcode.predictor import DEVICE, Predictor
from cofit.reproductions.gcode.search import (
    Design,
    Objective,
    Predicted,
    co_search,
    first_within,
)
from cofit.reproductions.gcode.sequential import sequential_search
from cofit.reproductions.gcode.settings import Settings
from cofit.reproductions.harness import Step
from cofit.search import Ledger
from cofit.targets.links import link_device

VERIFIED = 6
"""Best designs of a search that are run before one is returned."""


def search(
    settings: Settings,
    edge: Edge,
    seed: int,
    weights: Results,
    found: Results,
    bound_s: float,
    step: Step,
) -> Results:
    """The co-search; its best designs are run before one is taken."""
    shared = Shared(settings, seed, weights)
    predict, objective = Predictor(settings, found, shared), Objective(bound_s)
    with closing(Ledger(step.folder / "search.sqlite")) as ledger:
        designs = co_search(
            space_of(settings, transfers=False), predict.quick, predict, shared.accuracy, objective,
            settings.candidates, seed, ledger, partial(step.progress, "co-search"),
        )  # fmt: skip
    best = designs[:VERIFIED]
    chosen, seen = first_within(best, objective, _run(settings, edge, shared, best))
    return {
        "genes": spell(chosen.genes), "score": chosen.score, "accuracy": chosen.accuracy,
        "predicted_s": chosen.latency_s, "measured_s": seen.latency_s, "learned": predict.learned,
        "designs": [
            [spell(d.genes), d.accuracy, d.latency_s, d.energy_j] for d in designs
        ],
        "alone": spell(_fastest_alone(designs, predict)),
    }  # fmt: skip


def contest(
    settings: Settings,
    edge: Edge,
    seed: int,
    weights: Results,
    found: Results,
    bound_s: float,
    step: Step,
) -> Results:
    """Both ways `settings.contests` times, with as many accuracies each, of independent draws.

    They are judged by what neither has seen: the latency of their designs when run, and the
    accuracy on the test part, with shared weights. Each way runs its best designs and keeps the
    first that meets the bound; those of both are timed in turn. A way without any scores 0.
    """
    shared = Shared(settings, seed, weights)
    predict, objective = Predictor(settings, found, shared), Objective(bound_s)
    space = space_of(settings, transfers=False)
    scores: dict[str, list[float]] = {"co-search": [], "sequential": []}
    genes: dict[str, list[str]] = {name: [] for name in scores}
    for number in range(settings.contests):
        best = {}
        with closing(Ledger(step.folder / f"contest{number}.sqlite")) as ledger:
            for name, way in (("co-search", co_search), ("sequential", sequential_search)):
                best[name] = way(
                    space, predict.quick, predict, shared.accuracy, objective, settings.candidates,
                    number, ledger, partial(step.progress, f"{name} {number}"),
                )[:VERIFIED]  # fmt: skip
        both = zip_longest(*best.values())
        turns = [design for design in chain.from_iterable(both) if design is not None]
        runs = dict(zip(turns, _run(settings, edge, shared, turns), strict=True))
        for name, designs in best.items():
            usable = any(objective.met(runs[design]) for design in designs)
            if usable:
                chosen, seen = first_within(designs, objective, [runs[d] for d in designs])
                score = objective.score(shared.tested(chosen.genes), seen.latency_s)
            scores[name].append(score if usable else 0.0)
            genes[name].append(spell(chosen.genes) if usable else "")
    return {"scores": scores, "genes": genes}


def _run(
    settings: Settings, edge: Edge, shared: Shared, designs: Sequence[Design]
) -> list[Predicted]:
    """Latency and energy of designs on the engine."""
    setting, power = setting_of(settings), link_device(DEVICE)
    runs = time_designs(
        edge, [spell(design.genes) for design in designs],
        lambda text: shared.network(parse(text)),
        frame_of(settings), setting, settings.chunk,
    )  # fmt: skip
    return [Predicted(run.latency_s, run.estimate.energy_j(power, setting.link)) for run in runs]


def _fastest_alone(
    designs: Sequence[Design], predict: Callable[[Genes], Predicted | None]
) -> Genes:
    """The architecture that the device does fastest by itself: what is left without an edge."""

    def latency_s(genes: Genes) -> float:
        found = predict(genes)
        return float("inf") if found is None else found.latency_s

    bare = {without_transfers(design.genes) for design in designs}
    return min(sorted(bare, key=spell), key=latency_s)
