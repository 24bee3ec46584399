"""Claims, tables and the figure of what the run found."""

from __future__ import annotations

import statistics
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
from cofit.reproductions.recnmp.arms import ALL, ARMS, FAIR
from cofit.reproductions.recnmp.shared import ALPHA, MODELS, throughput_gains
from cofit.reproductions.recnmp.study import PRODUCTION_CACHES, Results, Settings, trace_names
from cofit.reproductions.recnmp.twin import VARIANTS
from cofit.targets.memory import ENERGY_SETS, memory_system

LATENCY, THROUGHPUT, ENERGY = 9.8, 4.2, 45.8
PRIVATE = (
    "no reproduction of the figure, which rests on production traces that are not public; here on "
    "Zipf and Criteo-derived ones"
)


def speedup(found: Results, arm: str, base: str = "host") -> float:
    """How many times fewer cycles an arm takes than another."""
    return float(found[base]["cycles"] / found[arm]["cycles"])


def best_speedups(results: Results) -> list[float]:
    """Per seed the largest gain of all measures together over the plain host."""
    return [max(speedup(case, ALL) for case in seed.values()) for seed in results["arms"]]


def claims(settings: Settings, results: Results) -> list[Claim]:
    """All rows."""
    return [
        *_latency(settings, results),
        *_energy(settings, results),
        *_locality(settings, results),
        *_whole(results),
        *_machine(results),
    ]


def _latency(settings: Settings, results: Results) -> list[Claim]:
    t = memory_system().timing
    random_limit, turning = (8 * bus / (t.faw / 4) for bus in (t.burst, t.burst + t.rtrs))
    name = f"zipf {settings.alphas[0]:g}", settings.vectors[0]
    random = [seed[name] for seed in results["arms"]]
    fair = [max(speedup(case, ALL, FAIR) for case in s.values()) for s in results["arms"]]
    scaled = [s["balanced"][0] / s["balanced"][-1] for s in results["scaling"]]
    limit = (
        f"64 B: {random_limit:.2f} x by tFAW; 128 B and more: 8 x; each divided by 1 - hit rate "
        f"and by the load of the fullest rank; {memory_system().near.instructions_per_cycle} "
        "instructions per cycle"
    )
    return [
        Claim(
            claim="latency of pooling, 8 ranks with all measures, against a host without a cache, "
            "best trace and vector",
            published="up to 9.8x (abstract)",
            measured=measured(best_speedups(results), "x"),
            limit=limit, basis=Basis.SIMULATED, rule=at_least(LATENCY), note=PRIVATE,
        ),
        Claim(
            claim="the same against a host with a cache of equal capacity and the same order",
            published="not published",
            measured=measured(fair, "x"),
            limit=limit, basis=Basis.SIMULATED, rule=at_least(2.0), note="the fair baseline",
        ),
        Claim(
            claim=f"uniform lookups of {settings.vectors[0]} B, 8 ranks without a cache, against "
            "the host",
            published="not published; limit derived",
            measured=measured([speedup(case, "8 ranks") for case in random], "x"),
            limit=f"{random_limit:.2f} x, {turning:.2f} x where ranks take turns on the host's "
            f"bus: tFAW / 4 = {t.faw / 4:g} cycles per lookup and rank, {t.burst} or "
            f"{t.burst + t.rtrs} on the bus",
            basis=Basis.SIMULATED, rule=at_most(turning),
        ),
        Claim(
            claim="scaling from 1 to 8 ranks on balanced uniform lookups",
            published="in proportion to ranks, up to 8x (notes)",
            measured=measured(scaled, "x"),
            limit="8 x", basis=Basis.SIMULATED, rule=between(7.6, 8.4),
        ),
    ]  # fmt: skip


def _energy(settings: Settings, results: Results) -> list[Claim]:
    name = f"zipf {settings.alphas[0]:g}", settings.vectors[0]
    rows = []
    for energies in ENERGY_SETS:
        saved = [
            100 * (1 - seed[name][ALL]["energy_pj"][energies]
                   / seed[name]["host"]["energy_pj"][energies])
            for seed in results["arms"]
        ]  # fmt: skip
        rows.append(
            Claim(
                claim=f"memory energy saved on uniform lookups, energies {energies}",
                published="45.8 % (abstract)",
                measured=measured(saved, "%"),
                limit="all of the channel's share but the sums that return",
                basis=Basis.SIMULATED, rule=at_least(ENERGY),
                note="without standby and refresh; saved on the pins, not in the array",
            )
        )  # fmt: skip
    return rows


