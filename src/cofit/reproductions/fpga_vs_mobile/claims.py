"""Claims, tables and the figure; no order is stated without how often the draws agree with it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator

import numpy as np
from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.reproductions.fpga_vs_mobile.anchors import (
    ANCHORS,
    CALIBRATED_ON,
    PHONE_W,
    statement,
)
from cofit.reproductions.fpga_vs_mobile.study import (
    BLOCKS,
    FPGAS,
    LOW,
    PHONES,
    PLATFORMS,
    VARIANTS,
    Results,
)
from cofit.reproductions.harness import (
    Claim,
    Table,
    at_least,
    at_most,
    axes,
    figure,
    measured,
    sources,
)
from cofit.targets.platforms import (
    Entry,
    describe,
    implied_power_w,
    parameters,
    pareto,
    power_statement,
    rank,
)

ALLOWED_POINTS = 1.0
VGG16_MACS, VGG16_FPS, VGG16_OP_PER_J = 15.47e9, 11.8, 135e9
"""XC7Z045 design, JLPEA 10(1):1."""

FIRST_LINE = "All efficiencies are modelled: neither FPGAs nor phones were measured"


def within(results: Results) -> list[str]:
    """Variants whose mean accuracy is at most a point below the dense network's."""
    base = statistics.fmean(results["accuracies"]["fp32"])
    return [
        name for name, values in results["accuracies"].items()
        if base - statistics.fmean(values) <= ALLOWED_POINTS
    ]  # fmt: skip


def names(results: Results) -> list[str]:
    """Variants that were trained."""
    return list(results["accuracies"])


def trained(results: Results, wanted: Iterable[str]) -> list[str]:
    """Those of some variants that were trained."""
    return [name for name in wanted if name in names(results)]


def best(results: Results, variants: Iterable[str], platforms: Iterable[str]) -> Entry:
    """The most efficient of some variants on some platforms, undrawn."""
    found: dict[tuple[str, str], Entry] = results["entries"]
    places = list(platforms)
    return max(
        (found[name, place] for name in variants for place in places),
        key=lambda each: float(each.efficiency()[0]),
    )


def claims(results: Results) -> list[Claim]:
    """All rows."""
    return [
        *_platforms(results), *_compression(results), *_anchors(results), *_calibration(results),
    ]  # fmt: skip


def _platforms(results: Results) -> list[Claim]:
    equal = [name for name in within(results) if name not in LOW]
    phone, fpga = best(results, equal, PHONES), best(results, equal, FPGAS)
    low, any_phone = (
        best(results, trained(results, LOW), FPGAS),
        best(results, names(results), PHONES),
    )
    base = np.array(results["accuracies"]["fp32"])
    variant = low.label.partition(" on ")[0]
    gap = base - np.array(results["accuracies"][variant])
    board = rank([phone, fpga], "board")
    return [
        Claim(
            claim="frames/J of the best phone over the best FPGA, at most a point below dense "
            "accuracy, no ternary or binary weights",
            published="phones generally ahead (secondary summary)",
            measured=measured(_ratio(phone, fpga), "x"),
            limit="ratio of energies per operation and byte",
            basis=Basis.MODELLED, rule=at_least(1.0),
            note=f"{rank([phone, fpga])}; by the boards' power, {board}",
        ),
        Claim(
            claim="frames/J of the best ternary or binary FPGA design over the best phone",
            published="FPGAs ahead (secondary summary)",
            measured=measured(_ratio(low, any_phone), "x"),
            limit="static power over frames per second",
            basis=Basis.MODELLED, rule=at_least(1.0),
            note=f"{rank([low, any_phone])}; its accuracy gap is the next row",
            reason="a network this small is bound by the starts of its layers, not by arithmetic: "
            "binary is hardly faster than int8 (below), and static power is paid all the same",
        ),
        Claim(
            claim=f"accuracy that {variant} loses to dense",
            published="significant loss (secondary summary)",
            measured=measured(gap, "points"),
            limit="-", basis=Basis.MEASURED, rule=at_least(1.0),
        ),
    ]  # fmt: skip


