"""Costs of one network on several targets as bars on a logarithmic axis, coloured by basis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cofit.core import Basis, ConfigError, Cost, format_quantity
from cofit.core.files import atomic_write
from cofit.core.units import Dimension
from cofit.reproductions.harness.figures import INK, QUIET, axes

COLOURS = {
    Basis.MEASURED: "#2166ac",
    Basis.EMULATED: "#1b9e9e",
    Basis.SIMULATED: "#b58900",
    Basis.MODELLED: "#d6604d",
}
SUFFIXES = (".svg", ".png", ".pdf")
ROW_IN, REST_IN = 0.36, 1.15
"""Height of a bar and of everything else, in inches."""


def check_plot(path: Path) -> None:
    """Check that a plot of this name can be drawn.

    Raises:
        ConfigError: another kind of file.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--plot {str(path)!r}: the name must end in {', '.join(SUFFIXES)}")


def plot_costs(network: str, costs: Mapping[str, Cost], path: Path) -> None:
    """Draw latency and energy of one inference, a row per target in the order given.

    Args:
        network: its name, for the title.
        costs: by what stands beside the bar.
        path: an .svg, .png or .pdf file.

    Raises:
        ConfigError: another kind of file.
        FileError: the file cannot be written.
    """
    check_plot(path)
    figure = Figure(figsize=(9.6, ROW_IN * len(costs) + REST_IN), layout="constrained")
    parts: tuple[tuple[str, Dimension], ...] = (("latency", "time"), ("energy", "energy"))
    for place, (metric, dimension) in enumerate(parts, 1):
        unit = "s" if dimension == "time" else "J"
        panel = axes(
            figure, f"{metric} of one inference", f"{unit}, logarithmic", "", (1, 2, place)
        )
        _bars(panel, costs, metric, dimension)
        if place == 2:
            panel.set_yticklabels([])
    used = [basis for basis in COLOURS if any(_basis(cost) is basis for cost in costs.values())]
    figure.legend(
        handles=[Patch(color=COLOURS[basis], label=str(basis)) for basis in used],
        loc="outside lower center", ncols=len(used), frameon=False, fontsize=9,
    )  # fmt: skip
    figure.suptitle(network, fontsize=11, color=INK, x=0.01, ha="left")
    facts = {"Date": None} if path.suffix == ".svg" else {}
    with matplotlib.rc_context({"svg.hashsalt": "cofit"}), atomic_write(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=160, metadata=facts)


def _bars(panel: Axes, costs: Mapping[str, Cost], metric: str, dimension: Dimension) -> None:
    values = [cost.totals()[metric] or 0.0 for cost in costs.values()]
    stated = [value for value in values if value > 0]
    low = 10.0 ** math.floor(math.log10(min(stated, default=1.0)) - 0.5)
    high = 30 * max(stated, default=1.0)  # room for the number behind the longest bar
    places = range(len(costs))
    panel.set_xscale("log")
    panel.set_xlim(low, high)
    for place, value, cost in zip(places, values, costs.values(), strict=True):
        if value > 0:
            panel.barh(place, value - low, left=low, height=0.62, color=COLOURS[_basis(cost)])
        words = format_quantity(value, dimension) if value > 0 else "not stated"
        panel.annotate(
            words, (max(value, low), place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8, color=INK if value > 0 else QUIET,
        )  # fmt: skip
    panel.set_yticks(list(places), list(costs))
    panel.set_ylim(len(costs) - 0.4, -0.6)  # the first on top
    panel.tick_params(axis="y", length=0)


def _basis(cost: Cost) -> Basis:
    """Of its rows; where several, the one that is least certain."""
    found = {row.basis for row in cost.rows}
    return next((basis for basis in reversed(COLOURS) if basis in found), Basis.MODELLED)
