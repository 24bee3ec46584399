"""The run: baselines and partitions of every chip and suite, and the scheduler taken apart."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cofit.core import numpy_generator
from cofit.reproductions.harness import Step, Study
from cofit.reproductions.herald.networks import suite
from cofit.targets.dataflow import Layer
from cofit.targets.heterogeneous import (
    DATAFLOWS,
    Bench,
    Design,
    Job,
    Mix,
    Network,
    Part,
    Policy,
    Schedule,
    check_schedule,
    chip,
    dataflow,
    designs,
    earliest_finish,
    explore,
    fixed,
    packed_edp,
    perfect_edp,
    reconfigurable,
    refined,
    relaxed_makespan,
    scaled_out,
    schedule,
)

Results = dict[str, Any]
FLOWS = tuple(flow.name for flow in DATAFLOWS)
MAELSTROM = "nvdla + shidiannao"
"""The set of dataflows that HERALD recommends."""


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        chips: classes of hardware.
        suites: mixes of networks.
        faster: factors on the chip's bandwidth, units and buffer as they are.
        sets: of dataflows that sub-accelerators have.
        steps: in which units and bandwidth are divided.
        sampling: of partitions.
        overheads: of the reconfigurable array, in the energy of all but DRAM.
        static: energy of a unit per cycle over that of a multiply-accumulate.
        moves: whether the best schedules are improved by moves.
    """

    chips: tuple[str, ...]
    suites: tuple[str, ...]
    faster: tuple[int, ...]
    sets: tuple[tuple[str, ...], ...]
    steps: int
    sampling: str
    overheads: tuple[float, ...]
    static: tuple[float, ...]
    moves: bool


def settings_names(settings: Settings) -> dict[str, tuple[str, str, int]]:
    """Chip, suite and bandwidth factor of every setting, by a name for tables."""
    return {
        f"{name}, {mix}" + (f", {factor} x bandwidth" if factor > 1 else ""): (name, mix, factor)
        for name in settings.chips
        for mix in settings.suites
        for factor in settings.faster
    }


def _numbers(made: Schedule) -> list[float]:
    return [made.makespan, made.energy_pj]


def _text(design: Design, steps: int) -> str:
    return " + ".join(
        f"{part.dataflow} {part.units}/{steps} units {part.bandwidth}/{steps} bandwidth"
        for part in design
    )


def setting(settings: Settings, where: tuple[str, str, int], step: Step) -> Results:
    """Everything about one chip and suite."""
    name, mix, factor = where
    budget = chip(name)
    bench = Bench(
        suite(mix),
        replace(budget, bandwidth=budget.bandwidth * factor),
        settings.steps,
    )
    begin = time.perf_counter()
    for flow in FLOWS:
        bench.table(flow, 2)
    table_s = time.perf_counter() - begin
    found: Results = {
        "fixed": {flow: _numbers(fixed(bench, flow)) for flow in FLOWS},
        "scaled out": {flow: _numbers(scaled_out(bench, flow)) for flow in FLOWS},
        "reconfigurable": {
            f"{overhead:g}": _numbers(reconfigurable(bench, FLOWS, overhead))
            for overhead in settings.overheads
        },
        "perfect": perfect_edp(bench, FLOWS),
        "sets": {},
    }
    begin = time.perf_counter()
    layers = count = 0
    for at, flows in enumerate(settings.sets):
        step.progress(" + ".join(flows), at, len(settings.sets))
        made = explore(bench, designs(flows, settings.steps, settings.sampling))
        found["sets"][" + ".join(flows)] = _of_set(bench, flows, made)
        count += len(made)
        layers = len(next(iter(made.values())).unit)
    sweep_s = time.perf_counter() - begin
    best = min(found["sets"].values(), key=lambda s: s["best"][0] * s["best"][1])
    work = bench.workload(_design(best["design"]))
    found["ablation"] = _ablation(bench, _design(best["design"]))
    begin = time.perf_counter()
    if settings.moves:
        found["moves"] = _moved(bench, _design(best["design"]))
    return {
        **found,
        "instances": len(bench.mix.names),
        "layers": work.layers,
        "table_s": table_s,
        "sweep_s": sweep_s,
        "schedule_ms_per_layer": 1e3 * sweep_s / (count * layers),
        "moves_s": time.perf_counter() - begin,
    }


