"""The roofline: multiply-adds per second over multiply-adds per byte, both logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cofit.core import format_quantity
from cofit.fit.explanation import Explanation, Layer
from cofit.report.svg import NARROW_PX, Box, Labels, drawing, element, shorten, text

HEIGHT_PX = 380.0
LEAST_PX, MOST_PX = 4.0, 11.0
"""Radii of points: areas are shares of the program's time."""


@dataclass(frozen=True)
class _Plane:
    """Decades of intensity and rate on the drawing."""

    plot: Box
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, intensity: float) -> float:
        """Pixels from the left of multiply-adds per byte."""
        share = (math.log10(intensity) - self.x0) / (self.x1 - self.x0)
        return self.plot.left + share * (self.plot.right - self.plot.left)

    def y(self, rate: float) -> float:
        """Pixels from the top of multiply-adds per second."""
        share = (math.log10(rate) - self.y0) / (self.y1 - self.y0)
        return self.plot.bottom - share * (self.plot.bottom - self.plot.top)


def roofline(explanation: Explanation, width: float) -> Markup:
    """Layers with multiply-adds as points under the measured ceilings; area is time."""
    layers = placed(explanation)
    plane = _plane(explanation, layers, width)
    plot = plane.plot
    labels = Labels(Box(plot.left, plot.top - 14, width, plot.bottom))
    marks = [*_axes(plane, width), *_ceilings(explanation, plane, labels)]
    spots = [(_spot(layer, plane), layer) for layer in layers]
    labels.block(Box(x - r, y - r, x + r, y + r) for (x, y, r), _ in spots)
    marks += [_mark(x, y, r, layer) for (x, y, r), layer in spots]
    for (x, y, r), layer in sorted(spots, key=lambda s: -s[1].latency_s):
        marks.append(labels.beside(x, y, shorten(layer.op, 0.3 * width), "", gap=r + 4))
    return drawing(width, HEIGHT_PX, f"roofline of {len(layers)} layers", *marks)


def placed(explanation: Explanation) -> list[Layer]:
    """Layers that have a place: multiply-adds, bytes and time."""
    return [
        layer
        for layer in explanation.layers
        if layer.macs_executed and layer.intensity and layer.latency_s
    ]


def _plane(explanation: Explanation, layers: Sequence[Layer], width: float) -> _Plane:
    peak = explanation.limits.macs_per_s
    ridges = [peak / level.bytes_per_s for level in explanation.limits.levels]
    across = [*ridges, *(layer.intensity or 1.0 for layer in layers)]
    rates = [peak, *(layer.macs_executed / layer.latency_s for layer in layers)]
    return _Plane(
        Box(62.0, 30.0, width - 12, HEIGHT_PX - 46),
        math.floor(math.log10(min(across)) - 0.15),
        math.ceil(math.log10(max(across)) + 0.15),
        math.floor(math.log10(min(rates)) - 0.1),
        math.log10(peak) + 0.25,
    )


def _axes(plane: _Plane, width: float) -> Iterator[Markup]:
    left, top, right, bottom = plane.plot
    for decade in range(math.ceil(plane.x0), math.floor(plane.x1) + 1):
        x = plane.x(10.0**decade)
        yield element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid")
        yield text(x, bottom + 18, f"{10.0**decade:g}", "quiet", "middle")
    for decade in range(math.ceil(plane.y0), math.floor(plane.y1) + 1):
        y = plane.y(10.0**decade)
        yield element("line", x1=left, x2=right, y1=y, y2=y, class_="grid")
        yield text(left - 8, y + 4, f"{10.0 ** (decade - 9):g}", "quiet", "end")
    yield text(0, top - 14, "G multiply-adds per second", "quiet")
    words = "per byte" if width < NARROW_PX else "multiply-adds per byte that must move"
    yield text(right, HEIGHT_PX - 8, words, "quiet", "end")


def _ceilings(explanation: Explanation, plane: _Plane, labels: Labels) -> Iterator[Markup]:
    """The peak, and for each level the line of its bytes per second up to the peak."""
    limits, plot = explanation.limits, plane.plot
    peak_y = plane.y(limits.macs_per_s)
    lowest, least = 10.0**plane.y0, 10.0**plane.x0
    nearest = limits.macs_per_s / limits.levels[0].bytes_per_s
    yield element("line", x1=plane.x(nearest), x2=plot.right, y1=peak_y, y2=peak_y, class_="limit")
    labels.block([Box(plane.x(nearest), peak_y - 1, plot.right, peak_y + 1)])
    words = f"{limits.macs_per_s / 1e9:.3g} G/s {limits.instruction}"
    yield labels.first_free([(plot.right, peak_y - 7, "end", words)], "limit-label")
    for level in limits.levels:
        start = max(least, lowest / level.bytes_per_s)
        end = limits.macs_per_s / level.bytes_per_s
        x1, y1 = plane.x(start), plane.y(start * level.bytes_per_s)
        x2, y2 = plane.x(end), peak_y
        yield element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="limit")
        words = f"{level.name} {level.bytes_per_s / 1e9:.3g} GB/s"
        places = [
            (x1 + f * (x2 - x1) - 6, y1 + f * (y2 - y1) - 4, "end", words)
            for f in (0.75, 0.6, 0.45, 0.9)
        ]
        places += [
            (x1 + f * (x2 - x1) + 8, y1 + f * (y2 - y1) + 12, "start", words)
            for f in (0.15, 0.3, 0.05)
        ]
        yield labels.first_free(places, "limit-label")


def _spot(layer: Layer, plane: _Plane) -> tuple[float, float, float]:
    assert layer.intensity is not None
    radius = max(LEAST_PX, MOST_PX * math.sqrt(layer.share))
    return plane.x(layer.intensity), plane.y(layer.macs_executed / layer.latency_s), radius


def _mark(x: float, y: float, radius: float, layer: Layer) -> Markup:
    note = (
        f"{layer.op}: {format_quantity(layer.latency_s, 'time')}, "
        f"{layer.macs_executed / layer.latency_s / 1e9:.3g} G multiply-adds/s, "
        f"{100 * layer.reached:.0f} % of its limit, {layer.binds} binds"
    )
    pruned = "chosen" if layer.structure else "tried"
    return element("circle", element("title", note), cx=x, cy=y, r=radius, class_=f"point {pruned}")
