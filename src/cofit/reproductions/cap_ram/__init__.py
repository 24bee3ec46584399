"""CAP-RAM: a ternary network in one charge-domain SRAM macro, on simulated chips.

Linearity, accuracy and capacity are simulated; time and energy follow from the published figures
of the macro, which are an input here and no result.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.data import Dataset
from cofit.ir import trace
from cofit.reproductions.cap_ram.study import (
    Settings,
    accuracies,
    chips,
    dataset,
    full_scales,
    linearity,
    network,
    pretrained,
    quantised,
    tuned_on_chips,
)
from cofit.reproductions.harness import (
    Claim,
    Outcome,
    Reproduction,
    Study,
    Table,
    above_spread,
    at_least,
    at_most,
    axes,
    bars,
    figure,
    measured,
    sources,
)
from cofit.targets.arrays import (
    CHARGE,
    CURRENT,
    PRECISIONS,
    ArrayTarget,
    capram,
    check_capacity,
    matrices_of,
)

CHARGED, RAW, CURRENTS = "charge, calibrated", "charge, raw", "current, calibrated"
AWARE, FREE = "trained with noise", "trained without"


def run(study: Study[Settings]) -> Outcome:
    """Train, write into chips, and judge."""
    data = dataset(study.settings)
    found = [_of_seed(study, data, seed) for seed in study.seeds]
    cells = _cells(study.settings, data)
    return Outcome(_claims(found, study.settings, cells), _tables(found, study, data),
                   _figure(found))  # fmt: skip


def _of_seed(study: Study[Settings], data: Dataset, seed: int) -> dict[str, Any]:
    count = study.settings.chips
    model, dense = pretrained(study, data, seed)
    ternary = quantised(study, data, model, seed)
    scales = full_scales(ternary, data)
    kinds = {
        RAW: (CHARGE, False), CHARGED: (CHARGE, True), CURRENTS: (CURRENT, True),
    }  # fmt: skip
    scores: dict[str, list[float]] = {}
    for name, (line, adjusted) in kinds.items():
        scores[name] = study.step(
            f"{name.replace(',', '')} {seed}",
            lambda step, line=line, adjusted=adjusted: {  # type: ignore[misc]
                "accuracies": accuracies(
                    ternary, data, scales, chips(seed, "chips", line, count), seed, adjusted
                )
            },
        )["accuracies"]
    ideal = {"ternary, exact": ternary.accuracy}
    for name, noisy in ((AWARE, True), (FREE, False)):
        tuned = tuned_on_chips(study, data, ternary, noisy, seed)
        ideal[f"{name}, exact"] = tuned.accuracy
        scores[name] = study.step(
            f"{name} judged {seed}",
            lambda step, tuned=tuned: {  # type: ignore[misc]
                "accuracies": accuracies(
                    tuned, data, full_scales(tuned, data), chips(seed, "chips", CHARGE, count), seed
                )
            },
        )["accuracies"]
    lines = study.step(
        f"linearity {seed}",
        lambda step: {k: [r.largest, r.rms] for k, r in linearity(seed).items()},
    )
    return {"float": dense, "exact": ideal, "chips": scores, "linearity": lines}


def _cells(settings: Settings, data: Dataset) -> int:
    graph = trace(network(settings, data).eval(), data.train.inputs[:1])
    named = {
        f"{op.output} {i}": matrix
        for op in graph.ops
        for i, matrix in enumerate(matrices_of(graph, op))
    }
    return check_capacity(capram(), named)


def _claims(found: Sequence[dict[str, Any]], settings: Settings, cells: int) -> list[Claim]:
    def mean(one: dict[str, Any], name: str) -> float:
        return 100 * statistics.fmean(one["chips"][name])

    def largest(name: str) -> list[float]:
        return [one["linearity"][name][0] for one in found]

    lost = [100 * one["exact"]["ternary, exact"] - mean(one, CHARGED) for one in found]
    over = [mean(one, CHARGED) - mean(one, CURRENTS) for one in found]
    gained = [mean(one, AWARE) - mean(one, FREE) for one in found]
    ratio = [one["linearity"]["current, line"][1] / one["linearity"]["charge, line"][1]
             for one in found]  # fmt: skip
    converted = [one["linearity"][CURRENTS][1] / one["linearity"][CHARGED][1] for one in found]
    return [
        Claim(
            claim="largest error of a conversion after two-step calibration, of the macro's sums",
            published="under 2 steps, 524,288 samples, two chips (third-party notes)",
            measured=measured(largest(CHARGED), "steps"),
            limit="0.5 steps: rounding",
            basis=Basis.SIMULATED,
            rule=at_most(2.0),
            note="574,720 sums in random rows, a chip per seed, every one read once with its "
            f"noise; before calibration {statistics.fmean(largest(RAW)):.1f} steps",
        ),
        Claim(
            claim="rms error of a line, discharged by currents over sharing charge",
            published="charge is the more linear; no figure",
            measured=measured(ratio, "x"),
            limit="20x: 10 % of a current to 0.5 % of a capacitor, were charge not an average",
            basis=Basis.SIMULATED,
            rule=at_least(3.0),
            note="lines alone: what neither a line per column nor a common curve corrects",
        ),
        Claim(
            claim="the same of whole conversions, out of calibrated converters",
            published="charge is the more linear; no figure",
            measured=measured(converted, "x"),
            limit="as of lines, less what rounding and noise of the converters add to both",
            basis=Basis.SIMULATED,
            rule=at_least(3.0),
            reason="rounding to 7 bits and the noise of converters are the larger part of both",
        ),
        Claim(
            claim="ternary weights, 3-bit inputs: exact integers over calibrated chips",
            published="98.8 % on MNIST, equal to quantised software (abstract, notes)",
            measured=measured(lost, "points"),
            limit="none; rounding to 7 bits alone has 43.9 dB at full range",
            basis=Basis.SIMULATED,
            rule=at_most(1.0),
            note=f"{settings.data}, {settings.chips} chips per seed; no training with noise",
        ),
        Claim(
            claim="the same network: lines that share charge over lines that discharge",
            published="not published",
            measured=measured(over, "points"),
            limit="none",
            basis=Basis.SIMULATED,
            rule=above_spread(),
            note="same converters, each calibrated at the full scale of each layer on both sides",
        ),
        Claim(
            claim="trained on noisy chips over trained as long without noise, judged on others",
            published="not published",
            measured=measured(gained, "points"),
            limit="none",
            basis=Basis.SIMULATED,
            rule=at_least(0.0),
            note=f"{settings.noise_epochs} epochs each from the ternary network, same batches",
        ),
        Claim(
            claim="cells of the whole network, in one macro without reloading",
            published="a complete small CNN in 65,536 cells",
            measured=measured(float(cells), "cells"),
            limit="65,536",
            basis=Basis.MODELLED,
            rule=at_most(65536.0),
            note="channels chosen to fit, not pruned to; two cells per ternary weight",
        ),
    ]  # fmt: skip


def _tables(found: Sequence[dict[str, Any]], study: Study[Settings], data: Dataset) -> list[Table]:
    def row(name: str, values: Sequence[float]) -> tuple[str, str]:
        return name, measured([100 * v for v in values], "%").text

    rows = [row("float", [one["float"] for one in found])]
    rows += [row(name, [one["exact"][name] for one in found]) for name in found[0]["exact"]]
    rows += [
        row(name, [statistics.fmean(one["chips"][name]) for one in found])
        for name in found[0]["chips"]
    ]
    lines = [
        (
            name,
            measured([one["linearity"][name][0] for one in found], "steps").text,
            measured([one["linearity"][name][1] for one in found], "steps").text,
        )
        for name in found[0]["linearity"]
    ]
    return [
        Table(title=f"Test accuracy, {data.name}", columns=("network and chip", "accuracy"),
              rows=tuple(rows)),
        Table(title="Errors of sums in steps of 7 bits over the full range",
              columns=("chip", "largest", "rms"), rows=tuple(lines)),
        Table(title="One inference by the published figures of the macro",
              columns=("bits of a weight", "time", "energy", "of 49.4 TOPS/W"),
              rows=_inference(study, data)),
        sources(capram=capram().facts),
    ]  # fmt: skip


def _inference(study: Study[Settings], data: Dataset) -> tuple[tuple[str, ...], ...]:
    graph = trace(network(study.settings, data).eval(), data.train.inputs[:1])
    rows = []
    for precision in PRECISIONS:
        chip = capram(precision)
        costs = [chip.cost(m) for op in graph.ops for m in matrices_of(graph, op)]
        seconds = sum(cost.latency_s for cost in costs)
        joules = sum(cost.total_pj or 0.0 for cost in costs) * 1e-12
        operations = 2 * ArrayTarget(capram("1.5")).cost(graph).macs
        share = operations / joules / 49.4e12
        rows.append(
            (precision, f"{seconds * 1e6:.1f} us", f"{joules * 1e6:.2f} uJ", f"{share:.0%}")
        )
    return tuple(rows)


def _figure(found: Sequence[dict[str, Any]]) -> Figure:
    drawn = figure(columns=2)
    left = axes(drawn, "Accuracy on simulated chips", "", "test accuracy (%)", (1, 2, 1))
    values = {"exact": [100 * one["exact"]["ternary, exact"] for one in found]} | {
        name.replace(", ", ",\n").replace("trained ", "trained\n"): [
            100 * statistics.fmean(one["chips"][name]) for one in found
        ]
        for name in found[0]["chips"]
    }
    spread = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values.values()]
    bars(left, {n: statistics.fmean(v) for n, v in values.items()}, spread)
    left.set_ylim(bottom=max(0.0, min(map(min, values.values())) - 3))
    right = axes(drawn, "Errors of sums", "", "rms error (steps)", (1, 2, 2))
    bars(
        right,
        {
            name.replace(", ", ",\n"): statistics.fmean(one["linearity"][name][1] for one in found)
            for name in found[0]["linearity"]
        },
    )
    return drawn


REPRODUCTION = Reproduction(
    name="cap-ram",
    title="charge-domain SRAM macro with small calibrated converters",
    source="Chen et al., IEEE JSSC 56, 2021, arXiv 2107.02388",
    scales={
        "smoke": Settings("digits", 400, 100, (8, 16, 32), 3, 3, 2, 1, 1, 50, 5e-3, 2e-3),
        "standard": Settings("fashion_mnist", 12000, 1000, (8, 16, 96), 5, 6, 8, 3),
        "full": Settings("fashion_mnist", 57160, 9680, (8, 16, 96), 5, 15, 30, 15),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)
