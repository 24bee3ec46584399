"""DDC-PIM: complementary filter pairs, two weights for each stored word of a 6T SRAM macro.

Training, exact integer recovery, and the same sums on a simulated array. Cycles follow from a
closed form; density and area of the macro need its circuit and are not claimed here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.reproductions.ddc_pim.cycles import EFFICIENTNET_B0, MOBILENET_V2, published_network
from cofit.reproductions.ddc_pim.study import (
    Settings,
    dataset,
    geometry,
    paired,
    pretrained,
    rounded,
)
from cofit.reproductions.harness import (
    Claim,
    Outcome,
    Reproduction,
    Study,
    Table,
    accuracy,
    at_least,
    at_most,
    axes,
    bars,
    between,
    figure,
    measured,
    sources,
)
from cofit.targets.arrays import MODES, Layer, Macro, ddc

STEM, HEAD = 32, 1280
"""First and last convolution of the two published networks."""


def run(study: Study[Settings]) -> Outcome:
    """Train every variant of every seed, then count cycles."""
    data = dataset(study.settings)
    found = []
    for seed in study.seeds:
        model = pretrained(study, data, study.settings.width, seed)
        narrow = pretrained(study, data, study.settings.width / math.sqrt(2), seed)
        results = {
            "float": {"accuracy": accuracy(model, data.test)},
            "int8": rounded(study, data, model, 8, "int8", seed),
            "pairs, adjacent": paired(study, data, model, "adjacent", seed),
            "pairs, matched": paired(study, data, model, "matched", seed),
            "int4": rounded(study, data, model, 4, "int4", seed),
            "narrow int8": rounded(study, data, narrow, 8, "narrow", seed),
        }
        found.append(results)
    small = geometry(model, data)
    networks = {
        "MobileNetV2": published_network(MOBILENET_V2, STEM, HEAD),
        "EfficientNet-B0": published_network(EFFICIENTNET_B0, STEM, HEAD),
        f"this network, {data.name}": small,
    }
    return Outcome(_claims(found, networks), _tables(found, networks, data.name), _figure(found))


def _claims(
    found: Sequence[dict[str, dict[str, Any]]], networks: dict[str, list[Layer]]
) -> list[Claim]:
    def points(high: str, low: str) -> list[float]:
        return [100 * (one[high]["accuracy"] - one[low]["accuracy"]) for one in found]

    def ratio(key: str) -> list[float]:
        return [one["pairs, matched"][key] / one["pairs, adjacent"][key] for one in found]

    macro = Macro()
    matched = [one["pairs, matched"] for one in found]
    untrained = statistics.fmean(100 * one["untrained"] for one in matched)
    scarce = (
        f"as many bytes of 4-bit weights lose {measured(points('int8', 'int4'), 'points').text}: "
        "this network can spare the precision of its weights, not half of their number"
    )
    claims = [
        Claim(
            claim="matched pairs against INT8, all pairs exact, same epochs",
            published="negligible loss (abstract)",
            measured=measured(points("int8", "pairs, matched"), "points"),
            limit="none; a pair has L + 1 free numbers of 2L",
            basis=Basis.MEASURED,
            rule=at_most(1.5),
            note=f"integer inference; projecting without training leaves {untrained:.1f} %",
            reason=scarce,
        ),
        Claim(
            claim="matched pairs over INT4 at the same storage",
            published="not published",
            measured=measured(points("pairs, matched", "int4"), "points"),
            limit="none",
            basis=Basis.MEASURED,
            rule=at_least(0.0),
            note="8-bit weights in half of the words against 4-bit weights; same layers, epochs",
            reason="this network can spare the precision of its weights, not half of their number",
        ),
        Claim(
            claim="matched pairs over an INT8 network that is narrower by the root of 2",
            published="not published",
            measured=measured(points("pairs, matched", "narrow int8"), "points"),
            limit="none",
            basis=Basis.MEASURED,
            rule=at_least(0.0),
            note="about the same storage, half of the arithmetic; trained from scratch as long",
            reason="likely the complement binds more than width does: of two filters one is free",
        ),
        Claim(
            claim="projection error of matched over adjacent pairs",
            published="adjacent pairs (recalled)",
            measured=measured(ratio("error"), "x"),
            limit="1x: the adjacent pairs are among the matchings",
            basis=Basis.MEASURED,
            rule=at_most(1.0),
            note="relative squared error of adjacent pairs "
            f"{statistics.fmean(one['pairs, adjacent']['error'] for one in found):.3f}, "
            "0.5 for independent filters",
        ),
        Claim(
            claim="weight bytes of the INT8 network over those of the paired one",
            published="2x capacity",
            measured=measured(
                [one["int8"]["bytes"] / one["pairs, matched"]["bytes"] for one in found], "x"
            ),
            limit="2x, less constants, first layer, classifier and layers of under 16 filters",
            basis=Basis.MEASURED,
            rule=between(1.7, 2.0),
        ),
        Claim(
            claim="paired layers whose sums follow bit for bit from u, ~u and two constants",
            published="principle (abstract)",
            measured=measured([100 * m["recovered"] / m["layers"] for m in matched], "%"),
            limit="100 %",
            basis=Basis.MEASURED,
            rule=at_least(100.0),
            note="on activations of test images, strides, padding and depthwise layers included",
        ),
        Claim(
            claim="paired layers whose sums a bit-serial array gives, cells read from both sides",
            published="principle (abstract)",
            measured=measured([100 * m["on array"] / m["layers"] for m in matched], "%"),
            limit="100 %",
            basis=Basis.SIMULATED,
            rule=at_least(100.0),
            note="64 rows at a time, bit by bit through adder trees; "
            f"{statistics.fmean(m['plain cells'] / m['cells'] for m in matched):.3f}x fewer cells "
            "than with a weight of its own for every filter",
        ),
    ]  # fmt: skip
    for name, published in (("MobileNetV2", 2.84), ("EfficientNet-B0", 2.69)):
        layers = networks[name]
        gains = {
            mode: macro.total(layers, "baseline") / macro.total(layers, mode) for mode in MODES
        }
        claims.append(
            Claim(
                claim=f"{name} at 224x224: cycles of the macro with pairs, dual broadcast and a "
                "split adder tree",
                published=f"about {published}x (abstract)",
                measured=measured(gains["fcc+dual+split"], "x"),
                limit=f"{_bound(layers, macro):.2f}x: depthwise layers, "
                f"{100 * _share(layers, macro):.0f} % of the cycles, by 4, all others by 2",
                basis=Basis.MODELLED,
                rule=at_least(published),
                note=f"geometry of the macro is ours; pairs alone give {gains['fcc']:.2f}x, with "
                f"dual broadcast {gains['fcc+dual']:.2f}x; both sides load without overlap",
            )
        )  # fmt: skip
    return claims


def _share(layers: list[Layer], macro: Macro) -> float:
    """Part of the baseline's cycles that depthwise layers take."""
    depthwise = [layer for layer in layers if layer.depthwise]
    return macro.total(depthwise, "baseline") / macro.total(layers, "baseline")


