"""What is trained, timed and searched, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from cofit.core import InfeasibleError
from cofit.graphs.points import DesignPredictor, Genes, PointNetwork, parse, spell
from cofit.graphs.points.coinference import Lut, mappings, without_transfers
from cofit.reproductions.gcode.bench import Edge, Run, Setting, time_designs
from cofit.reproductions.gcode.networks import (
    Results,
    Shared,
    frame_of,
    space_of,
    train_design,
    train_shared,
    trained,
)
from cofit.reproductions.gcode.predictor import Placed, encoded, judge
from cofit.reproductions.gcode.search import (
    Design,
    Objective,
    Predicted,
    co_search,
    first_within,
    sequential_search,
)
from cofit.reproductions.gcode.serving import chosen_zoo, follow, pipeline
from cofit.reproductions.gcode.settings import Settings
from cofit.reproductions.harness import Step, Study
from cofit.search import Ledger, Outcome, RandomSearch
from cofit.targets.links import Link, link_device

DEVICE = "jetson-tx2"
VERIFIED = 6
"""Best designs of a search that are run before one is returned."""
LUT_REPEATS = 5


def setting_of(settings: Settings, bandwidth_Mbps: float | None = None) -> Setting:
    """Where designs are timed; None is the link that is searched for."""
    link = Link(bandwidth_Mbps or settings.bandwidth_Mbps)
    return Setting(link, settings.slowdown, settings.frames)


def _kept(run: Run) -> Results:
    return {"latency_s": run.latency_s, "differing": run.differing, **vars(run.estimate)}


def time_fixed(settings: Settings, edge: Edge, seed: int, found: Results, step: Step) -> Results:
    """Every placement of the fixed network with at most one transfer to the edge."""
    placements = [
        genes
        for genes in mappings(parse(settings.fixed))
        if sum(gene.op == "communicate" for gene in genes) <= 1
    ]
    texts = [spell(genes) for genes in placements]
    runs = time_designs(
        edge, texts,
        lambda text: trained(settings, text, seed, found),
        frame_of(settings), setting_of(settings), settings.chunk,
        partial(step.progress, "placements"),
    )  # fmt: skip
    return {"texts": texts, "runs": [_kept(run) for run in runs]}


def measure(settings: Settings, edge: Edge, seed: int, weights: Results, step: Step) -> Results:
    """Random designs timed end to end, the table of their operations, and the predictor."""
    shared, space = Shared(settings, seed, weights), space_of(settings)
    draw = RandomSearch(space, seed)
    designs: list[Genes] = []
    while len(designs) < settings.measured:
        candidate = draw.ask()
        draw.tell(candidate, Outcome(None))
        designs.append(space.genes(candidate))
    setting = setting_of(settings)
    runs = time_designs(
        edge, [spell(genes) for genes in designs],
        lambda text: shared.network(parse(text)),
        frame_of(settings), setting, settings.chunk, partial(step.progress, "designs"),
    )  # fmt: skip
    lut = Lut(frame_of(settings), settings.k, shared.network, LUT_REPEATS)
    hop_s = float(np.median([run.estimate.overhead_s for run in runs if run.estimate.nbytes]))
    placed = Placed(lut, setting.link, settings.slowdown, hop_s)
    latencies = np.array([run.latency_s for run in runs])
    model, judged = judge(
        step, designs, placed, latencies, settings.positions, settings.held,
        settings.predictor_epochs, seed,
    )  # fmt: skip
    reports = {name: vars(found) for name, found in vars(judged).items()}
    return {
        **model.state_dict(),
        "reports": reports, "hop_s": hop_s, "entries": lut.entries(),
        "designs": [spell(genes) for genes in designs], "latencies_s": latencies.tolist(),
        "differing": sum(run.differing for run in runs),
    }  # fmt: skip


class Predictor:
    """Latency and energy of designs, from what `measure` found.

    The latency is the learned one where that was the better of the two on designs it had not seen.
    """

    def __init__(self, settings: Settings, found: Results, shared: Shared) -> None:
        lut = Lut(frame_of(settings), settings.k, shared.network, LUT_REPEATS)
        lut.restore(found["entries"])
        self._settings = settings
        self._placed = Placed(lut, setting_of(settings).link, settings.slowdown, found["hop_s"])
        self._model = DesignPredictor()
        self._model.load_state_dict({
            k: v for k, v in found.items() if isinstance(v, torch.Tensor)
        })  # fmt: skip
        reports = found["reports"]
        self.learned = reports["learned"]["mape"] < reports["summed"]["mape"]
        self._power = link_device(DEVICE)
        self._known: dict[Genes, Predicted | None] = {}

    def __call__(self, genes: Genes) -> Predicted | None:
        """None: the device's memory does not hold it."""
        if genes not in self._known:
            self._known[genes] = self._predict(genes)
        return self._known[genes]

    def quick(self, genes: Genes) -> Predicted | None:
        """By the table alone."""
        placed = self._placed
        try:
            estimate = placed.lut.estimate(genes, placed.slowdown, placed.overhead_s)
        except InfeasibleError:
            return None
        energy_j = estimate.energy_j(self._power, placed.link)
        return Predicted(estimate.latency_s(placed.link), energy_j)

    def _predict(self, genes: Genes) -> Predicted | None:
        found = self.quick(genes)
        if found is None or not self.learned:
            return found
        x = encoded([genes], self._placed, self._settings.positions)
        return replace(found, latency_s=float(self._model.predict(x)[0]))


