"""Claims, tables and the figure of the grid."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.reproductions.harness import (
    COLOURS,
    Claim,
    Measured,
    Outcome,
    Table,
    above_spread,
    at_least,
    at_most,
    axes,
    between,
    figure,
    measured,
)
from cofit.reproductions.lottery_lr.arms import ARMS
from cofit.reproductions.lottery_lr.check import SHARES, Grid, TicketReport, Trained

_ABSTRACT = "abstract; VGG, ResNet, MobileNet-V2"
_UNPUBLISHED = "not published"


def conclude(grid: Grid, report: TicketReport) -> Outcome:
    """Everything that is reported."""
    claims = [*_memory(grid, report), *_rates(grid, report)]
    for source in grid.sources:
        claims.extend(_arms(grid, report, source))
    tables = (_phases(grid, report), _curves(grid, report), _verdicts(report))
    return Outcome(claims, tables, _figure(grid, report))


def _memory(grid: Grid, report: TicketReport) -> list[Claim]:
    small, large = grid.rates[0], grid.rates[-1]

    def of(rate: float, value: Callable[[Trained], float], unit: str) -> Measured:
        return measured((value(p) for p in report.of("dense", rate)), unit)

    limit = f"1 to {1 / grid.share:g} (R_p lies between p and 1)"
    told = f"p = {grid.share:g}, per layer, initial to trained dense weights"
    return [
        Claim(
            claim=f"small rate {small:g}: overlap of largest weights over chance, R_p / p",
            published=f"correlated at an insufficient learning rate ({_ABSTRACT})",
            measured=of(small, lambda p: p.memory.ratio / grid.share, "x"),
            limit=limit, basis=Basis.MEASURED, rule=at_least(1.5), note=told,
        ),
        Claim(
            claim=f"sufficient rate {large:g}: overlap of largest weights over chance, R_p / p",
            published=f"little correlation in a well-trained network ({_ABSTRACT})",
            measured=of(large, lambda p: p.memory.ratio / grid.share, "x"),
            limit=limit, basis=Basis.MEASURED, rule=at_most(1.25), note=told,
            reason=_still(grid, report),
        ),
        Claim(
            claim=f"small rate {small:g}: distance of the overlap from chance",
            published=_UNPUBLISHED, measured=of(small, lambda p: p.memory.z, "deviations"),
            limit="none; exact hypergeometric null", basis=Basis.MEASURED, rule=at_least(5),
            note=told,
        ),
    ]  # fmt: skip


def _still(grid: Grid, report: TicketReport) -> str:
    """Why much may be remembered at the sufficient rate: how far its weights have moved."""
    phases = report.of("dense", grid.rates[-1])
    moved = statistics.fmean(p.memory.moved for p in phases)
    return (
        f"{phases[0].steps} steps changed magnitudes by {moved:.2f} of their mean only; the paper "
        "trains 160 epochs"
    )


def _rates(grid: Grid, report: TicketReport) -> list[Claim]:
    small, large = grid.rates[0], grid.rates[-1]
    return [
        Claim(
            claim=f"dense accuracy at rate {large:g} above that at {small:g}",
            published=f"winning comes with insufficient training ({_ABSTRACT})",
            measured=_points(report.accuracies("dense", large), report.accuracies("dense", small)),
            limit="none", basis=Basis.MEASURED, rule=above_spread(0.0),
            reason="the small rate trains as well here; the rates do not separate, so there is no "
            "verdict",
        )
    ]  # fmt: skip


def _arms(grid: Grid, report: TicketReport, source: str) -> list[Claim]:
    small, large = grid.rates[0], grid.rates[-1]

    def gap(rate: float, one: str, other: str) -> Measured:
        first, second = (report.accuracies(arm, rate, source) for arm in (one, other))
        return _points(first, second)

    tickets, tuned = (report.accuracies(a, large, source) for a in ("ticket", "finetune"))
    errors = [(1 - t) / (1 - f) for t, f in zip(tickets, tuned, strict=True)]
    setting = f"masks: {source}, sparsity {grid.sparsity:g}, {grid.epochs} epochs per phase; test"
    return [
        Claim(
            claim=f"prune+fine-tune above the ticket at rate {large:g}, same epochs ({source})",
            published=f"consistently better ({_ABSTRACT})",
            measured=gap(large, "finetune", "ticket"),
            limit="none", basis=Basis.MEASURED, rule=at_least(0.0), note=setting,
        ),
        Claim(
            claim=f"error of the ticket over that of prune+fine-tune at rate {large:g} ({source})",
            published=f"consistently better ({_ABSTRACT})", measured=measured(errors, "x"),
            limit="none", basis=Basis.MEASURED, rule=above_spread(1.0), note=setting,
            reason="both end at the accuracy of the dense network: at this sparsity the task "
            "leaves nothing to lose",
        ),
        Claim(
            claim=f"ticket above re-initialised weights at rate {large:g} ({source})",
            published="no gap at 0.1, ResNet-20 on CIFAR-10",
            measured=gap(large, "ticket", "again"),
            limit="none", basis=Basis.MEASURED, rule=between(-1.0, 1.0), note=setting,
            reason="the mask still remembers the initial weights at this rate (see R_p), or fits "
            "another start badly",
        ),
        Claim(
            claim=f"ticket above re-initialised weights at rate {small:g} ({source})",
            published="a notable gap at 0.01, ResNet-20 on CIFAR-10",
            measured=gap(small, "ticket", "again"),
            limit="none", basis=Basis.MEASURED, rule=above_spread(0.0), note=setting,
            reason="the small rate trains enough to outgrow its initial weights, or the task is "
            "easy enough for any start",
        ),
    ]  # fmt: skip


def _points(ones: tuple[float, ...], others: tuple[float, ...]) -> Measured:
    return measured((100 * (a - b) for a, b in zip(ones, others, strict=True)), "points")


def _phases(grid: Grid, report: TicketReport) -> Table:
    columns = ("masks", "rate", "arm", "test accuracy [%]", "epochs", "density", "R_p", "z",
               "R_p pooled", "magnitude change")  # fmt: skip
    lines = []
    for rate in grid.rates:
        for source, arm in [("", "dense"), *((s, a) for s in grid.sources for a in ARMS)]:
            found = report.of(arm, rate, source)
            accuracy = measured((100 * p.accuracy["test"] for p in found), "")

            def average(value: Callable[[Trained], float], over: tuple[Trained, ...]) -> float:
                return statistics.fmean(map(value, over))

            lines.append((
                source or "none", f"{rate:g}", arm, accuracy.text, str(found[0].epochs),
                f"{average(lambda p: p.density, found):.4f}",
                f"{average(lambda p: p.memory.ratio, found):.3f}",
                f"{average(lambda p: p.memory.z, found):.1f}",
                f"{average(lambda p: p.memory.pooled, found):.3f}",
                f"{average(lambda p: p.memory.moved, found):.3f}",
            ))  # fmt: skip
    title = (
        f"phases; overlap of the largest {grid.share:.0%} with the initial weights (dense), with "
        "the trained dense weights (arms)"
    )
    return Table(title=title, columns=columns, rows=tuple(lines))


def _curves(grid: Grid, report: TicketReport) -> Table:
    lines = []
    for rate in grid.rates:
        found = [curve for curve in report.curves if curve.rate == rate]
        for place, share in enumerate(SHARES):
            ratios = measured((curve.ratios[place] for curve in found), "")
            z = statistics.fmean(curve.z[place] for curve in found)
            lines.append((f"{rate:g}", f"{share:g}", ratios.text, f"{ratios.mean / share:.2f}",
                          f"{z:.1f}"))  # fmt: skip
    return Table(
        title="overlap of the largest weights, initial with trained dense, by share p",
        columns=("rate", "p", "R_p", "R_p / p", "z"), rows=tuple(lines),
    )  # fmt: skip


def _verdicts(report: TicketReport) -> Table:
    return Table(
        title="verdicts (one-sided t tests over seeds, margins of 0.5 points)",
        columns=("masks", "verdict"), rows=tuple(report.verdicts.items()),
    )  # fmt: skip


def _figure(grid: Grid, report: TicketReport) -> Figure:
    drawn = figure(columns=len(grid.sources))
    names = [f"{rate:g}" for rate in grid.rates]
    for place, source in enumerate(grid.sources, 1):
        panel = axes(drawn, f"masks: {source}", "learning rate", "test accuracy [%]",
                     (1, len(grid.sources), place))  # fmt: skip
        for arm, colour in zip(("dense", *ARMS), COLOURS, strict=False):
            under = "" if arm == "dense" else source
            reached = [report.accuracies(arm, rate, under) for rate in grid.rates]
            found = [measured((100 * a for a in accuracies), "") for accuracies in reached]
            panel.errorbar(
                names, [m.mean for m in found], [m.spread or 0.0 for m in found],
                marker="o", capsize=3, color=colour, label=arm,
            )  # fmt: skip
        panel.legend(fontsize=8, frameon=False)
    return drawn
