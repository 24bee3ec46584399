"""Accuracy against latency of every network that was tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from cofit.core import format_quantity
from cofit.report.numbers import Scale, ticks
from cofit.report.svg import NARROW_PX, Box, Labels, drawing, element, shorten, text

HEIGHT_PX = 310.0
ORDER = {"chosen": 0, "dense": 1, "tried": 2}


@dataclass(frozen=True)
class Point:
    """A network in the plane of latency and validation accuracy; kind is a key of `ORDER`."""

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


@dataclass(frozen=True)
class Plane:
    """Where latency and accuracy lie on the drawing."""

    plot: Box
    reach_s: float
    low: float
    high: float

    def x(self, latency_s: float) -> float:
        """Pixels from the left."""
        return self.plot.left + latency_s / self.reach_s * (self.plot.right - self.plot.left)

    def y(self, accuracy: float) -> float:
        """Pixels from the top."""
        share = (accuracy - self.low) / (self.high - self.low)
        return self.plot.bottom - share * (self.plot.bottom - self.plot.top)


def front(
    points: Sequence[Point],
    latency_limit_s: float | None,
    accuracy_floor: float | None,
    width: float,
) -> Markup:
    """Accuracy over latency of everything tried, its front as steps, limits as lines."""
    plane = _plane(points, latency_limit_s, accuracy_floor, width)
    plot, best = plane.plot, undominated(points)
    corners = [(plane.x(p.latency_s), plane.y(p.accuracy)) for p in best]
    labels = Labels(Box(plot.left, plot.top - 12, width, plot.bottom))
    labels.block(
        Box(x - 7, y - 7, x + 7, y + 7)
        for x, y in ((plane.x(p.latency_s), plane.y(p.accuracy)) for p in points)
    )
    for (x, y), (next_x, next_y) in pairwise(corners):
        labels.block([Box(x, y - 1, next_x, y + 1), Box(next_x - 1, next_y, next_x + 1, y)])
    marks = [*_axes(plane, width), *_limits(plane, latency_limit_s, accuracy_floor, labels)]
    if len(corners) > 1:
        steps = "".join(f"H{x:.2f}V{y:.2f}" for x, y in corners[1:])
        marks.append(
            element("path", d=f"M{corners[0][0]:.2f} {corners[0][1]:.2f}{steps}", class_="front")
        )
    ordered = sorted(points, key=lambda p: ORDER[p.kind])
    marks += [_mark(point, plane) for point in reversed(ordered)]
    for point in ordered:
        x, y = plane.x(point.latency_s), plane.y(point.accuracy)
        words = shorten(point.label, 0.45 * width)
        marks.append(labels.beside(x, y, words, f"{point.kind}-label"))
    label = f"validation accuracy over latency of {len(points)} networks"
    return drawing(width, HEIGHT_PX, label, *marks)


def _plane(
    points: Sequence[Point],
    latency_limit_s: float | None,
    accuracy_floor: float | None,
    width: float,
) -> Plane:
    latencies = [p.latency_s for p in points] + [latency_limit_s or 0.0]
    accuracies = [p.accuracy for p in points]
    if accuracy_floor is not None:
        accuracies.append(accuracy_floor)
    low, high = min(accuracies, default=0.0), max(accuracies, default=1.0)
    pad = max(0.22 * (high - low), 0.002)
    return Plane(
        Box(50.0, 28.0, width - 12, HEIGHT_PX - 44),
        reach_s=1.1 * max(latencies) or 1.0,
        low=max(low - pad, 0.0),
        high=min(high + pad, 1.0 + 0.25 * pad),
    )


def _axes(plane: Plane, width: float) -> Iterator[Markup]:
    left, top, right, bottom = plane.plot
    scale = Scale.of([plane.reach_s], "time")
    for value in ticks(0.0, plane.reach_s, 5 if width < NARROW_PX else 9):
        x = plane.x(value)
        yield element("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="axis")
        yield text(x, bottom + 18, f"{value / scale.size:g}", "quiet", "middle")
    for value in ticks(plane.low, min(plane.high, 1.0), 6):
        y = plane.y(value)
        yield element("line", x1=left, x2=right, y1=y, y2=y, class_="grid")
        yield text(left - 8, y + 4, f"{100 * value:.4g}", "quiet", "end")
    yield element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis")
    yield text(0, top - 14, "validation accuracy, %", "quiet")
    yield text(right, HEIGHT_PX - 6, f"latency, {scale.unit}", "quiet", "end")


def _limits(
    plane: Plane, latency_limit_s: float | None, accuracy_floor: float | None, labels: Labels
) -> Iterator[Markup]:
    """The area within the limits, its borders, and what they are."""
    if latency_limit_s is None and accuracy_floor is None:
        return
    plot = plane.plot
    right = plot.right if latency_limit_s is None else plane.x(latency_limit_s)
    bottom = plot.bottom if accuracy_floor is None else plane.y(accuracy_floor)
    yield element(
        "rect",
        x=plot.left,
        y=plot.top,
        width=right - plot.left,
        height=bottom - plot.top,
        class_="within",
    )
    if latency_limit_s is not None:
        labels.block([Box(right - 1, plot.top, right + 1, plot.bottom)])
        yield element("line", x1=right, x2=right, y1=plot.top, y2=plot.bottom, class_="limit")
        words = f"limit {format_quantity(latency_limit_s, 'time')}"
        sides = ((right + 6, "start"), (right - 6, "end"))
        places = [(x, y, a, words) for y in (plot.bottom - 8, plot.top + 12) for x, a in sides]
        yield labels.first_free(places, "limit-label")
    if accuracy_floor is not None:
        labels.block([Box(plot.left, bottom - 1, plot.right, bottom + 1)])
        yield element("line", x1=plot.left, x2=plot.right, y1=bottom, y2=bottom, class_="limit")
        words = f"floor {format_quantity(accuracy_floor, 'fraction')}"
        ends = ((plot.right, "end"), (plot.left + 6, "start"))
        places = [(x, y, a, words) for x, a in ends for y in (bottom + 16, bottom - 6)]
        yield labels.first_free(places, "limit-label")


def _mark(point: Point, plane: Plane) -> Markup:
    note = (
        f"{point.label}: {format_quantity(point.latency_s, 'time')}, "
        f"validation accuracy {format_quantity(point.accuracy, 'fraction')}"
    )
    return element(
        "circle",
        element("title", note),
        cx=plane.x(point.latency_s),
        cy=plane.y(point.accuracy),
        r=6 if point.kind == "chosen" else 5,
        class_=f"point {point.kind}",
    )