def _bound(layers: list[Layer], macro: Macro) -> float:
    share = _share(layers, macro)
    return 1 / ((1 - share) / 2 + share / 4)


def _tables(
    found: Sequence[dict[str, dict[str, Any]]], networks: dict[str, list[Layer]], data: str
) -> list[Table]:
    rows = []
    for name in found[0]:
        stored = found[0][name].get("bytes")
        rows.append((
            name,
            measured([100 * one[name]["accuracy"] for one in found], "%").text,
            "" if stored is None else f"{stored}",
        ))  # fmt: skip
    macro = Macro()
    cycles = [
        (
            name,
            *(f"{macro.total(layers, 'baseline') / macro.total(layers, mode):.2f} x"
              for mode in MODES[1:]),
            f"{100 * _share(layers, macro):.0f} %",
        )
        for name, layers in networks.items()
    ]  # fmt: skip
    return [
        Table(title=f"Test accuracy, {data}", columns=("network", "accuracy", "weight bytes"),
              rows=tuple(rows)),
        Table(title="Cycles of the baseline over those with", columns=(
            "network", "pairs", "+ dual broadcast", "+ split adder tree", "depthwise share",
        ), rows=tuple(cycles)),
        sources(ddc=ddc().facts),
    ]  # fmt: skip


def _figure(found: Sequence[dict[str, dict[str, Any]]]) -> Figure:
    drawn = figure()
    values = {n: measured([100 * one[n]["accuracy"] for one in found], "%") for n in found[0]}
    panel = axes(drawn, "Two weights for each stored word", "", "test accuracy (%)")
    bars(panel, {n: v.mean for n, v in values.items()}, [v.spread for v in values.values()])
    panel.set_ylim(bottom=max(0.0, min(min(v.values) for v in values.values()) - 3))
    return drawn


_SMALL = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2), (6, 64, 2, 1))

REPRODUCTION = Reproduction(
    name="ddc-pim",
    title="complementary filter pairs for SRAM compute-in-memory",
    source="Duan et al., IEEE TCAD 43(3), 2024, arXiv 2310.20424",
    scales={
        "smoke": Settings(
            "digits", 600, 200, ((1, 16, 1, 1), (2, 32, 1, 2)), 1.0, 32, 2, 1, size=50, rate=0.1,
        ),
        "standard": Settings("cifar10", 6000, 5000, _SMALL, 1.0, 256, 6, 4),
        "full": Settings("cifar10", 18000, 5000, _SMALL, 1.0, 256, 30, 20),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
