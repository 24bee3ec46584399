"""Claims, tables and the figure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.graphs.points import floor_bytes
from cofit.reproductions.harness import (
    Claim,
    Table,
    at_least,
    at_most,
    axes,
    bars,
    figure,
    measured,
)
from cofit.reproductions.harness.study import Results
from cofit.reproductions.hgnas.settings import Settings

DESIGNS = ("HGNAS-Fast", "HGNAS-Acc", "random")


def claims(settings: Settings, found: Mapping[str, Any]) -> list[Claim]:
    """What was published, and the bars of the demonstration."""
    races, predictor = found["races"], found["predictor"]
    cross, contests, ranking = found["cross"], found["contests"], found["ranking"]
    cloud = f"n={settings.n}, k={settings.k}, one cloud, one thread, in turn"
    floor = _over(races, "latency_s", "DGCNN", "floor")
    better = [
        scores[own] - scores[other]
        for own, scores in cross["scores"].items() for other in scores if other != own
    ]  # fmt: skip
    rows = [
        Claim(
            claim="HGNAS-Fast: latency of DGCNN over the design's",
            published="10.6x speed-up on four machines (abstract)",
            measured=measured(_over(races, "latency_s", "DGCNN", "HGNAS-Fast"), "x"),
            limit=f"{statistics.fmean(floor):.3g}x: the cheapest design, one kNN, one aggregate "
            "and the classifier",
            basis=Basis.MEASURED, rule=at_least(10.6), note=cloud,
            reason="the classifier and the overhead of operations do not shrink with the clouds, "
            "which are smaller than the published 1024 points",
        ),
        Claim(
            claim="HGNAS-Fast: latency of the optimised DGCNN over the design's",
            published="not published; DGCNN rewritten exactly",
            measured=measured(_over(races, "latency_s", "optimised DGCNN", "HGNAS-Fast"), "x"),
            limit="the same floor: "
            f"{statistics.fmean(_over(races, 'latency_s', 'optimised DGCNN', 'floor')):.3g}x",
            basis=Basis.MEASURED, rule=at_least(1 / settings.latency_share),
            note=f"{cloud}; the search was allowed {settings.latency_share:.3g} of its latency",
        ),
        Claim(
            claim="HGNAS-Fast: peak memory less than DGCNN's, weights apart",
            published="82.5 % less (journal), 88.2 % (abstract)",
            measured=measured(
                [100 * (1 - 1 / r) for r in _over(races, "peak_bytes", "DGCNN", "HGNAS-Fast")],
                "%"),
            limit=f"{100 * (1 - _floor_share(races)):.3g} %: the cheapest design",
            basis=Basis.MEASURED, rule=at_least(82.5),
            note="high-water mark of the allocator",
            reason="the distances of one kNN are the floor, and any design has one",
        ),
        Claim(
            claim="HGNAS-Fast: peak memory less than the optimised DGCNN's, weights apart",
            published="not published",
            measured=measured(
                [100 * (1 - 1 / r)
                 for r in _over(races, "peak_bytes", "optimised DGCNN", "HGNAS-Fast")], "%"),
            limit=f"no design holds less than {floor_bytes(settings.n, 3, 3, 0)} B: points in and "
            "out; the cheapest one's is the same floor", basis=Basis.MEASURED,
            rule=at_least(100 * (1 - settings.memory_share)),
        ),
        *_accuracy_claims(settings, found["accuracy"]),
        Claim(
            claim="latency predictor, designs it has not seen: mean error",
            published="about 6 % on three machines, worse on the Pi (remembered)",
            measured=measured(100 * predictor["predictor"]["mape"], "%"),
            limit=f"noise: the middle half of the runs spreads by {predictor['spread']:.1%}",
            basis=Basis.MEASURED, rule=at_most(12.0),
            note=f"{predictor['designs']} designs by wall clock, each run beside one of the "
            "cheapest design, 30 % held out",
            reason="the machine was shared while the designs were measured",
        ),
        Claim(
            claim="latency predictor: Kendall's tau", published="not published",
            measured=measured(predictor["predictor"]["tau"], "tau"), limit="1",
            basis=Basis.MEASURED, rule=at_least(0.85),
            reason="designs differ by less than the machine's noise",
        ),
        Claim(
            claim="error of the better of a line through MACs and a table's sums, over the "
            "predictor's", published="not published",
            measured=measured(
                min(predictor["macs"]["mape"], predictor["table"]["mape"])
                / predictor["predictor"]["mape"], "x"),
            limit="none", basis=Basis.MEASURED, rule=at_least(1.0),
            note="both baselines are fitted to the same designs",
        ),
        Claim(
            claim="error with features of other designs over the predictor's",
            published="not published",
            measured=measured(
                predictor["shuffled"]["mape"] / predictor["predictor"]["mape"], "x"),
            limit="the spread of latencies", basis=Basis.MEASURED, rule=at_least(1.5),
        ),
        Claim(
            claim="one prediction", published="milliseconds (journal)",
            measured=measured(1e3 * predictor["seconds"], "ms"), limit="above 0",
            basis=Basis.MEASURED, rule=at_most(10.0), note="many designs at once",
        ),
        Claim(
            claim="returned designs within latency and memory when measured again",
            published="not published",
            measured=measured([100 * race["kept"] for race in races], "%"), limit="100 %",
            basis=Basis.MEASURED, rule=at_least(95.0),
            note="five best of each search; predictions carry the margin that 95 % of held-out "
            f"designs keep, {predictor['margin']:.1%}",
            reason="DGCNN and the designs slowed down unequally since they were measured",
        ),
        Claim(
            claim="evolution above random search at equal evaluations: p",
            published="not published", measured=measured(contests["p"], "p"),
            limit=f"{settings.contests} seeds allow no less than "
            f"{_least_p(settings.contests):.2g}", basis=Basis.MEASURED, rule=at_most(0.1),
            note=f"one-sided rank test, {settings.contest} evaluations each",
            reason="both come near the best design of the space",
        ),
        Claim(
            claim="two targets: by how much each winner is better than the other's on its own",
            published="networks differ per machine (abstract)",
            measured=measured(min(better), "score"), limit="none", basis=Basis.MODELLED,
            rule=at_least(1e-9), note="table targets; the smaller of both leads",
            reason="one design suits both targets, or a search ended before it found the better",
        ),
        Claim(
            claim="order of designs: shared weights against trained alone, Kendall's tau",
            published="not published", measured=measured(ranking["tau"], "tau"), limit="1",
            basis=Basis.MEASURED, rule=at_least(0.4), note=f"{settings.ranked} designs",
            reason="accuracies of the supernet are not reliable at this length of training",
        ),
    ]  # fmt: skip
    return rows


def _accuracy_claims(settings: Settings, accuracies: Mapping[str, Any]) -> list[Claim]:
    return [
        Claim(
            claim=f"{data}: {name} above DGCNN, trained equally",
            published="negligible loss (abstract)",
            measured=measured(
                [100 * (ours - theirs)
                 for ours, theirs in zip(runs[name], runs["DGCNN"], strict=True)], "points"),
            limit="none", basis=Basis.MEASURED, rule=at_least(-1.0),
            note=f"{settings.train} clouds of {settings.n} points, {settings.epochs} epochs",
            reason="the design has fewer features, and its weights come from no supernet here",
        )
        for data, runs in accuracies.items() for name in ("HGNAS-Fast", "HGNAS-Acc")
    ]  # fmt: skip


def tables(settings: Settings, found: Mapping[str, Any]) -> list[Table]:
    """Networks, predictors, targets and spaces."""
    races, predictor = found["races"], found["predictor"]
    data = list(found["accuracy"])
    networks = []
    for name in ("DGCNN", "optimised DGCNN", *DESIGNS, "floor"):
        trained = "DGCNN" if name == "optimised DGCNN" else name
        rights = [found["accuracy"][d].get(trained) for d in data]
        networks.append((
            name,
            measured([1e3 * r["latency_s"][name] for r in races], "ms").text,
            measured([r["peak_bytes"][name] / 1024 for r in races], "KiB").text,
            measured([r["weight_bytes"][name] / 1024 for r in races], "KiB").text,
            *["" if a is None else measured([100 * x for x in a], "%").text for a in rights],
        ))  # fmt: skip
    rows = {"predictor": "predictor", "table": "sum of operations' times", "macs": "MACs",
            "shuffled": "features of other designs"}  # fmt: skip
    reports = [
        (text, f"{predictor[key]['mape']:.1%}", f"{predictor[key]['within']:.1%}",
         f"{predictor[key]['tau']:.3f}", f"{predictor[key]['pairs']:.1%}")
        for key, text in rows.items()
    ]  # fmt: skip
    memory = [("predictor", f"{predictor['memory']:.1%}"),
              ("analytic rule", f"{predictor['analytic']:.1%}")]  # fmt: skip
    cross = [
        (target, found["cross"]["designs"][target], *[f"{v:.3f}" for v in scores.values()])
        for target, scores in found["cross"]["scores"].items()
    ]
    names = list(found["cross"]["scores"])
    designs = [
        (str(seed), name, text)
        for seed, winners in enumerate(found["designs"]) for name, text in winners.items()
    ]  # fmt: skip
    functions = [(half, *map(str, each.values())) for half, each in found["functions"].items()]
    sizes = [(name, f"10^{power:.1f}") for name, power in found["sizes"].items()]
    return [
        Table(title="Networks, one cloud, one thread",
              columns=("network", "latency", "peak memory", "weights", *data),
              rows=tuple(networks)),
        Table(title="Latency of held-out designs",
              columns=("by", "error", "within 10 %", "tau", "pairs in order"),
              rows=tuple(reports)),
        Table(title="Peak memory of held-out designs", columns=("by", "error"), rows=tuple(memory)),
        Table(title="Winners of two table targets, scores of both on each",
              columns=("target", "design", *(f"of {name}" for name in names)), rows=tuple(cross)),
        Table(title="Functions of the halves",
              columns=("half", "combine", "message", "reducer", "connect"), rows=tuple(functions)),
        Table(title="Sizes of the spaces", columns=("space", "designs"), rows=tuple(sizes)),
        Table(title="Designs", columns=("seed", "search", "operations"), rows=tuple(designs)),
    ]  # fmt: skip


def drawing(found: Mapping[str, Any]) -> Figure:
    """Latencies and peak memory of all networks."""
    on = figure(columns=2)
    names = ("DGCNN", "optimised DGCNN", *DESIGNS, "floor")
    for place, (key, scale, label) in enumerate(
        (("latency_s", 1e3, "latency [ms]"), ("peak_bytes", 1 / 1024, "peak memory [KiB]")), 1
    ):
        panel = axes(on, label.split(" [")[0].capitalize(), "", label, (1, 2, place))
        found_here = {n: measured([scale * r[key][n] for r in found["races"]], "") for n in names}
        bars(panel, {n: m.mean for n, m in found_here.items()},
             [m.spread for m in found_here.values()])  # fmt: skip
    return on


def _over(races: list[Results], key: str, one: str, other: str) -> list[float]:
    """Ratio per seed."""
    return [race[key][one] / race[key][other] for race in races]


def _floor_share(races: list[Results]) -> float:
    return statistics.fmean(1 / ratio for ratio in _over(races, "peak_bytes", "DGCNN", "floor"))


def _least_p(seeds: int) -> float:
    """One order of all is the best one."""
    ways = 1.0
    for i in range(1, seeds + 1):
        ways *= (seeds + i) / i
    return 1 / ways