def _compression(results: Results) -> list[Claim]:
    entries: dict[tuple[str, str], Entry] = results["entries"]
    place = parameters("zcu102")
    int8 = place["fabric.dsp"] * place["fabric.dsp_share"] * place["macs_per_dsp.int8"]
    luts = place["fabric.lut"] * place["fabric.lut_share"]
    rates = (luts / place["luts_per_mac.binary"]) / (int8 + luts / place["luts_per_mac.int8"])
    faster = [
        float(entries["int8", name].estimate.latency_s[0]
              / entries["binary", name].estimate.latency_s[0])
        for name in ("zcu102",)
    ]  # fmt: skip
    gains = {
        name: min(
            _ratio(entries[name, platform], entries["fp32", platform])
            for platform in ("zcu102", "snapdragon-855")
        )
        for name in trained(results, BLOCKS)
    }
    chosen = [name for name in gains if name in within(results)] or list(gains)
    unified = max(chosen, key=lambda name: gains[name])
    return [
        Claim(
            claim="frames/s of binary over int8 on zcu102",
            published="not published; limit derived",
            measured=measured(faster, "x"),
            limit=f"{rates:.2f} x in LUTs where computing binds, 8 x where weights do",
            basis=Basis.MODELLED, rule=at_most(max(rates, 8.0)),
        ),
        Claim(
            claim="least gain in frames/J over dense on both zcu102 and snapdragon-855 of one mask "
            "of blocks",
            published="gains on both (abstract)",
            measured=measured(gains[unified], "x"),
            limit=f"{VARIANTS[unified].structure}: its rate, and Amdahl",
            basis=Basis.MODELLED, rule=at_least(1.0),
            note=f"chosen among {', '.join(f'{n} ({g:.2f} x)' for n, g in gains.items())}"
            + ("" if unified in within(results) else "; none is within a point of dense accuracy"),
        ),
    ]  # fmt: skip


def _anchors(results: Results) -> list[Claim]:
    found = results["anchors"]
    ratios = [p / a.fpga_ms for p, a in zip(found["predicted_ms"], ANCHORS, strict=True)]
    worst = max(max(r, 1 / r) for r in ratios[CALIBRATED_ON:])
    rows = range(CALIBRATED_ON, len(ANCHORS))
    return [
        Claim(
            claim="measured FPGA latencies of two networks, predicted after calibration on three "
            "others: worst factor",
            published="HW-NAS-Bench's table",
            measured=measured(worst, "x"),
            limit="1", basis=Basis.MODELLED, rule=at_most(2.0),
            note=statement([found["predicted_ms"][row] for row in rows], list(rows))
            + f"; energy is {found['power_w']:.3f} W times latency in every row, so it is no "
            "measurement of power",
        ),
        Claim(
            claim=f"networks of that table on which a phone of {PHONE_W:g} W beats the FPGA",
            published="not published: phones have no energy column",
            measured=measured(
                sum(a.phone_ms * PHONE_W < a.fpga_mj for a in ANCHORS) / len(ANCHORS), "share"
            ),
            limit="0 to 1", basis=Basis.MODELLED, rule=at_most(0.99),
            note="holds if the ranking turns with the network; the phone's power is assumed",
        ),
    ]  # fmt: skip


def _calibration(results: Results) -> list[Claim]:
    found = results["host"]["errors"]
    return [
        Claim(
            claim="this CPU, calibrated: median error of predicted layers",
            published="not published",
            measured=measured(statistics.median(found), "%"),
            limit="0", basis=Basis.MEASURED, rule=at_most(20.0),
            note=f"{len(found)} random layers that were not calibrated on",
        ),
        Claim(
            claim="this CPU, calibrated: 95th percentile of the error",
            published="not published",
            measured=measured(float(np.percentile(found, 95)), "%"),
            limit="0", basis=Basis.MEASURED, rule=at_most(60.0),
        ),
    ]  # fmt: skip


