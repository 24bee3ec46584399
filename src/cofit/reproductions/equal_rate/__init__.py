"""Structures of published systems at one rate on one trained network, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.reproductions.equal_rate.arms import (
    DENSE,
    FORMS,
    ONE_SHOT,
    PATTERN,
    RANDOM,
    Settings,
    dataset,
    given,
    trained,
)
from cofit.reproductions.equal_rate.deployed import costs, filled
from cofit.reproductions.harness import (
    Claim,
    Outcome,
    Reproduction,
    Step,
    Study,
    Table,
    above_spread,
    at_least,
    axes,
    figure,
    measured,
)

Found = Mapping[str, list[dict[str, Any]]]


def run(study: Study[Settings]) -> Outcome:
    """Train every arm for every seed, deploy the first seed's networks, put all in a table."""
    settings = study.settings
    data = dataset(settings)

    def start(step: Step) -> dict[str, Any]:
        return dict(given(step, settings, data).state_dict())

    model = filled(settings, study.step("given", start))
    arms = (DENSE, *settings.forms, ONE_SHOT, RANDOM)
    found = {
        arm: [
            study.step(
                f"{arm.replace(',', '')} {seed}",
                partial(trained, settings=settings, data=data, start=model, arm=arm, seed=seed),
            )
            for seed in study.seeds
        ]
        for arm in arms
    }
    states = {arm: _state(found[arm][0]) for arm in (DENSE, *settings.forms)}
    deployed = study.step("deployed", lambda step: costs(settings, data, states))
    claims = _claims(settings, found, deployed)
    return Outcome(claims, [_table(found, deployed)], _figure(found, deployed))


def _state(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("state "): value
        for name, value in results.items()
        if name.startswith("state ")
    }


def _over(found: Found, better: str, worse: str, what: str = "accuracy") -> list[float]:
    return [100 * (a[what] - b[what]) for a, b in zip(found[better], found[worse], strict=True)]


def _claims(settings: Settings, found: Found, deployed: Mapping[str, Any]) -> list[Claim]:
    setting = f"{settings.entry} on {settings.data} at {settings.rate:g}x; equal epochs, test part"
    dense, pattern = deployed[DENSE], deployed[PATTERN]
    split = deployed["block"]["crossbars"] / deployed["polarised"]["crossbars"]
    return [
        Claim(
            claim="accuracy of patterns by ADMM over the same patterns by one-shot projection",
            published="ADMM is the method of these systems; no figure at equal epochs",
            measured=measured(_over(found, PATTERN, ONE_SHOT), "points"),
            limit="accuracy of the dense network", basis=Basis.MEASURED, rule=above_spread(),
            note=setting,
            reason="the epochs of ADMM are taken from those within the structure",
        ),
        Claim(
            claim="accuracy of patterns by ADMM over random patterns",
            published="not published",
            measured=measured(_over(found, PATTERN, RANDOM), "points"),
            limit="accuracy of the dense network", basis=Basis.MEASURED, rule=above_spread(),
            note=setting,
        ),
        Claim(
            claim="bytes of the pruned layers at int8, dense over patterns with indices",
            published="index bytes fall from 8 to 2 a kernel (PatDNN, FKW)",
            measured=measured(dense["bytes"] / pattern["bytes"], "x"),
            limit=f"{settings.rate:g}x", basis=Basis.MEASURED, rule=at_least(0.5 * settings.rate),
            reason="indices of one and two bytes weigh as much as values of one",
        ),
        Claim(
            claim="latency of the network at batch 1, dense program over that of patterns",
            published="up to 44.5x over TFLite on phones (PatDNN)",
            measured=measured(dense["latency_s"] / pattern["latency_s"], "x"),
            limit=f"{settings.rate:g}x", basis=Basis.MEASURED, rule=at_least(2.0),
            note="our own fp32 programs, one thread, timed in turn",
        ),
        Claim(
            claim="crossbars at int8, blocks with split signs over polarised rows",
            published="2x by one sign per fragment (FORMS)",
            measured=measured(split, "x"),
            limit="2x by signs, times what whole rows free", basis=Basis.MODELLED,
            rule=at_least(2.0), note="128x128 cells of 2 bits, every layer in its own",
            reason="layers smaller than an array still take a whole one",
        ),
    ]  # fmt: skip


def _table(found: Found, deployed: Mapping[str, Any]) -> Table:
    rows = []
    for arm, results in found.items():
        cost = deployed.get(arm)
        rows.append((
            arm,
            f"{results[0]['rate']:.3g}",
            measured([100 * r["hardened"] for r in results], "").text,
            measured([100 * r["accuracy"] for r in results], "").text,
            *(_shown(cost, key, factor) for key, factor in _COLUMNS.values()),
        ))  # fmt: skip
    return Table(
        title="Structures of the 3x3 layers; costs of the first seed",
        columns=("arm", "rate", "validation accuracy when projected, %", "test accuracy, %",
                 *_COLUMNS),
        rows=tuple(rows),
    )  # fmt: skip


_COLUMNS = {
    "KB at int8 with indices": ("bytes", 1e-3),
    "latency, us": ("latency_s", 1e6),
    "Cortex-M4 instructions, millions": ("instructions", 1e-6),
    "crossbars": ("crossbars", 1.0),
}


def _shown(cost: Mapping[str, float] | None, key: str, factor: float) -> str:
    return "" if cost is None or key not in cost else f"{cost[key] * factor:.4g}"


def _figure(found: Found, deployed: Mapping[str, Any]) -> Figure:
    drawn = figure()
    panel = axes(drawn, "Structures at one rate", "latency at batch 1, us", "test accuracy, %")
    for arm in (DENSE, *FORMS):
        if arm in found:
            reached = measured([100 * r["accuracy"] for r in found[arm]], "")
            panel.errorbar(
                1e6 * deployed[arm]["latency_s"], reached.mean, reached.spread or 0.0,
                marker="o", capsize=3, label=arm,
            )  # fmt: skip
    panel.legend(fontsize=8, frameon=False)
    return drawn


REPRODUCTION = Reproduction(
    name="equal-rate",
    title="structures of published systems at one rate on one trained network",
    source="the systems of these structures (see the others); the comparison is ours",
    scales={
        "smoke": Settings(
            data="digits", entry="digits_resnet", weights="", dense_epochs=3, examples=320,
            batch=32, admm_epochs=1, retrain_epochs=1, rate=4.0, board="",
            forms={name: FORMS[name] for name in ("pattern", "block", "polarised")},
        ),
        "standard": Settings(),
        "full": Settings(examples=18_000, admm_epochs=20, retrain_epochs=20),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