def _locality(settings: Settings, results: Results) -> list[Claim]:
    uniform = results["caches"][f"zipf {settings.alphas[0]:g}"]
    excess = [100 * (seed["own"] - seed["share"]) for seed in uniform]
    profile = [
        seed["zipf 0.9", settings.vectors[0]]["profile"]["hit_rate"]
        / seed["zipf 0.9", settings.vectors[0]]["cache"]["hit_rate"]
        for seed in results["arms"]
    ]
    aware = [
        min(speedup(case, ALL, "profile") for (name, _), case in seed.items())
        for seed in results["arms"]
    ]
    rows = [
        Claim(
            claim="hits on uniform lookups beyond the cache's share of the rows",
            published="near 0 for random (notes)",
            measured=measured(excess, "points"),
            limit="0", basis=Basis.SIMULATED, rule=at_most(1.0),
        ),
        Claim(
            claim="hit rate with locality bits over that of plain LRU, Zipf 0.9",
            published="profiling raises the hit rate (notes)",
            measured=measured(profile, "x"),
            limit="1 / hit rate of LRU", basis=Basis.SIMULATED, rule=at_least(1.0),
            note="threshold chosen on batches that are not judged",
        ),
        Claim(
            claim="gain of table-aware order over interleaved tables, worst trace",
            published="keeps the reuse within a table (notes)",
            measured=measured(aware, "x"),
            limit="1 / (1 - hits gained)", basis=Basis.SIMULATED, rule=at_least(0.99),
            reason="the profile's locality bits keep the hot rows in either order, so that serving "
            "table after table has no hits left to gain",
        ),
    ]  # fmt: skip
    if settings.real:
        found = results["caches"]["criteo, resampled"]
        hits = [100 * statistics.fmean(seed["one"]) for seed in found]
        rows.append(
            Claim(
                claim="hits of caches of 8 to 64 MB on lookups with Criteo's stack distances",
                published="20 to 60 % on production traces (notes)",
                measured=measured(hits, "%"),
                limit="100 % less first accesses", basis=Basis.SIMULATED, rule=between(20, 60),
                note="mean over sizes; 4,198 rows of Criteo, the columns with the most ids",
            )
        )  # fmt: skip
    return rows


def _whole(results: Results) -> list[Claim]:
    model = results["model"]
    pooling, rest = statistics.median(model["pooling"]), statistics.median(model["rest"])
    share = pooling / (pooling + rest)
    gain = [1 / (1 - share + share / s) for s in best_speedups(results)]
    crowded = [throughput_gains(pooling, rest, _crowded(s))[-1] for s in results["shared"]]
    fair = [throughput_gains(pooling, rest, _crowded(s, FAIR))[-1] for s in results["shared"]]
    together = 1 - rest / (rest + MODELS[-1] * pooling)
    return [
        Claim(
            claim="throughput of a recommendation model with the best latency above",
            published="4.2x (abstract), production models",
            measured=measured(gain, "x"),
            limit=f"{1 / (1 - share):.2f} x: pooling is {100 * share:.0f} % of its time here "
            "(Amdahl)",
            basis=Basis.MODELLED, rule=at_least(THROUGHPUT),
            note="share measured with torch on this CPU; cache freed for the MLPs counts nothing",
        ),
        Claim(
            claim=f"throughput of {MODELS[-1]} models that share the memory",
            published="4.2x (abstract), co-located production models",
            measured=measured(crowded, "x"),
            limit=f"{1 / (1 - together):.2f} x: pooling is {100 * together:.0f} % of their time",
            basis=Basis.MODELLED, rule=at_least(THROUGHPUT),
            note=f"Zipf {ALPHA:g}; a core per model, {statistics.median(fair):.2f} x against a "
            "host with a cache of equal capacity and the same order",
        ),
        Claim(
            claim="AUC of a trained model with near-memory sums less with torch's, largest of sets",
            published="not published",
            measured=measured(
                max(abs(s["near"] - s["torch"]) for s in results["clicks"].values()), "AUC"
            ),
            limit="0 but for ties by rounding", basis=Basis.SIMULATED, rule=at_most(1e-4),
            note="; ".join(
                f"{name}: {s['torch']:.3f}, untrained {s['untrained']:.3f}"
                + ("" if s["best"] is None else f", of the true chances {s['best']:.3f}")
                for name, s in results["clicks"].items()
            ),
        ),
        Claim(
            claim="scores with near-memory sums against torch's EmbeddingBag, largest error",
            published="not published",
            measured=measured(model["error"], "relative"),
            limit="rounding of fp32", basis=Basis.SIMULATED, rule=at_most(1e-5),
        ),
    ]  # fmt: skip


