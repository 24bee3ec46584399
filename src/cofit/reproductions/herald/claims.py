"""Claims, tables and the figure of what the run found."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.reproductions.harness import (
    Claim,
    Table,
    at_least,
    at_most,
    axes,
    between,
    figure,
    measured,
    sources,
)
from cofit.reproductions.herald.study import MAELSTROM, Results, Settings
from cofit.targets.heterogeneous import chip

CYCLES, ENERGY = 0, 1
EXAMPLE = 1.565
OVERHEAD = "0.1"


def edp(pair: list[float]) -> float:
    """Energy times makespan."""
    return pair[CYCLES] * pair[ENERGY]


def best_fixed(found: Results) -> list[float]:
    """Makespan and energy of the monolithic design with the least EDP: one array, or two halves."""
    return min((*found["fixed"].values(), *found["scaled out"].values()), key=edp)


def best_set(found: Results) -> Results:
    """The set of dataflows whose best partition has the least EDP."""
    chosen: Results = min(found["sets"].values(), key=lambda s: edp(s["best"]))
    return chosen


def saved(ratios: Iterable[float]) -> float:
    """Percent less than a baseline: 1 less the geometric mean of the ratios to it."""
    return 100 * (1 - math.exp(statistics.fmean(math.log(ratio) for ratio in ratios)))


def claims(results: Results) -> list[Claim]:
    """All rows."""
    plain = [found for name, found in results["settings"].items() if "x bandwidth" not in name]
    return [*_partitions(plain), *_scheduler(plain), *_others(results, plain)]


def _limit(settings: list[Results]) -> str:
    oracle = saved(found["perfect"] / edp(best_fixed(found)) for found in settings)
    packed = saved(
        min(s["packed"] for s in found["sets"].values()) / edp(best_fixed(found))
        for found in settings
    )
    return (
        f"{packed:.3g} % of EDP: every layer where it wastes the least array and time; "
        f"{oracle:.3g} %: each on the best full array, nothing lost"
    )


def _partitions(settings: list[Results]) -> list[Claim]:
    limit = _limit(settings)
    setting = (
        f"{len(settings)} setting(s), 1 less the geometric mean of ratios; both arms at equal "
        "units, bandwidth and buffer, each with its own best tiles"
    )
    alone = saved(best_set(found)["relaxed"] / edp(best_fixed(found)) for found in settings)
    reason = (
        f"without any waiting the best partition would save {alone:.3g} % of EDP: the networks "
        "with most of the work have a dataflow that suits nearly all of it, and smaller arrays "
        "with a share of the buffer bring more tiles from DRAM and leave more units idle"
    )

    def ratios(of: Callable[[list[float]], float], base: str) -> list[float]:
        found = []
        for setting in settings:
            pair = setting["sets"].get(MAELSTROM, best_set(setting)) if base != "any" else None
            mine = best_set(setting)["best"] if pair is None else pair["best"]
            other = setting["reconfigurable"][OVERHEAD] if base == "rda" else best_fixed(setting)
            found.append(of(mine) / of(other))
        return found

    def cycles(pair: list[float]) -> float:
        return pair[CYCLES]

    def energy(pair: list[float]) -> float:
        return pair[ENERGY]

    rows: list[tuple[str, str, Callable[[list[float]], float], str, float]] = [
        ("EDP saved against the best monolithic design, best set of dataflows",
         "24.93 % (abstract)", edp, "any", 24.93),
        ("latency saved, the same designs", "16.1 % (abstract)", cycles, "any", 16.1),
        ("energy saved, the same designs", "7.6 % (abstract)", energy, "any", 7.6),
        ("latency saved by NVDLA with ShiDianNao against the best monolithic design",
         "65.3 % (opening of the later version)", cycles, "fixed", 65.3),
        ("energy saved, the same designs", "5.0 % (opening of the later version)", energy,
         "fixed", 5.0),
        ("energy saved by NVDLA with ShiDianNao against a reconfigurable array of 10 % overhead",
         "22.0 % (opening of the later version)", energy, "rda", 22.0),
    ]  # fmt: skip
    claims = [
        Claim(
            claim=text, published=published,
            measured=measured(saved(ratios(of, base)), "%"),
            limit=limit, basis=Basis.MODELLED, rule=at_least(bar), note=setting, reason=reason,
        )
        for text, published, of, base, bar in rows
    ]  # fmt: skip
    slower = -saved(ratios(cycles, "rda"))
    claims.append(
        Claim(
            claim="latency added by NVDLA with ShiDianNao against the reconfigurable array",
            published="20.7 % (recalled)",
            measured=measured(slower, "%"),
            limit=limit, basis=Basis.MODELLED, rule=at_most(20.7), note=setting, reason=reason,
        )
    )  # fmt: skip
    return claims


def _scheduler(settings: list[Results]) -> list[Claim]:
    greedy = [
        edp(found["ablation"]["all policies"]) / edp(found["ablation"]["earliest finish"])
        for found in settings
    ]
    relaxed = [best_set(found)["relaxed"] / edp(best_set(found)["best"]) for found in settings]
    rows = [
        Claim(
            claim="EDP saved by the scheduler against earliest finish, on the best partition",
            published="6.4 % (abstract), against a baseline scheduler",
            measured=measured(saved(greedy), "%"),
            limit=f"{saved(relaxed):.3g} % beyond the scheduler: layers in fractions, no waiting",
            basis=Basis.MODELLED, rule=at_least(6.4),
            note="the paper's baseline is not specified in what we read; ours is the better of two "
            "orders",
            reason="earliest finish sees when units are free, the balance only how busy they are",
        )
    ]  # fmt: skip
    if all("moves" in found for found in settings):
        moved = [edp(found["moves"]) / edp(found["ablation"]["all policies"]) for found in settings]
        rows.append(
            Claim(
                claim="EDP saved by moves of single layers after the scheduler",
                published="not published",
                measured=measured(saved(moved), "%"),
                limit=f"{saved(relaxed):.3g} %", basis=Basis.MODELLED, rule=at_least(0.0),
            )
        )  # fmt: skip
    return rows


def _others(results: Results, settings: list[Results]) -> list[Claim]:
    example = results["example"]
    gain = min(example["fixed"]) / example["pair"]
    late = [min(seed["fixed"].values()) / seed["pair"] for seed in results["arrivals"]]
    beyond = min(
        edp(pair) / s["packed"]
        for found in settings
        for s in found["sets"].values()
        for pair in s["all"]
    )
    return [
        Claim(
            claim="two layers that like different dataflows, 256 units: steps of the best single "
            "one over those of two halves",
            published="not published; exact",
            measured=measured(gain, "x"),
            limit=f"{min(example['fixed']) / example['ideal']:.3f} x: each layer on all units, "
            "its own dataflow",
            basis=Basis.MODELLED, rule=between(EXAMPLE - 5e-4, EXAMPLE + 5e-4),
        ),
        Claim(
            claim="mean latency of instances that arrive at random: best single array over the "
            "best partition",
            published="not published",
            measured=measured(late, "x"),
            limit="number of instances", basis=Basis.MODELLED, rule=at_least(1.0),
            note="first setting; a draw of arrivals per seed",
            reason="a network alone on the chip runs on half of it",
        ),
        Claim(
            claim="least EDP of any partition over the bound for all partitions",
            published="not published",
            measured=measured(beyond, "x"),
            limit="1 x", basis=Basis.MODELLED, rule=at_least(1.0),
        ),
        Claim(
            claim="costs of all layers on all arrays of the grid, slowest setting",
            published="not published",
            measured=measured(max(found["table_s"] for found in settings), "s"),
            limit="the machine", basis=Basis.MEASURED, rule=at_most(2.0),
            note="three dataflows, each as one of two, every share of units and bandwidth",
        ),
        Claim(
            claim="search over all partitions, per layer and partition",
            published="about 9.48 ms per layer, on a laptop (opening of the later version)",
            measured=measured(max(found["schedule_ms_per_layer"] for found in settings), "ms"),
            limit="the machine", basis=Basis.MEASURED, rule=at_most(9.48),
            note="24 policies each",
        ),
    ]  # fmt: skip


def tables(settings: Settings, results: Results) -> list[Table]:
    """What the claims are drawn from."""
    found = results["settings"]
    return [
        Table(
            title="Cycles and energy (J) of each design, and its EDP over the best monolithic one",
            columns=("setting", "design", "cycles", "energy", "EDP", "bound of EDP"),
            rows=tuple(row for name in found for row in _designs(name, found[name])),
        ),
        Table(
            title="EDP of the scheduler's arms on the best partition, over that of all policies",
            columns=("setting", *next(iter(found.values()))["ablation"]),
            rows=tuple(
                (name, *(f"{edp(arm) / edp(one['ablation']['all policies']):.3f}"
                         for arm in one["ablation"].values()))
                for name, one in found.items()
            ),
        ),
        Table(
            title="EDP of the best partition over the best monolithic design, by static energy of "
            "a unit per cycle over that of a multiply-accumulate",
            columns=("setting", *(f"{share:g}" for share in settings.static)),
            rows=tuple(
                (name, *(f"{_with_static(one, share, name):.3f}" for share in settings.static))
                for name, one in found.items()
            ),
        ),
        sources(herald=chip("edge").facts),
    ]  # fmt: skip


def _designs(name: str, found: Results) -> list[tuple[str, ...]]:
    base = edp(best_fixed(found))

    def row(design: str, pair: list[float], bound: float | None = None) -> tuple[str, ...]:
        return (
            name, design, f"{pair[CYCLES]:.3e}", f"{pair[ENERGY] * 1e-12:.4g}",
            f"{edp(pair) / base:.3f}", "" if bound is None else f"{bound / base:.3f}",
        )  # fmt: skip

    rows = [row(f"one array, {flow}", pair) for flow, pair in found["fixed"].items()]
    rows += [row(f"two halves, {flow}", pair) for flow, pair in found["scaled out"].items()]
    rows += [
        row(f"reconfigurable, overhead {overhead}", pair, found["perfect"])
        for overhead, pair in found["reconfigurable"].items()
    ]
    rows += [row(s["text"], s["best"], s["relaxed"]) for s in found["sets"].values()]
    if "moves" in found:
        rows.append(row("the best of these, with moves", found["moves"]))
    return rows


def _with_static(found: Results, share: float, name: str) -> float:
    """The ratio of EDPs when units take energy in every cycle."""
    parts = chip(name.split(",")[0])
    static = share * parts.mac_pj * parts.units

    def whole(pair: list[float]) -> float:
        return pair[CYCLES] * (pair[ENERGY] + static * pair[CYCLES])

    alone = (*found["fixed"].values(), *found["scaled out"].values())
    return min(whole(pair) for s in found["sets"].values() for pair in s["all"]) / min(
        whole(pair) for pair in alone
    )


def drawing(results: Results) -> Figure:
    """Every partition of the first setting, with its baselines and bounds; EDP by setting."""
    drawn = figure(2)
    name, found = next(iter(results["settings"].items()))
    panel = axes(drawn, f"Partitions: {name}", "makespan (cycles)", "energy (J)", (1, 2, 1))
    for flows, s in found["sets"].items():
        panel.plot(*_points(s["all"]), ".", markersize=4, label=flows)
    panel.plot(*_points(found["fixed"].values()), "s", label="one array")
    panel.plot(*_points(found["scaled out"].values()), "^", label="two halves")
    panel.plot(*_points([found["reconfigurable"][OVERHEAD]]), "*", label="reconfigurable, 10 %")
    panel.set_xscale("log")
    panel.legend(fontsize=7, frameon=False)
    panel = axes(drawn, "EDP over the best monolithic design", "", "x", (1, 2, 2))
    series: dict[str, list[float]] = {}
    for one in results["settings"].values():
        base = edp(best_fixed(one))
        arms: dict[str, Any] = {
            "best partition": edp(best_set(one)["best"]),
            "reconfigurable, 10 %": edp(one["reconfigurable"][OVERHEAD]),
            "best full array per layer": one["perfect"],
            "bound of partitions": min(s["packed"] for s in one["sets"].values()),
        }
        for arm, value in arms.items():
            series.setdefault(arm, []).append(value / base)
    for arm, values in series.items():
        panel.plot(list(results["settings"]), values, "o", label=arm)
    panel.axhline(1, color="0.6", linewidth=0.8)
    panel.tick_params(axis="x", labelrotation=40)
    panel.legend(fontsize=7, frameon=False)
    return drawn


def _points(pairs: Iterable[list[float]]) -> tuple[list[float], list[float]]:
    listed = list(pairs)
    return [pair[CYCLES] for pair in listed], [pair[ENERGY] * 1e-12 for pair in listed]
