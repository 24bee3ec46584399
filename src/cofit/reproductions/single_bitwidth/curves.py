"""Accuracy against size: how many bytes a way of rounding needs for an accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cofit.core import Basis
from cofit.reproductions.harness import Claim, above_spread, axes, figure, measured

Curve = Sequence[tuple[float, float]]
"""(bytes, accuracy) of networks of several widths."""

BASE = "8 bit"


def bytes_for(curve: Curve, accuracy: float) -> float | None:
    """Bytes at which a curve reaches an accuracy, linear in the logarithm of bytes.

    A network that a smaller one beats is not used.

    Args:
        curve: at least one point.
        accuracy: in the unit of the curve.

    Returns:
        The least size where all of the curve is as good; None where nothing of it is.
    """
    sizes, found = np.array(sorted(curve), float).T
    reached = np.maximum.accumulate(found)
    if accuracy > reached[-1]:
        return None
    last = int(np.searchsorted(reached, accuracy))  # the first that is as good
    if last == 0:
        return float(sizes[0])
    share = (accuracy - reached[last - 1]) / (reached[last] - reached[last - 1])
    logs = np.log(sizes[last - 1 : last + 1])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])))


Budgets = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
"""Results by bit-width, then by budget, then by seed."""


def curve_claims(network: str, rows: Budgets) -> list[Claim]:
    """Bytes of 8 bits over those of the best other width, at equal accuracy."""
    ratios = []
    for seed in range(len(rows[BASE][0])):
        curves = {
            name: [(of[seed]["bytes"], of[seed]["accuracy"]) for of in budgets]
            for name, budgets in rows.items()
        }
        wanted = max(curves[BASE])[1]
        sizes = {name: bytes_for(curve, wanted) for name, curve in curves.items()}
        others = [size for name, size in sizes.items() if name != BASE and size is not None]
        base = sizes[BASE]
        assert base is not None
        ratios.append(base / min(others) if others else 1.0)
    return [
        Claim(
            claim=f"{network}: bytes of 8 bits over those of the best other bit-width, at the "
            "accuracy of the largest 8-bit network",
            published="a single bit-width gives superior compression where channels are free "
            "(abstract)",
            measured=measured(ratios, "x"),
            limit="8x at 1 bit and equal width; less, for width must make up for bits",
            basis=Basis.MEASURED,
            rule=above_spread(1.0),
            reason="few sizes, and accuracies of short trainings: the curves lie within the spread",
            note=f"curves of {len(rows[BASE])} sizes, interpolated in the logarithm of bytes; 1x "
            "where no other curve reaches that accuracy",
        )
    ]


def curve_figure(found: Mapping[str, Budgets]) -> Figure:
    """A panel per network, a curve per bit-width, with the spread over seeds."""
    drawn = figure(len(found))
    for place, (network, rows) in enumerate(found.items(), 1):
        panel = axes(drawn, network, "packed bytes", "test accuracy, %", (1, len(found), place))
        for name, budgets in rows.items():
            shown = [measured([100 * e["accuracy"] for e in of], "") for of in budgets]
            panel.errorbar(
                [fmean(e["bytes"] for e in of) for of in budgets],
                [m.mean for m in shown], [m.spread or 0.0 for m in shown],
                marker="o", capsize=3, label=name,
            )  # fmt: skip
        panel.set_xscale("log")
        panel.legend(fontsize=8)
    return drawn