def _of_set(bench: Bench, flows: tuple[str, ...], made: dict[Design, Schedule]) -> Results:
    """The best partition of a set of dataflows, all others, and what bounds them."""
    best = min(made, key=lambda design: made[design].edp)
    work = bench.workload(best)
    check_schedule(work, made[best], bench.chip.buffer_bits)
    return {
        "design": [[part.dataflow, part.units, part.bandwidth] for part in best],
        "text": _text(best, bench.steps),
        "best": _numbers(made[best]),
        "all": [_numbers(found) for found in made.values()],
        "relaxed": relaxed_makespan(work) * float(work.energy_pj.min(axis=1).sum()),
        "packed": packed_edp(bench, flows, len(flows)),
    }


def _design(parts: list[list[Any]]) -> Design:
    return tuple(Part(*part) for part in parts)


def _ablation(bench: Bench, design: Design) -> Results:
    """The scheduler on one partition, whole and with parts left out."""
    work, room = bench.workload(design), bench.chip.buffer_bits
    arms = {
        "all policies": bench.schedule(design),
        "one policy": schedule(work, room),
        "no balance": schedule(work, room, Policy(imbalance=float("inf"))),
        "no gap filling": schedule(work, room, Policy(fill_gaps=False)),
        "depth first": schedule(work, room, Policy(order="depth")),
        "by latency": schedule(work, room, Policy(metric="cycles")),
        "by energy": schedule(work, room, Policy(metric="energy")),
        "earliest finish": min(
            (earliest_finish(work, room, order) for order in ("depth", "breadth")),
            key=lambda made: made.edp,
        ),
    }
    for made in arms.values():
        check_schedule(work, made, room)
    return {name: _numbers(made) for name, made in arms.items()}


def _moved(bench: Bench, design: Design) -> list[float]:
    """The better of HERALD's and the greedy schedule, improved by moves of single layers."""
    work, room = bench.workload(design), bench.chip.buffer_bits
    begin = min((bench.schedule(design), earliest_finish(work, room)), key=lambda made: made.edp)
    made = refined(work, room, begin, lambda tried: (tried.edp,))
    check_schedule(work, made, room)
    return _numbers(made)


LATE = Layer("late", k=512, c=512, y=7, x=7)
EARLY = Layer("early", k=32, c=3, y=112, x=112, r=3, s=3, stride=(2, 2))


def worked_example(_: Step) -> Results:
    """Two layers on 256 units, by steps alone: the best single dataflow over two halves."""
    sizes = np.array([LATE.sizes, EARLY.sizes], float).T
    whole, half = (
        np.stack(
            [dataflow(name).steps(sizes, np.full(2, units)) for name in ("nvdla", "shidiannao")],
            axis=1,
        )
        for units in (256.0, 128.0)
    )
    nothing = np.zeros_like(half)
    mix = Mix(tuple(Job(Network.chain(layer.name, [layer])) for layer in (LATE, EARLY)))
    made = schedule(mix.workload(half, nothing + 1, nothing), 1.0, Policy(metric="cycles"))
    return {
        "fixed": whole.sum(axis=0).tolist(),
        "ideal": float(whole.min(axis=1).sum()),
        "pair": made.makespan,
    }


def arrivals(settings: Settings, design: list[list[Any]], seed: int, _: Step) -> Results:
    """Mean latency of instances that arrive at random, on the best partition and on fixed arrays.

    They arrive within the time that the best fixed array needs for all of them.
    """
    bench = Bench(suite(settings.suites[0]), chip(settings.chips[0]), settings.steps)
    within = min(fixed(bench, flow).makespan for flow in FLOWS)
    generator = numpy_generator(seed, "herald", "arrivals")
    jobs = tuple(
        replace(job, releases=tuple(generator.uniform(0, within, job.count).tolist()))
        for job in bench.mix.jobs
    )
    late = replace(bench, mix=Mix(jobs))

    def mean(parts: Design) -> float:
        work = late.workload(parts)
        return float(np.mean(list(work.latencies(late.schedule(parts)).values())))

    alone = {flow: mean((Part(flow, bench.steps, bench.steps),)) for flow in FLOWS}
    return {"fixed": alone, "pair": mean(_design(design))}


def run_steps(study: Study[Settings]) -> Results:
    """Every setting, a step each."""
    named = settings_names(study.settings)
    found = {
        name: study.step(
            name.replace("/", " ").replace(",", ""), partial(setting, study.settings, where)
        )
        for name, where in named.items()
    }
    first = found[next(iter(named))]
    best = min(first["sets"].values(), key=lambda s: s["best"][0] * s["best"][1])
    return {
        "settings": found,
        "example": study.step("worked example", worked_example),
        "arrivals": [
            study.step(
                f"arrivals seed {seed}", partial(arrivals, study.settings, best["design"], seed)
            )
            for seed in study.seeds
        ],
    }