def _crowded(shared: Results, base: str = "host") -> list[float]:
    """Gains of all measures by number of models."""
    cycles = shared["models"]
    return [a / b for a, b in zip(cycles[base], cycles[ALL], strict=True)]


def _machine(results: Results) -> list[Claim]:
    twin, rate = results["twin"], results["rate"]

    def median(name: str, state: str) -> float:
        return float(statistics.median(twin[f"{name}/{state}"]))

    gains = [median("plain", "cold") / median(name, "cold") for name in VARIANTS[1:]]
    return [
        Claim(
            claim="software twin: values that differ from the plain kernel's in any bit",
            published="not published",
            measured=measured(twin["differing"], "values"),
            limit="0", basis=Basis.MEASURED, rule=at_most(0),
        ),
        Claim(
            claim="software twin: best variant over the plain kernel, caches flushed before",
            published="not published",
            measured=measured(max(gains), "x"),
            limit="bandwidth of DRAM", basis=Basis.MEASURED, rule=at_least(1.1),
            note=f"tables of {twin['bytes'] / 1e6:.0f} MB, medians of interleaved runs, the "
            "profile's time included",
            reason="the processor overlaps misses of independent rows by itself, and another order "
            "costs passes over the indices that its hits do not pay for",
        ),
        Claim(
            claim="share of the profile in the time of the table-aware twin",
            published="< 2 % of run time (notes)",
            measured=measured(100 * statistics.median(twin["profile"]), "%"),
            limit="2 passes over the indices", basis=Basis.MEASURED, rule=at_most(2.0),
            note="here the core that pools also profiles",
            reason="a core pools one bag of short vectors in little more than two passes over the "
            "indices would take",
        ),
        Claim(
            claim="speed of the simulator, the slower of host and near",
            published="not published",
            measured=measured(min(max(rate["host"]), max(rate["near"])), "lookups/s"),
            limit="the machine", basis=Basis.MEASURED, rule=at_least(1e6),
            note="best of repeats",
            reason="other work ran on the machine; `python -m benchmarks.memory` also counts the "
            "processor's time",
        ),
    ]  # fmt: skip


