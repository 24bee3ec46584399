"""Plots of reproductions: one look, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, QUIET = "#1c2733", "#8a94a0"
COLOURS = ("#2166ac", "#d6604d", "#4d9221", "#b58900", "#762a83", "#1b9e9e")


def figure(columns: int = 1, rows: int = 1, width: float = 4.6, height: float = 3.2) -> Figure:
    """An empty figure; axes are made by `axes`, in inches per panel."""
    return Figure(figsize=(width * columns, height * rows), layout="constrained")


def axes(on: Figure, title: str, x: str, y: str, place: tuple[int, int, int] = (1, 1, 1)) -> Axes:
    """A panel with labelled axes, units included in the labels; `place` as in `add_subplot`."""
    panel = on.add_subplot(*place)
    panel.set_title(title, fontsize=10, color=INK, loc="left")
    panel.set_xlabel(x, fontsize=9, color=INK)
    panel.set_ylabel(y, fontsize=9, color=INK)
    panel.tick_params(labelsize=8, colors=INK)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(QUIET)
    panel.set_prop_cycle(color=COLOURS)
    return panel


def bars(
    panel: Axes, heights: Mapping[str, float], spreads: Sequence[float | None] | None = None
) -> None:
    """One bar per name, its value above it, whiskers of the spread over seeds."""
    names, values = list(heights), list(heights.values())
    errors = None if spreads is None else [s or 0.0 for s in spreads]
    panel.bar(names, values, yerr=errors, color=COLOURS[: len(names)], ecolor=INK, capsize=3)
    for place, value in enumerate(values):
        panel.annotate(
            f"{value:.3g}", (place, value), ha="center", va="bottom", fontsize=8, color=INK,
            xytext=(0, 2), textcoords="offset points",
        )  # fmt: skip
    panel.tick_params(axis="x", labelrotation=20 if len(names) > 3 else 0)