def search(
    settings: Settings,
    edge: Edge,
    seed: int,
    weights: Results,
    found: Results,
    bound_s: float,
    step: Step,
) -> Results:
    """Both searches with as many accuracies each; the best designs are run before one is taken."""
    shared = Shared(settings, seed, weights)
    predict, objective = Predictor(settings, found, shared), Objective(bound_s)
    space = space_of(settings, transfers=False)
    step.folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(step.folder / "search.sqlite")
    try:
        designs = co_search(
            space, predict.quick, predict, shared.accuracy, objective, settings.candidates, seed,
            ledger, partial(step.progress, "co-search"),
        )  # fmt: skip
        other = sequential_search(
            space, predict.quick, predict, shared.accuracy, objective, settings.candidates, seed,
            ledger, partial(step.progress, "sequential"),
        )  # fmt: skip
    finally:
        ledger.close()
    best, setting = designs[:VERIFIED], setting_of(settings)
    runs = time_designs(
        edge, [spell(design.genes) for design in best],
        lambda text: shared.network(parse(text)),
        frame_of(settings), setting, settings.chunk,
    )  # fmt: skip
    power = link_device(DEVICE)
    measured = [
        Predicted(run.latency_s, run.estimate.energy_j(power, setting.link)) for run in runs
    ]
    chosen, seen = first_within(best, objective, measured)
    return {
        "genes": spell(chosen.genes), "score": chosen.score, "accuracy": chosen.accuracy,
        "predicted_s": chosen.latency_s, "measured_s": seen.latency_s, "learned": predict.learned,
        "best_score": designs[0].score,
        "sequential": None if other is None else {
            "genes": spell(other.genes), "score": other.score, "latency_s": other.latency_s,
        },
        "designs": [
            [spell(d.genes), d.accuracy, d.latency_s, d.energy_j] for d in designs
        ],
        "alone": spell(_fastest_alone(designs, predict)),
    }  # fmt: skip


def _fastest_alone(
    designs: Sequence[Design], predict: Callable[[Genes], Predicted | None]
) -> Genes:
    """The architecture that the device does fastest by itself: what is left without an edge."""

    def latency_s(genes: Genes) -> float:
        found = predict(genes)
        return float("inf") if found is None else found.latency_s

    bare = {without_transfers(design.genes) for design in designs}
    return min(sorted(bare, key=spell), key=latency_s)


def compare(
    settings: Settings, edge: Edge, texts: dict[str, str], nets: dict[str, PointNetwork], step: Step
) -> Results:
    """The winner and the fixed network's placements on every link, timed in one step."""
    names = list(texts)
    found: Results = {}
    for bandwidth in settings.bandwidths_Mbps:
        runs = time_designs(
            edge, names, nets.__getitem__, frame_of(settings), setting_of(settings, bandwidth),
            settings.chunk, partial(step.progress, f"{bandwidth:g} Mb/s"),
        )  # fmt: skip
        found[f"{bandwidth:g}"] = {name: _kept(run) for name, run in zip(names, runs, strict=True)}
    return found


def run_steps(study: Study[Settings], edge: Edge) -> dict[str, Any]:
    """Everything; results by name, one per seed where a training is behind it."""
    settings, seeds = study.settings, study.seeds
    first = seeds[0]
    shared = {s: study.step(f"supernet {s}", partial(train_shared, settings, s)) for s in seeds}
    fixed = {
        s: study.step(f"fixed {s}", partial(train_design, settings, settings.fixed, s))
        for s in seeds
    }
    placed = study.step("placements", partial(time_fixed, settings, edge, first, fixed[first]))
    found = study.step("measure", partial(measure, settings, edge, first, shared[first]))
    latencies = [run["latency_s"] for run in placed["runs"]]
    bound_s = settings.bound_share * min(latencies)
    searched = {
        s: study.step(f"search {s}", partial(search, settings, edge, s, shared[s], found, bound_s))
        for s in seeds
    }
    winners = {
        s: study.step(f"winner {s}", partial(train_design, settings, searched[s]["genes"], s))
        for s in seeds
    }
    texts = dict(zip(placed["texts"], latencies, strict=True))
    alone, remote, *splits = placed["texts"]
    best = min(splits, key=texts.__getitem__)
    compared = {}
    for s in seeds:
        chosen = {
            "searched": searched[s]["genes"], "device only": alone, "edge only": remote,
            "best split": best,
        }  # fmt: skip
        nets = {
            name: trained(settings, text, s, winners[s] if name == "searched" else fixed[s])
            for name, text in chosen.items()
        }
        compared[s] = study.step(f"compare {s}", partial(compare, settings, edge, chosen, nets))
    runs = dict(zip(placed["texts"], placed["runs"], strict=True))
    even = min(splits, key=lambda text: max(runs[text]["device_s"], runs[text]["edge_s"]))
    overlapped = partial(_pipelined, settings, edge, even, fixed[first])
    served = partial(_dispatched, settings, edge, first, shared[first], searched[first])
    return {
        "pipeline": study.step("pipeline", overlapped),
        "dispatcher": study.step("dispatcher", served),
        "fixed": fixed, "placements": placed, "measure": found, "bound_s": bound_s,
        "search": searched, "winner": winners, "compare": compared,
    }  # fmt: skip


def _pipelined(settings: Settings, edge: Edge, text: str, fixed: Results, step: Step) -> Results:
    net = trained(settings, text, 0, fixed)
    return pipeline(edge, net, frame_of(settings), setting_of(settings), 16 * settings.frames)


def _dispatched(
    settings: Settings, edge: Edge, seed: int, weights: Results, searched: Results, step: Step
) -> Results:
    shared = Shared(settings, seed, weights)
    texts, accuracies = chosen_zoo(searched["designs"], searched["alone"])
    accuracies[-1] = shared.accuracy(parse(texts[-1]))
    return follow(
        edge, [shared.network(parse(text)) for text in texts], accuracies, frame_of(settings),
        setting_of(settings, settings.trace_Mbps[0]), settings.trace_Mbps,
    )  # fmt: skip
