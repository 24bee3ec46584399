"""Structures at equal rate: what each costs in accuracy and saves on four kinds of hardware."""

from __future__ import annotations

from functools import partial
from typing import Any

from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.fit.precision import Lowering
from cofit.fit.training import ADMM_SHARE
from cofit.ir import Graph
from cofit.regimes.admm import ROUND_STEPS
from cofit.reproductions.equal_rate.arms import (
    DENSE,
    ONE_SHOT,
    PATTERN,
    RANDOM,
    Arm,
    Settings,
    arms_of,
    restored,
    start,
    subject_of,
    trained,
)
from cofit.reproductions.equal_rate.deployed import footprint, latencies, on_board
from cofit.reproductions.harness import (
    COLOURS,
    Claim,
    Outcome,
    Reproduction,
    Step,
    Study,
    Table,
    above_spread,
    axes,
    figure,
    measured,
)

Found = dict[str, Any]
Runs = dict[str, list[Found]]

PRECISIONS = "fp32", "int8"
SAME = (
    "equal weights left, epochs, distillation and least squares of what is kept; test part; "
    "differences seed by seed"
)


def run(study: Study[Settings]) -> Outcome:
    """Train every arm for every seed, deploy one network of each structure, compare."""
    settings = study.settings
    subject = subject_of(settings)
    begun = study.step("start", lambda step: start(step, settings, subject))
    subject.module.load_state_dict({k: v for k, v in begun.items() if k != "accuracy"})
    runs: Runs = {}
    for seed in study.seeds:
        for arm in arms_of(settings):
            work = partial(trained, settings=settings, subject=subject, arm=arm, seed=seed)
            runs.setdefault(arm.name, []).append(study.step(f"{arm.name} {seed}", work))
    graphs = {
        arm.name: restored(subject, runs[arm.name][0])
        for arm in arms_of(settings)
        if arm not in (ONE_SHOT, RANDOM)
    }
    sizes = {name: footprint(graph) for name, graph in graphs.items()}
    low = Lowering("int8", subject.calibration) if settings.int8 else None
    boards = {
        name: study.step(f"board {name}", partial(_board, settings, graph, low))
        for name, graph in graphs.items()
        if low is not None
    }
    times = study.step("latencies", lambda step: latencies(graphs, low, settings.peers))
    return Outcome(
        _claims(settings, runs),
        [
            _arms(settings, begun, runs),
            _costs(settings, sizes, boards, times),
            _peers(times, graphs),
        ],
        _figure(settings, runs, times),
    )


def _board(settings: Settings, graph: Graph, low: Lowering, step: Step) -> Found:
    return dict(on_board(graph, low, settings.board))


def _claims(settings: Settings, runs: Runs) -> list[Claim]:
    def ahead(other: Arm) -> list[float]:
        pairs = zip(runs[PATTERN.name], runs[other.name], strict=True)
        return [100 * (mine["accuracy"] - theirs["accuracy"]) for mine, theirs in pairs]

    return [
        Claim(
            claim=f"accuracy of patterns by ADMM minus {what} at {settings.rate:g}x",
            published="not published",
            measured=measured(ahead(other), "points"),
            limit="what the rate costs in all: the dense network's accuracy minus this one's",
            basis=Basis.MEASURED,
            rule=above_spread(0.0),
            note=SAME,
            reason=_short_of_rounds(settings),
        )
        for other, what in (
            (ONE_SHOT, "patterns by one projection"),
            (RANDOM, "random patterns"),
        )
    ]


def _short_of_rounds(settings: Settings) -> str:
    """What ADMM had of the equal epochs, which it needs to agree with the structure."""
    steps = -(-settings.examples // settings.batch)
    own = max(1, round(settings.epochs * ADMM_SHARE)) * steps
    return (
        f"ADMM has {own} of the {settings.epochs * steps} steps, {own // ROUND_STEPS} rounds, "
        "before the weights are hardened; those projected at once train within their structure "
        "in all steps"
    )


def _arms(settings: Settings, begun: Found, runs: Runs) -> Table:
    rows = []
    for arm in arms_of(settings):
        found = runs[arm.name]
        rows.append(
            (
                arm.name,
                found[0]["structure"] or "-",
                f"{found[0]['all'] / found[0]['kept']:.3g}",
                measured([100 * f["accuracy"] for f in found], "%").text,
            )
        )
    return Table(
        title=f"{settings.entry}, {100 * begun['accuracy']:.4g} % before",
        columns=("arm", "structure", "weights over kept weights", "test accuracy"),
        rows=tuple(rows),
    )


def _costs(
    settings: Settings, sizes: dict[str, Found], boards: dict[str, Found], times: Found
) -> Table:
    columns = ["structure", "bytes fp32, with indices", "crossbars", "host fp32, us"]
    if settings.int8:
        columns += [
            "host int8, us", f"{settings.board} int8, M instructions", f"{settings.board} flash, KB"
        ]  # fmt: skip
    rows = []
    for name, size in sizes.items():
        row = [name, f"{size['bytes']:.0f}", f"{size['crossbars']:.0f}"]
        row += [f"{1e6 * times[key]:.4g}" for key in _keys(name) if key in times]
        if name in boards:
            row += [
                f"{boards[name]['instructions'] / 1e6:.4g}",
                f"{boards[name]['flash'] / 1e3:.4g}",
            ]
        rows.append(tuple(row))
    return Table(
        title="What the structured layers take, and what the whole network costs",
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _keys(name: str) -> tuple[str, ...]:
    """Keys of a program's latencies."""
    return tuple(f"{name} {bits}" for bits in PRECISIONS)


def _peers(times: Found, graphs: dict[str, Any]) -> Table:
    ours = {key for name in graphs for key in _keys(name)}
    return Table(
        title="Dense network in other runtimes, timed in the same run",
        columns=("runtime", "us"),
        rows=tuple((n, f"{1e6 * s:.4g}") for n, s in times.items() if n not in ours),
    )


def _figure(settings: Settings, runs: Runs, times: Found) -> Figure:
    drawn_bits = [bits for bits in PRECISIONS if f"{DENSE.name} {bits}" in times]
    drawn = figure(len(drawn_bits), width=5.2)
    for place, bits in enumerate(drawn_bits, start=1):
        panel = axes(
            drawn, f"{settings.entry} at {settings.rate:g}x, {bits} program", "latency, us",
            "accuracy, %", (1, len(drawn_bits), place),
        )  # fmt: skip
        shown = [arm for arm in arms_of(settings) if f"{arm.name} {bits}" in times]
        for i, arm in enumerate(shown):
            accuracy = measured([100 * f["accuracy"] for f in runs[arm.name]], "%")
            panel.errorbar(
                1e6 * times[f"{arm.name} {bits}"], accuracy.mean, yerr=accuracy.spread or 0.0,
                fmt="s" if arm is DENSE else "o", color=COLOURS[i % len(COLOURS)], label=arm.name,
                capsize=3,
            )  # fmt: skip
        panel.legend(fontsize=7, frameon=False)
    return drawn


REPRODUCTION = Reproduction(
    name="equal-rate",
    title="Structures at one pruning rate: accuracy, bytes, latency, instructions, crossbars",
    source="our own comparison; methods: see pattern-sparsity, micro-unification, forms, ddc-pim",
    scales={
        "smoke": Settings(
            data="digits", entry="digits_resnet", weights=None, examples=200, dense_epochs=2,
            epochs=2, rate=4.0, peers=False, int8=False,
            structures=(("block 2x4", "block2x4@{rate}"),),
        ),
        "standard": Settings(),
        "full": Settings(examples=18_000, epochs=10),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