def tables(results: Results) -> list[Table]:
    """What the claims are drawn from."""
    entries: dict[tuple[str, str], Entry] = results["entries"]
    found = results["anchors"]
    front = set(pareto(list(entries.values())))
    rows = []
    for name in names(results):
        accuracy = measured(results["accuracies"][name], "%").text
        cells = []
        for platform in PLATFORMS:
            each = entries[name, platform]
            value, low, high = each.interval()
            mark = " *" if each.label in front else ""
            board = each.interval("board")[0]
            cells.append(f"{value:.3g} ({low:.3g} to {high:.3g}){mark}, board {board:.3g}")
        rows.append((name, accuracy, *cells))
    checks = power_statement(2 * VGG16_MACS * VGG16_FPS, VGG16_OP_PER_J, _power("zc706"))
    implied = implied_power_w(2 * VGG16_MACS * VGG16_FPS, VGG16_OP_PER_J)
    return [
        Table(
            title=f"{FIRST_LINE}. Frames/J by energies, 5 to 95 % of the draws, * on the Pareto "
            "set, then by the board's power",
            columns=("compression", "accuracy", *PLATFORMS),
            rows=tuple(rows),
        ),
        Table(
            title="Speed-ups of pruned 3x3 layers on this CPU, transferred to phones as a share",
            columns=("compression", "measured (x)", "fewer weights (x)", "share"),
            rows=tuple(
                (name, f"{r['ratio']:.2f}", f"{r['ideal']:.2f}", f"{r['share']:.2f}")
                for name, r in results["shares"].items()
            ),
        ),
        Table(
            title=f"HW-NAS-Bench's FPGA, calibrated on the first {CALIBRATED_ON} rows; a phone "
            f"at an assumed {PHONE_W:g} W",
            columns=("network", "ms", "predicted ms", "mJ", "W", "Pixel 3 ms", "phone mJ"),
            rows=tuple(
                (a.name, f"{a.fpga_ms:.3f}", f"{p:.3f}", f"{a.fpga_mj:.2f}", f"{a.fpga_w:.3f}",
                 f"{a.phone_ms:g}", f"{a.phone_ms * PHONE_W:.1f}")
                for a, p in zip(ANCHORS, found["predicted_ms"], strict=True)
            ),
        ),
        Table(
            title="This CPU, calibrated: errors on layers that it was not calibrated on (%)",
            columns=("kind", "median", "largest"),
            rows=tuple(_errors(results["host"])),
        ),
        Table(
            title="Cross-checks of published figures",
            columns=("design", "statement", "implied W"),
            rows=(("VGG-16 on an XC7Z045, 11.8 frames/s", checks, f"{implied:.2f}"),),
        ),
        Table(
            title="Numbers of the platforms by provenance",
            columns=("platform", "what", "numbers"),
            rows=tuple(
                (name, parameters(name).about,
                 ", ".join(f"{count} {kind}" for kind, count in describe(parameters(name)).items()))
                for name in PLATFORMS
            ),
        ),
        sources(**{name: parameters(name).facts for name in PLATFORMS}),
    ]  # fmt: skip


def drawing(results: Results) -> Figure:
    """Accuracy against frames per joule, with the ranges of the draws."""
    drawn = figure(1, 1, 6.4, 4.2)
    panel = axes(drawn, "Modelled: 5 to 95 % of the draws", "frames per joule", "accuracy (%)")
    entries: dict[tuple[str, str], Entry] = results["entries"]
    for platform in PLATFORMS:
        points = [entries[name, platform] for name in names(results)]
        spans = [each.interval() for each in points]
        panel.errorbar(
            [value for value, _, _ in spans],
            [each.accuracy or 0.0 for each in points],
            xerr=[[v - min(low, v) for v, low, _ in spans], [max(h, v) - v for v, _, h in spans]],
            fmt="o", markersize=3, linewidth=0.8, label=platform,
        )  # fmt: skip
    panel.set_xscale("log")
    panel.legend(fontsize=7, frameon=False)
    return drawn


def _errors(host: Results) -> Iterator[tuple[str, str, str]]:
    for kind in dict.fromkeys(host["kinds"]):
        mine = [e for e, k in zip(host["errors"], host["kinds"], strict=True) if k == kind]
        yield kind, f"{statistics.median(mine):.1f}", f"{max(mine):.1f}"


def _ratio(first: Entry, second: Entry) -> float:
    return float(first.efficiency()[0] / second.efficiency()[0])


def _power(platform: str) -> float:
    return parameters(platform)["board.board_power"]
