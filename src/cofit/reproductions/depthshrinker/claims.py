"""Claims, tables and the figure, from the rows of all seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.reproductions.depthshrinker.gains import Gain
from cofit.reproductions.depthshrinker.measure import IMAGES
from cofit.reproductions.depthshrinker.stages import Settings
from cofit.reproductions.harness import (
    Claim,
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

_UNPUBLISHED = "not published"
_ABSTRACT = "abstract, MobileNetV2 on ImageNet, Tesla V100, against MetaPruning"

PROGRAMMED = "merged, by programming"
"""The network whose blocks were chosen by dynamic programming instead of slopes."""


@dataclass(frozen=True)
class Row:
    """One seed.

    Attributes:
        seed: its number.
        accuracies: of "dense", "merged", `PROGRAMMED` and every "width w", on "validation" and
            "test".
        removed: blocks whose activations went.
        programmed: those that the other selector chose.
        measured: see `study`.
    """

    seed: int
    accuracies: Mapping[str, Mapping[str, float]]
    removed: tuple[str, ...]
    programmed: tuple[str, ...]
    measured: Mapping[str, Any]

    def speed(self, slow: str, quantity: str = "latency_s", fast: str = "merged") -> float:
        """How many times faster `fast` is than `slow`."""
        found = self.measured[quantity]
        ratio = found[slow] / found[fast]
        return float(ratio if quantity == "latency_s" else 1 / ratio)

    def gain(self, other: str) -> float:
        """Points of test accuracy that the merged network is above another."""
        return 100 * (self.accuracies["merged"]["test"] - self.accuracies[other]["test"])


def conclude(
    settings: Settings, gains: Mapping[str, Gain], refused: Mapping[str, str], rows: Sequence[Row]
) -> Outcome:
    """Everything that is reported."""
    claims = [
        *_exact(rows), *_against_dense(gains, rows), *_against_channels(settings, rows),
        *_selectors(rows),
    ]  # fmt: skip
    if settings.board:
        claims.extend(_on_board(rows))
    tables = (_networks(settings, rows), _blocks(gains, refused, rows))
    return Outcome(claims, tables, _figure(settings, rows))


def equal_accuracy(settings: Settings, rows: Sequence[Row]) -> str:
    """The fastest peer that reaches the merged network's mean validation accuracy.

    The dense network is one of them, so there is one unless the merged network is above it; then
    the dense network stands for all.
    """
    wanted = statistics.fmean(row.accuracies["merged"]["validation"] for row in rows)
    found = {
        name: statistics.fmean(row.accuracies[name]["validation"] for row in rows)
        for name in _peers(settings)
    }
    able = [name for name, accuracy in found.items() if accuracy >= wanted]
    return min(able or ["dense"], key=lambda name: _latency(rows, name))


def equal_latency(settings: Settings, rows: Sequence[Row]) -> str:
    """The fastest peer that is not faster than the merged network, by mean latency."""
    wanted = _latency(rows, "merged")
    slower = [name for name in _peers(settings) if _latency(rows, name) >= wanted]
    return min(slower or ["dense"], key=lambda name: _latency(rows, name))


def _exact(rows: Sequence[Row]) -> list[Claim]:
    equal = [row.measured["equal"] for row in rows]
    limit = "0; float32 rounding of merged weights"
    return [
        Claim(
            claim="merged blocks equal the trained ones on every pixel, borders included",
            published="not published (the released code times random weights)",
            measured=measured((e["pixels"] for e in equal), "of the largest output"),
            limit=limit, basis=Basis.MEASURED, rule=at_most(1e-4),
            note=f"largest relative difference over merged blocks, {IMAGES} test images; padding "
            "in front of the expansion",
        ),
        Claim(
            claim="merging a given network, padding inside the block: equal on every pixel",
            published=_UNPUBLISHED,
            measured=measured((r.measured["border"] for r in rows), "of the largest output"),
            limit=limit, basis=Basis.MEASURED, rule=at_most(1e-4),
            note="the dense network without the blocks' activations; a map added at the border",
        ),
        Claim(
            claim="logits of the merged network equal those of the fine-tuned one",
            published=_UNPUBLISHED, measured=measured((e["logits"] for e in equal), "absolute"),
            limit=limit, basis=Basis.MEASURED, rule=at_most(1e-3),
        ),
        Claim(
            claim="same class on all images, no depthwise convolution left in merged blocks",
            published=_UNPUBLISHED,
            measured=measured(
                (100 * row.measured["equal"]["same"] - row.measured["depthwise"] for row in rows),
                "%",
            ),
            limit="100 %", basis=Basis.MEASURED, rule=at_least(100),
            note=f"{IMAGES} test images; depthwise convolutions left are subtracted",
        ),
    ]  # fmt: skip


def _against_dense(gains: Mapping[str, Gain], rows: Sequence[Row]) -> list[Claim]:
    before = sum(gain.before_s for gain in gains.values())
    after = sum(gain.after_s for gain in gains.values())
    limit = f"{before / after:.2f} x in the blocks, all of them merged (sum before / sum after)"
    return [
        Claim(
            claim="speed of the compiled network over the dense one, batch 1",
            published="1.41 x at +0.11 points (follow-up, arXiv 2301.12187, TensorRT)",
            measured=measured((row.speed("dense") for row in rows), "x"),
            limit=limit, basis=Basis.MEASURED, rule=at_least(1.15),
            note="both with batch norm folded; programs timed in turn on one thread",
        ),
        Claim(
            claim="accuracy above the dense network's",
            published=_UNPUBLISHED,
            measured=measured((row.gain("dense") for row in rows), "points"),
            limit="none", basis=Basis.MEASURED, rule=at_least(-1.0),
            note="test split; the merged network has had the epochs of search and fine-tuning more",
        ),
        Claim(
            claim="control: the network with nothing merged against the dense one",
            published=_UNPUBLISHED,
            measured=measured((row.speed("dense", fast="keep 1") for row in rows), "x"),
            limit="1", basis=Basis.MEASURED, rule=between(0.95, 1.05),
        ),
    ]  # fmt: skip


def _against_channels(settings: Settings, rows: Sequence[Row]) -> list[Claim]:
    accurate, quick = equal_accuracy(settings, rows), equal_latency(settings, rows)
    best = max(
        100
        * statistics.fmean(
            row.accuracies[f"width {width}"]["test"] - row.accuracies["dense"]["test"]
            for row in rows
        )
        for width in settings.widths
    )
    reason = (
        f"a narrower network trained as long ends {best:+.1f} points from the dense one: the "
        "task has no use for its width, so that taking channels away costs nothing"
    )
    return [
        Claim(
            claim="speed over the channel-pruned network of no lower accuracy, compiled, batch 1",
            published=f"1.53 x ({_ABSTRACT})",
            measured=measured((row.speed(accurate) for row in rows), "x"),
            limit="the speed over the dense network", basis=Basis.MEASURED, rule=above_spread(1.0),
            note=f"peer: {accurate}, the fastest whose mean validation accuracy is no lower; "
            "it had the same epochs and teacher",
            reason=reason,
        ),
        Claim(
            claim=f"speed over that network in torch, batch {settings.batch}",
            published=f"1.53 x throughput ({_ABSTRACT})",
            measured=measured((row.speed(accurate, "images_per_s") for row in rows), "x"),
            limit="the speed over the dense network", basis=Basis.MEASURED, rule=above_spread(1.0),
            note="channels last, torch threads of the run",
        ),
        Claim(
            claim="accuracy above the channel-pruned network of no lower latency",
            published=f"+3.06 points ({_ABSTRACT})",
            measured=measured((row.gain(quick) for row in rows), "points"),
            limit="none", basis=Basis.MEASURED, rule=above_spread(0.0),
            note=f"test split; peer: {quick}, the fastest that is not faster, by mean latency",
            reason=reason,
        ),
    ]  # fmt: skip


def _selectors(rows: Sequence[Row]) -> list[Claim]:
    gains = [
        100 * (row.accuracies[PROGRAMMED]["test"] - row.accuracies["merged"]["test"])
        for row in rows
    ]
    return [
        Claim(
            claim="accuracy of blocks chosen by dynamic programming above those chosen by slopes",
            published="+0.11 points at 1.41 x over MobileNetV2 (follow-up, arXiv 2301.12187)",
            measured=measured(gains, "points"),
            limit="none", basis=Basis.MEASURED, rule=at_least(0.0),
            note="at the predicted latency of the slopes' choice or less; equal epochs in all, "
            "those of the search spent on fine-tuning",
            reason="damage is that of each block alone, before any training, and adds up only "
            "where blocks do not depend on each other",
        ),
        Claim(
            claim="speed of the network chosen by dynamic programming over the dense one",
            published="1.41 x (follow-up, arXiv 2301.12187, TensorRT)",
            measured=measured((row.speed("dense", fast=PROGRAMMED) for row in rows), "x"),
            limit="as of the slopes' choice", basis=Basis.MEASURED, rule=at_least(1.15),
        ),
    ]  # fmt: skip


def _on_board(rows: Sequence[Row]) -> list[Claim]:
    boards = [row.measured["board"] for row in rows]
    ratios = {
        key: [b["dense"][key] / b["merged"][key] for b in boards]
        for key in ("latency_s", "ram_bytes", "macs")
    }
    return [
        Claim(
            claim="speed over the dense network on a Cortex-M4, int8",
            published=_UNPUBLISHED, measured=measured(ratios["latency_s"], "x"),
            limit=f"{statistics.fmean(ratios['macs']):.2f} x, the ratio of multiply-accumulates, "
            "where they are all that costs time",
            basis=Basis.EMULATED, rule=at_least(1.0),
            note="cycle model on exactly counted instructions",
        ),
        Claim(
            claim="RAM of the dense network over the merged one's on a Cortex-M4, int8",
            published=_UNPUBLISHED, measured=measured(ratios["ram_bytes"], "x"),
            limit="about 6 x, the expansion, if every block is merged",
            basis=Basis.EMULATED, rule=at_least(1.0),
        ),
    ]  # fmt: skip


def _networks(settings: Settings, rows: Sequence[Row]) -> Table:
    columns = ("network", "test accuracy [%]", "latency [us]", f"images/s, batch {settings.batch}")
    lines = []
    for name in ("merged", PROGRAMMED, *_peers(settings)):
        accuracy = measured((100 * row.accuracies[name]["test"] for row in rows), "")
        latency = measured((1e6 * row.measured["latency_s"][name] for row in rows), "")
        rate = measured((row.measured["images_per_s"][name] for row in rows), "")
        lines.append((name, accuracy.text, latency.text, rate.text))
    return Table(title="networks: mean and spread over seeds", columns=columns, rows=tuple(lines))


def _blocks(gains: Mapping[str, Gain], refused: Mapping[str, str], rows: Sequence[Row]) -> Table:
    lines = tuple(
        (
            block, f"{1e6 * gain.before_s:.1f}", f"{1e6 * gain.after_s:.1f}",
            f"{gain.before_macs / gain.after_macs:.2f}",
            f"{sum(block in row.removed for row in rows)} of {len(rows)} seeds",
            f"{sum(block in row.programmed for row in rows)} of {len(rows)}",
            refused.get(block, ""),
        )
        for block, gain in gains.items()
    )  # fmt: skip
    columns = (
        "block",
        "before [us]",
        "merged [us]",
        "MACs before / merged",
        "merged in",
        "by programming",
        "note",
    )
    return Table(title="blocks of the dense network, and what the search chose", columns=columns,
                 rows=lines)  # fmt: skip


def _figure(settings: Settings, rows: Sequence[Row]) -> Figure:
    drawn = figure()
    panel = axes(drawn, "Accuracy against latency", "latency, batch 1 [µs]", "test accuracy [%]")

    def place(name: str) -> tuple[float, float]:
        accuracy = statistics.fmean(row.accuracies[name]["test"] for row in rows)
        return 1e6 * _latency(rows, name), 100 * accuracy

    channels = sorted(place(name) for name in _peers(settings))
    panel.plot(*zip(*channels, strict=True), "o-", label="channels pruned, dense on the right")
    panel.plot(*place("merged"), "s", label="blocks merged, by slopes")
    panel.plot(*place(PROGRAMMED), "D", label="blocks merged, by programming")
    panel.legend(fontsize=8, frameon=False)
    return drawn


def _peers(settings: Settings) -> tuple[str, ...]:
    return ("dense", *(f"width {width}" for width in settings.widths))


def _latency(rows: Sequence[Row], name: str) -> float:
    return statistics.fmean(row.measured["latency_s"][name] for row in rows)
