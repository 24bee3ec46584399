"""Claims, tables and the figure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cofit.core import Basis, format_quantity
from cofit.graphs.minibatch import ClosedForm, Configuration, Device
from cofit.reproductions.gnnavigator.estimator import Estimator, Profile
from cofit.reproductions.gnnavigator.judge import (
    WAYS,
    Choice,
    Held,
    choose,
    judged,
    leave_one_graph_out,
    searched,
)
from cofit.reproductions.gnnavigator.study import Results, Settings, sub_grid
from cofit.reproductions.harness import (
    Claim,
    Table,
    above_spread,
    at_least,
    at_most,
    axes,
    figure,
    measured,
)
from cofit.search import Bayesian, RandomSearch

LINK = Device().text
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """All stored results by graph, then by seed.

    Attributes:
        closed: forms of each graph.
        profiles: random configurations.
        exhausted: the sub-grid.
        guided: guidelines and searches.
        templates: each template, by graph only.
        trained: trainings to the end.
        chosen: see `choices`.
    """

    closed: dict[str, ClosedForm]
    profiles: dict[str, list[list[Profile]]]
    exhausted: dict[str, list[Results]]
    guided: dict[str, list[Results]]
    templates: dict[str, Results]
    trained: dict[str, list[Results]]
    chosen: dict[str, list[dict[str, Choice | None]]] = field(default_factory=dict)

    @property
    def every(self) -> list[Profile]:
        """All profiles."""
        return [p for runs in self.profiles.values() for own in runs for p in own]

    def seen(self, name: str, place: int) -> list[Profile]:
        """What the estimator of a graph and seed learns from."""
        others = [p for o in self.profiles if o != name for own in self.profiles[o] for p in own]
        return [*others, *self.profiles[name][place]]

    def looked_up(self, name: str, place: int) -> tuple[Reals, Reals]:
        """Epoch seconds and peaks of the sub-grid, as one seed measured them."""
        values = [row["values"] for row in self.exhausted[name][place]["rows"]]
        return (np.array([v["steps"] * v["step_s"] for v in values]),
                np.array([float(v["peak_bytes"]) for v in values]))  # fmt: skip

    def truth(self, name: str) -> tuple[Reals, Reals]:
        """The same, medians over seeds."""
        times, memory = zip(
            *(self.looked_up(name, place) for place in range(len(self.exhausted[name]))),
            strict=True,
        )
        return np.median(times, 0), np.median(memory, 0)

    def budgets(self, name: str) -> list[float]:
        """Of device memory on the sub-grid, by seed; something measured fits it."""
        least = float(self.truth(name)[1].min())
        return [max(float(run["budget"]), least) for run in self.guided[name]]

    @property
    def repeated(self) -> float:
        """How far a sub-grid's epoch time is from the same one's median over seeds, in the mean."""
        return statistics.fmean(
            float(np.abs(self.looked_up(name, place)[0] / self.truth(name)[0] - 1).mean())
            for name, runs in self.exhausted.items() for place in range(len(runs))
        )  # fmt: skip


def claims(
    settings: Settings, seeds: tuple[int, ...], found: Found, held: list[Held]
) -> list[Claim]:
    """What was published, and the bars of the demonstration; `held` is per seed."""
    every = found.every
    rows = [*_trained(settings, found), *_predicted(held, len(every), found.repeated)]
    if len(settings.graphs) > 1:
        other = [leave_one_graph_out(every, Device(), seed) for seed in seeds]
        rows.append(Claim(
            claim="Kendall's tau of predicted epoch times of a graph never profiled",
            published="not published",
            measured=measured([h.order("gray-box", "epoch_s") for h in other], "tau"),
            limit="1", basis=Basis.MEASURED, rule=at_least(0.6),
            note=f"mean over {len(settings.graphs)} graphs, each left out in turn; {LINK}; "
            "analytic alone "
            f"{statistics.fmean(h.order('analytic', 'epoch_s') for h in other):.2f}, trees alone "
            f"{statistics.fmean(h.order('trees', 'epoch_s') for h in other):.2f}",
            reason="four graphs teach little about a fifth",
        ))  # fmt: skip
    return [*rows, *_chosen(settings, seeds, found), *_searched(found), *_cached(found)]


def _trained(settings: Settings, found: Found) -> list[Claim]:
    rows = []
    for name, runs in found.trained.items():

        def ratio(arm: str, value: str, runs: list[Results] = runs) -> list[float]:
            return [run["PyG"][value] / run[arm][value] for run in runs]

        times, memory = found.truth(name)
        fits = memory <= max(found.budgets(name))
        default = statistics.fmean(run["PyG"]["epoch_s"] for run in runs)
        limit = (
            f"{default / times[fits].min():.3g}x by the best of the sub-grid that fits "
            f"({default / times.min():.3g}x by the best of all); larger grids may give more"
        )
        note = f"{name}, {settings.final_epochs} epochs, {LINK}; default: PyG's batch 1024, " \
            f"fan-outs 10-25, no cache; device of {settings.budget:.0%} of its memory, or the " \
            "least that is predicted to fit"  # fmt: skip
        rows += [
            Claim(
                claim=f"epoch time, default over guideline for time: {name}",
                published="up to 3.1x at comparable accuracy (abstract)",
                measured=measured(ratio("time", "epoch_s"), "x"), limit=limit,
                basis=Basis.EMULATED, rule=above_spread(1.0), note=note,
                reason="the budget is below the default's own memory, and little that fits is "
                "faster (see the limit)",
            ),
            Claim(
                claim=f"peak device memory saved by the guideline for memory and accuracy: {name}",
                published="up to 44.9 % at comparable accuracy (abstract)",
                measured=measured(
                    [100 * (1 - 1 / r) for r in ratio("memory-accuracy", "peak_bytes")], "%"),
                limit="100 % less the weights", basis=Basis.MEASURED, rule=at_least(44.9),
                note=f"{note}; high-water mark of the arena, live tensors only; another "
                "configuration than the one above",
                reason="this priority weighs the error as much as memory, and smaller samples err "
                "more; where features are few, batches are not most of the memory",
            ),
            Claim(
                claim=f"validation accuracy lost by the balanced guideline: {name}",
                published="comparable accuracy (abstract)",
                measured=measured(
                    [100 * (r["PyG"]["validation"] - r["balanced"]["validation"]) for r in runs],
                    "points"),
                limit="none", basis=Basis.MEASURED, rule=at_most(1.0), note=note,
                reason="fewer steps per epoch at larger batches train less in the same epochs",
            ),
            Claim(
                claim=f"peak of guidelines when run over the budget, the largest: {name}",
                published="not published",
                measured=measured([
                    max(run[p]["peak_bytes"] for p in run if p not in found.templates[name])
                    / guided["budget"]
                    for run, guided in zip(runs, found.guided[name], strict=True)
                ], "x"),
                limit="a device of this memory refuses more than 1",
                basis=Basis.MEASURED, rule=at_most(1.0),
                note=note,
            ),
        ]  # fmt: skip
    return rows


def _predicted(held: list[Held], count: int, repeated: float) -> list[Claim]:
    def row(target: str, what: str, bar: float) -> Claim:
        errors = {w: statistics.fmean(h.error(w, target) for h in held) for w in WAYS}
        return Claim(
            claim=f"mean absolute error of predicted {what}, held-out profiles",
            published="not published",
            measured=measured([100 * h.error("gray-box", target) for h in held], "%"),
            limit="the spread of repeated measurements", basis=Basis.MEASURED,
            rule=at_most(100 * bar),
            note=f"{count} profiles, five folds, {LINK}; closed forms alone "
            f"{errors['analytic']:.1%}, trees alone {errors['trees']:.1%}; epoch times of one "
            f"configuration differ from their median over seeds by {repeated:.1%}",
            reason="few profiles of 4 steps each, and times that do not repeat (see the note)",
        )  # fmt: skip

    def better(target: str, what: str) -> Claim:
        return Claim(
            claim=f"error of {what}: the better of closed forms and trees alone over both together",
            published="gray-box beats both (paper summary)",
            measured=measured([
                min(h.error("analytic", target), h.error("trees", target))
                / h.error("gray-box", target) for h in held
            ], "x"),
            limit="none", basis=Basis.MEASURED, rule=at_least(1.0),
            note="the same profiles, trees and folds",
            reason="one of the two explains what there is to explain",
        )  # fmt: skip

    return [
        row("epoch_s", "epoch time", 0.15),
        row("peak_bytes", "peak memory", 0.10),
        Claim(
            claim="Kendall's tau of predicted epoch times, held-out profiles, within graphs",
            published="not published",
            measured=measured([h.order("gray-box", "epoch_s") for h in held], "tau"),
            limit="1", basis=Basis.MEASURED, rule=at_least(0.8), note=LINK,
            reason="many configurations differ by less than measurements do",
        ),
        better("epoch_s", "epoch time"),
        better("peak_bytes", "peak memory"),
    ]  # fmt: skip


def choices(settings: Settings, found: Found, name: str, place: int) -> dict[str, Choice | None]:
    """The navigator's choice on the exhausted sub-grid, and others' at as many measurements.

    Searches look up what one seed measured; all are judged by the medians over seeds, as the least
    of many single measurements is mostly the luckiest.
    """
    grid = sub_grid(settings)
    space, rows = grid.space, found.exhausted[name][place]["rows"]
    times, memory = found.truth(name)
    budget = found.budgets(name)[place]
    estimator = Estimator(found.seen(name, place), Device(), place)
    asked = [grid.configuration(tuple(r["candidate"])) for r in rows]
    guessed = estimator.predict(found.closed[name], asked).objectives[:, :2]
    result = {"navigator": choose(guessed, times, memory, budget)}
    count = min(settings.profiles, len(rows))
    for label, strategy in (
        ("Optuna", Bayesian(space, place)), ("random search", RandomSearch(space, place)),
    ):  # fmt: skip
        row = searched(space, strategy, count, *found.looked_up(name, place), budget)
        result[label] = None if row is None else judged(row, times, memory, budget)
    result["largest batch and cache"] = judged(len(rows) - 1, times, memory, budget)
    return result


def _chosen(settings: Settings, seeds: tuple[int, ...], found: Found) -> list[Claim]:
    def regrets(label: str) -> list[float]:
        values = []
        for place in range(len(seeds)):
            each = [found.chosen[name][place][label] for name in settings.graphs]
            # what does not fit, or nothing found, counts as the time doubled
            values.append(statistics.fmean(
                100 * min(c.regret if c is not None else 1.0, 1.0) for c in each))  # fmt: skip
        return values

    points = sum(1 for _ in sub_grid(settings).space)
    own, optuna, drawn = (regrets(x) for x in ("navigator", "Optuna", "random search"))
    note = f"{points} configurations measured exhaustively with other batches, medians over " \
        f"seeds, mean over graphs; {LINK}; budget {settings.budget:.0%} of the default's " \
        "memory, or the least predicted to fit; infeasible counts 100 %"  # fmt: skip
    return [
        Claim(
            claim="regret of the fastest predicted configuration that fits",
            published="not published", measured=measured(own, "%"), limit="0 %",
            basis=Basis.EMULATED, rule=at_most(15.0), note=note,
            reason="a prediction must fit with the largest underestimate of any profile on top; "
            "where the next batch size just fits, leaving it out costs its whole gain",
        ),
        Claim(
            claim=f"regret of Optuna less the navigator's, {settings.profiles} measurements each",
            published="not published",
            measured=measured([o - n for o, n in zip(optuna, own, strict=True)], "points"),
            limit="100 points", basis=Basis.EMULATED, rule=at_least(0.0),
            note=f"{note}; Optuna looks measured times of this sub-grid up, the navigator's "
            "profiles are of the whole grid and of the other graphs; random search: "
            f"{statistics.fmean(drawn):.1f} %",
            reason=f"a sub-grid of {points} points is small: {settings.profiles} looks see much",
        ),
    ]  # fmt: skip


def _searched(found: Found) -> list[Claim]:
    runs = [run for each in found.guided.values() for run in each]
    return [
        Claim(
            claim="searches whose front is not that of evaluating the whole modelled grid",
            published="not published",
            measured=measured(float(sum(not run["same"] for run in runs)), "searches"),
            limit="0", basis=Basis.MODELLED, rule=at_most(0.0),
            note=f"{len(runs)} searches of {runs[0]['all']:,} configurations",
        ),
        Claim(
            claim="prefixes and configurations visited by the pruned search over all of them",
            published="not published",
            measured=measured([run["visited"] / run["all_visited"] for run in runs], "x"),
            limit="above 0", basis=Basis.MODELLED, rule=at_most(0.999),
            note=f"for example {runs[0]['visited']:,} of {runs[0]['all_visited']:,}",
        ),
    ]  # fmt: skip


def _cached(found: Found) -> list[Claim]:
    gains, limits = [], []
    for arms in found.templates.values():
        plain, cached = arms["PyG"], arms["PaGraph"]
        share = plain["transfer_s"] / plain["step_s"]
        gains.append(plain["step_s"] / cached["step_s"])
        limits.append(1 / (1 - min(share, 0.99) * cached["hit_rate"]))
    return [
        Claim(
            claim="step time without a cache over that with half the rows cached, over its limit",
            published="not published",
            measured=measured(max(g / most for g, most in zip(gains, limits, strict=True)), "x"),
            limit="1: 1 / (1 - share of transfer * hit rate)", basis=Basis.EMULATED,
            rule=at_most(1.1),
            note=f"the largest over graphs, {LINK}; gains {', '.join(f'{g:.2f}' for g in gains)}",
            reason="times of a shared machine vary by more than the gain",
        )
    ]  # fmt: skip


def tables(settings: Settings, found: Found) -> list[Table]:
    """Templates, guidelines, trainings, choices."""
    shown = [
        (name, label, format_quantity(arm["steps"] * arm["step_s"], "time"),
         *(format_quantity(arm[k], "time")
           for k in ("sample_s", "transfer_s", "replace_s", "compute_s")),
         f"{arm['hit_rate']:.1%}", format_quantity(arm["peak_bytes"], "bytes"))
        for name, arms in found.templates.items() for label, arm in arms.items()
    ]  # fmt: skip
    guided = []
    for name, runs in found.guided.items():
        for priority, g in runs[0]["guidelines"].items():
            even = g["break_even_epochs"]
            guided.append((
                name, priority, Configuration.of(g["configuration"]).text,
                format_quantity(g["epoch_s"][0], "time"),
                format_quantity(g["memory_bytes"][0], "bytes"), f"{g['accuracy'][0]:.1%}",
                g["bound"], "never" if even is None else f"{even:.0f}",
            ))  # fmt: skip
    trained = [
        (name, arm, measured([r[arm]["epoch_s"] for r in runs], "s").text,
         format_quantity(statistics.fmean(r[arm]["peak_bytes"] for r in runs), "bytes"),
         measured([100 * r[arm]["validation"] for r in runs], "%").text,
         measured([100 * r[arm]["test"] for r in runs], "%").text,
         f"{statistics.fmean(r[arm]['hit_rate'] for r in runs):.1%}")
        for name, runs in found.trained.items() for arm in runs[0]
    ]  # fmt: skip
    regrets = []
    for name in settings.graphs:
        made = found.chosen[name]
        for label in made[0]:
            regrets.append((name, label, ", ".join(_regret(c[label]) for c in made)))
    return [
        Table(title=f"Templates, a few batches each ({LINK})",
              columns=("graph", "template", "epoch", "sample", "transfer", "replace", "compute",
                       "hit rate", "peak memory"), rows=tuple(shown)),
        Table(title=f"Guidelines of the first seed, predicted ({LINK})",
              columns=("graph", "priority", "configuration", "epoch", "memory",
                       "validation accuracy", "bound", "break-even epochs"), rows=tuple(guided)),
        Table(title=f"Trainings ({LINK})",
              columns=("graph", "arm", "epoch", "peak memory", "validation", "test", "hit rate"),
              rows=tuple(trained)),
        Table(title="Regret on the exhausted sub-grid, by seed",
              columns=("graph", "chosen by", "regret"), rows=tuple(regrets)),
    ]  # fmt: skip


def _regret(choice: Choice | None) -> str:
    if choice is None:
        return "nothing found"
    return "does not fit" if choice.regret == float("inf") else f"{choice.regret:.1%}"


def drawing(found: Found, held: Held) -> Figure:
    """Predicted against measured epoch times, and the sub-grids in time and memory."""
    drawn = figure(columns=2)
    left = axes(drawn, "Held-out profiles", "measured epoch, s", "predicted, s", (1, 2, 1))
    true, guessed = held.measured["epoch_s"], held.predicted["gray-box", "epoch_s"]
    left.loglog(true, guessed, ".", markersize=3)
    ends = [min(true), max(true)]
    left.plot(ends, ends, color="#8a94a0", linewidth=0.8)
    right = axes(drawn, "Sub-grid, first seed", "epoch, s", "peak memory, MB", (1, 2, 2))
    for name, runs in found.exhausted.items():
        values = [row["values"] for row in runs[0]["rows"]]
        times = [v["steps"] * v["step_s"] for v in values]
        right.loglog(times, [v["peak_bytes"] / 1e6 for v in values], ".", markersize=4, label=name)
    right.legend(fontsize=7, frameon=False)
    return drawn