def tables(settings: Settings, results: Results) -> list[Table]:
    """What the claims are drawn from, first seed where there are several."""
    first = results["arms"][0]
    cycles = tuple(
        (f"{name}, {vector} B", *(f"{case[arm]['cycles']:.2f}" for arm in ARMS))
        for (name, vector), case in first.items()
    )
    rest = tuple(
        (
            f"{name}, {vector} B",
            f"{case['host, cache']['hit_rate']:.1%}", f"{case['cache']['hit_rate']:.1%}",
            f"{case['profile']['hit_rate']:.1%}", f"{case[ALL]['hit_rate']:.1%}",
            " / ".join(map(str, case["thresholds"])), f"{case['8 ranks']['imbalance']:.2f}",
            *(
                f"{case['host']['energy_pj'][e] / 1e3:.1f} -> {case[ALL]['energy_pj'][e] / 1e3:.1f}"
                for e in ENERGY_SETS
            ),
        )
        for (name, vector), case in first.items()
    )  # fmt: skip
    scaling = results["scaling"][0]
    twin = results["twin"]
    return [
        Table(
            title="Cycles per lookup (DDR4-2400); each column from '8 ranks' on adds to the last",
            columns=("trace", *ARMS),
            rows=cycles,
        ),
        Table(
            title="Hit rates, thresholds of the profile in either order, fullest over mean rank, "
            "nJ per lookup",
            columns=(
                "trace", "host's cache", "ranks' LRU", "profile", "all", "thresholds", "imbalance",
                *ENERGY_SETS,
            ),
            rows=rest,
        ),
        Table(
            title="Cycles per lookup by ranks, uniform lookups",
            columns=("ranks", "balanced", "random pages", "host"),
            rows=tuple(
                (f"{ranks}", *(f"{scaling[key][i]:.2f}" for key in ("balanced", "random", "host")))
                for i, ranks in enumerate(scaling["ranks"])
            ),
        ),
        _side_by_side(results),
        _coloured(results),
        Table(
            title="Hit rates of LRU by capacity, per rank and as one cache",
            columns=(
                "trace", *(f"{size >> 10} KiB a rank" for size in settings.caches),
                *(f"{size >> 20} MiB" for size in PRODUCTION_CACHES),
            ),
            rows=tuple(
                (name, *(f"{rate:.1%}" for rate in (*seeds[0]["rank"], *seeds[0]["one"])))
                for name, seeds in results["caches"].items()
            ),
        ),
        Table(
            title=f"Software twin, {twin['bytes'] / 1e6:.0f} MB of tables: milliseconds",
            columns=("variant", "warm, median", "warm, range", "cold, median", "cold, range"),
            rows=tuple((name, *_times(twin, name)) for name in VARIANTS),
        ),
        sources(memory=memory_system().facts),
    ]  # fmt: skip


def _side_by_side(results: Results) -> Table:
    first, model = results["shared"][0]["models"], results["model"]
    pooling, rest = statistics.median(model["pooling"]), statistics.median(model["rest"])
    crowded = _crowded(results["shared"][0])
    gains = throughput_gains(pooling, rest, crowded)
    return Table(
        title=f"Models that share the memory (Zipf {ALPHA:g}): cycles per lookup, and gains over "
        "the plain host",
        columns=("models", "host", FAIR, "8 ranks", ALL, "hits", "pooling", "throughput"),
        rows=tuple(
            (
                f"{count}", *(f"{first[arm][i]:.2f}" for arm in ("host", FAIR, "8 ranks", ALL)),
                f"{first['hits'][i]:.1%}", f"{crowded[i]:.2f} x", f"{gains[i]:.2f} x",
            )
            for i, count in enumerate(first["models"])
        ),
    )  # fmt: skip


def _coloured(results: Results) -> Table:
    first = results["shared"][0]["colours"]
    return Table(
        title=f"Where tables lie (Zipf {ALPHA:g}): cycles per lookup, fullest over mean rank",
        columns=("pages", "ranks used", "8 ranks", "imbalance", "with caches", "hits"),
        rows=tuple(
            (
                name, f"{first['ranks used'][name]}", f"{plain['cycles']:.2f}",
                f"{plain['imbalance']:.2f}", f"{first['cache'][name]['cycles']:.2f}",
                f"{first['cache'][name]['hit_rate']:.1%}",
            )
            for name, plain in first["plain"].items()
        ),
    )  # fmt: skip


def _times(twin: Results, name: str) -> list[str]:
    found = []
    for state in ("warm", "cold"):
        values = [1e3 * v for v in twin[f"{name}/{state}"]]
        found += [f"{statistics.median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}"]
    return found


def drawing(settings: Settings, results: Results) -> Figure:
    """Gain over the plain host by arm, a line per trace; and hit rates by capacity."""
    drawn = figure(2)
    panel = axes(drawn, "Gain over a host without a cache", "", "x", (1, 2, 1))
    first = results["arms"][0]
    for name in trace_names(settings):
        case: dict[str, Any] = first[name, settings.vectors[0]]
        panel.plot(ARMS, [speedup(case, arm) for arm in ARMS], "o-", markersize=3, label=name)
    panel.tick_params(axis="x", labelrotation=60)
    panel.legend(fontsize=7, frameon=False)
    panel = axes(drawn, "Hits of the ranks' caches", "KiB per rank", "share", (1, 2, 2))
    sizes = [size / 1024 for size in settings.caches]
    for name, seeds in results["caches"].items():
        panel.plot(sizes, seeds[0]["rank"], "o-", markersize=3, label=name)
    panel.set_xscale("log", base=2)
    return drawn
