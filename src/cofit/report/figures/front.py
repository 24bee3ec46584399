"""Accuracy against latency of every network that was tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cofit.core import format_quantity
from cofit.report.numbers import Scale, ticks
from cofit.report.svg import NARROW_PX, Box, Labels, drawing, element, shorten, text


@dataclass(frozen=True)
class Point:
    """A network in the plane of latency and validation accuracy."""

    label: str
    latency_s: float
    accuracy: float
    kind: str = "tried"


def undominated(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats in latency and accuracy, by rising latency."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency_s, -p.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def front(
    points: Sequence[Point],
    latency_limit_s: float | None,
    accuracy_floor: float | None,
    width: float,
) -> Markup:
    """Accuracy over latency of everything tried, its front as steps, limits as lines."""
    height = 300.0
    plot = Box(50.0, 26.0, width - 12, height - 42)
    latencies = [p.latency_s for p in points] + ([latency_limit_s] if latency_limit_s else [])
    accuracies = [p.accuracy for p in points]
    if accuracy_floor is not None:
        accuracies.append(accuracy_floor)
    reach = 1.1 * max(latencies, default=0.0) or 1.0
    low, high = min(accuracies, default=0.0), max(accuracies, default=1.0)
    pad = max(0.22 * (high - low), 0.002)
    low, high = max(low - pad, 0.0), min(high + pad, 1.0 + 0.25 * pad)

    def at_x(latency_s: float) -> float:
        return plot.left + latency_s / reach * (plot.right - plot.left)

    def at_y(accuracy: float) -> float:
        return plot.bottom - (accuracy - low) / (high - low) * (plot.bottom - plot.top)

    scale = Scale.of([reach], "time")
    marks = []
    for value in ticks(0.0, reach, 5 if width < NARROW_PX else 9):
        x = at_x(value)
        marks.append(element("line", x1=x, x2=x, y1=plot.bottom, y2=plot.bottom + 5, class_="axis"))
        marks.append(text(x, plot.bottom + 18, f"{value / scale.size:g}", "quiet", "middle"))
    for value in ticks(low, min(high, 1.0), 6):
        y = at_y(value)
        marks.append(element("line", x1=plot.left, x2=plot.right, y1=y, y2=y, class_="grid"))
        marks.append(text(plot.left - 8, y + 4, f"{100 * value:.4g}", "quiet", "end"))
    marks.append(
        element(
            "line", x1=plot.left, x2=plot.right, y1=plot.bottom, y2=plot.bottom, class_="axis"
        )
    )
    marks.append(text(0, 12, "validation accuracy, %", "quiet"))
    marks.append(text(plot.right, height - 4, f"latency, {scale.unit}", "quiet", "end"))

    labels = Labels(Box(plot.left, plot.top - 12, width, plot.bottom))
    labels.block(
        Box(at_x(p.latency_s) - 7, at_y(p.accuracy) - 7, at_x(p.latency_s) + 7, at_y(p.accuracy) + 7)
        for p in points
    )
    marks += _limits(plot, latency_limit_s, accuracy_floor, at_x, at_y, labels)
    best = undominated(points)
    corners = [(f"{at_x(p.latency_s):.2f}", f"{at_y(p.accuracy):.2f}") for p in best]
    path = f"M{' '.join(corners[0])}" if corners else ""
    path += "".join(f"H{x}V{y}" for x, y in corners[1:])
    if len(best) > 1:
        marks.append(element("path", d=path, class_="front"))
    order = {"chosen": 0, "dense": 1}
    for point in sorted(points, key=lambda p: order.get(p.kind, 2), reverse=True):
        x, y = at_x(point.latency_s), at_y(point.accuracy)
        note = (
            f"{point.label}: {format_quantity(point.latency_s, 'time')}, "
            f"validation accuracy {format_quantity(point.accuracy, 'fraction')}"
        )
        radius = 6 if point.kind == "chosen" else 5
        marks.append(
            element(
                "circle", element("title", note), cx=x, cy=y, r=radius, class_=f"point {point.kind}"
            )
        )
    for point in sorted(points, key=lambda p: order.get(p.kind, 2)):
        words = shorten(point.label, 0.45 * width)
        marks.append(
            labels.beside(at_x(point.latency_s), at_y(point.accuracy), words, f"{point.kind}-label")
        )
    return drawing(
        width, height, f"validation accuracy over latency of {len(points)} networks", *marks
    )


def _limits(
    plot: Box,
    latency_limit_s: float | None,
    accuracy_floor: float | None,
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
    labels: Labels,
) -> Iterator[Markup]:
    """The area within the limits, its borders, and what they are."""
    right = plot.right if latency_limit_s is None else at_x(latency_limit_s)
    bottom = plot.bottom if accuracy_floor is None else at_y(accuracy_floor)
    if latency_limit_s is None and accuracy_floor is None:
        return
    yield element(
        "rect",
        x=plot.left,
        y=plot.top,
        width=right - plot.left,
        height=bottom - plot.top,
        class_="within",
    )
    if latency_limit_s is not None:
        yield element("line", x1=right, x2=right, y1=plot.top, y2=plot.bottom, class_="limit")
        words = f"limit {format_quantity(latency_limit_s, 'time')}"
        y = plot.bottom - 8
        yield labels.first_free(
            [(right + 6, y, "start", words), (right - 6, y, "end", words)], "limit-label"
        )
    if accuracy_floor is not None:
        yield element("line", x1=plot.left, x2=plot.right, y1=bottom, y2=bottom, class_="limit")
        words = f"floor {format_quantity(accuracy_floor, 'fraction')}"
        yield labels.first_free(
            [
                (x, y, anchor, words)
                for x, anchor in ((plot.right, "end"), (plot.left + 6, "start"))
                for y in (bottom + 16, bottom - 6)
            ],
            "limit-label",
        )
