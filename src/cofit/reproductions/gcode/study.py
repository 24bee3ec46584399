"""What is trained, timed and searched, step by step."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from cofit.graphs.points import Genes, PointNetwork, parse, spell
from cofit.graphs.points.coinference import Lut, mappings
from cofit.reproductions.gcode.bench import Edge, Run, setting_of, time_designs
from cofit.reproductions.gcode.networks import (
    Results,
    Shared,
    frame_of,
    space_of,
    train_design,
    train_shared,
    trained,
)
from cofit.reproductions.gcode.predictor import LUT_REPEATS, Placed, judge
from cofit.reproductions.gcode.searches import contest, search
from cofit.reproductions.gcode.serving import chosen_zoo, follow, pipeline
from cofit.reproductions.gcode.settings import Settings
from cofit.reproductions.harness import Step, Study
from cofit.search import Outcome, RandomSearch


def _kept(run: Run) -> Results:
    return {"latency_s": run.latency_s, "differing": run.differing, **vars(run.estimate)}


def placements(settings: Settings) -> list[str]:
    """Every placement of the fixed network with at most one transfer to the edge."""
    return [
        spell(genes)
        for genes in mappings(parse(settings.fixed))
        if sum(gene.op == "communicate" for gene in genes) <= 1
    ]


def time_fixed(settings: Settings, edge: Edge, seed: int, found: Results, step: Step) -> Results:
    """Placements of the fixed network, with its weights."""
    texts = placements(settings)
    runs = time_designs(
        edge, texts,
        lambda text: trained(settings, text, seed, found),
        frame_of(settings), setting_of(settings), settings.chunk,
        partial(step.progress, "placements"),
    )  # fmt: skip
    return {"texts": texts, "runs": [_kept(run) for run in runs]}


def measure(settings: Settings, edge: Edge, seed: int, weights: Results, step: Step) -> Results:
    """Random designs timed end to end, the table of their operations, and the predictor.

    Placements of the fixed network run in turn with them: the bound comes from its best.
    """
    shared, space = Shared(settings, seed, weights), space_of(settings)
    draw = RandomSearch(space, seed)
    designs: list[Genes] = []
    while len(designs) < settings.measured:
        candidate = draw.ask()
        draw.tell(candidate, Outcome(None))
        designs.append(space.genes(candidate))
    setting, fixed = setting_of(settings), placements(settings)
    every = time_designs(
        edge, [*map(spell, designs), *fixed],
        lambda text: shared.network(parse(text)),
        frame_of(settings), setting, settings.chunk, partial(step.progress, "designs"),
    )  # fmt: skip
    runs = every[: len(designs)]
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
        "differing": sum(run.differing for run in every),
        "fixed_s": min(run.latency_s for run in every[len(designs) :]),
    }  # fmt: skip


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
    bound_s = settings.bound_share * found["fixed_s"]
    searched = {
        s: study.step(f"search {s}", partial(search, settings, edge, s, shared[s], found, bound_s))
        for s in seeds
    }
    contested = partial(contest, settings, edge, first, shared[first], found, bound_s)
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
        "contest": study.step("contest", contested),
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
