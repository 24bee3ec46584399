"""Latency per layer: what was predicted and what was found."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from cofit.core import format_quantity
from cofit.fit.summary import PlanRow
from cofit.report.numbers import Scale, error, signed_percent, ticks
from cofit.report.svg import NARROW_PX, distinct, drawing, element, text

ERROR_PX, VALUE_PX = 66.0, 136.0
"""Room at the right for the error of the prediction, and for latency and error together."""


def layer_bars(rows: Sequence[PlanRow], width: float) -> Markup:
    """Latency of each layer: dense and fitted as bars, the prediction as a ring."""
    narrow = width < NARROW_PX
    label_px, value_px = (0.0, 0.0) if narrow else (0.23 * width, VALUE_PX)
    pitch = 42 if narrow else 24
    left, right, top = label_px, width - value_px - (6 if narrow else 14), 22.0
    reach = max(
        (
            value
            for row in rows
            for value in (row.latency_dense_s, row.latency_predicted_s, row.latency_measured_s)
        ),
        default=0.0,
    )
    per_second = (right - left - 6) / reach if reach else 0.0
    scale = Scale.of([reach], "time")
    bottom = top + pitch * len(rows)
    middles = [top + pitch * (index + 1) - 12 for index in range(len(rows))]
    names = distinct([row.op for row in rows], width - VALUE_PX if narrow else label_px - 12)
    spans = [(y - 11, y + 11) for y in middles] if narrow else [(top, bottom)]
    marks = []
    for value in ticks(0.0, reach, 4 if narrow else 7):
        x = left + value * per_second
        for begin, end in spans:
            marks.append(element("line", x1=x, x2=x, y1=begin, y2=end, class_="grid"))
        words = f"{value / scale.size:g}" + (f" {scale.unit}" if value == 0 else "")
        marks.append(text(x, 12, words, "quiet", "start" if value == 0 else "middle"))
    for row, name, y in zip(rows, names, middles, strict=True):
        baseline = y - 15 if narrow else y + 4
        missed = signed_percent(error(row.latency_predicted_s, row.latency_measured_s))
        found = f"{scale.text(row.latency_measured_s)} {scale.unit}"
        if narrow:
            marks.append(text(0, baseline, name))
        else:
            marks.append(text(left - 12, baseline, name, "", "end"))
        marks.append(text(width - ERROR_PX, baseline, found, "", "end"))
        marks.append(text(width, baseline, missed, "quiet", "end"))
        dense, fitted = row.latency_dense_s * per_second, row.latency_measured_s * per_second
        marks.append(
            element(
                "g",
                element("title", _layer_title(row)),
                element("rect", x=left, y=y - 7, width=dense, height=14, class_="dense"),
                element("rect", x=left, y=y - 3, width=fitted, height=6, class_="fitted"),
                element(
                    "circle",
                    cx=left + row.latency_predicted_s * per_second,
                    cy=y,
                    r=4,
                    class_="predicted",
                ),
            )
        )
    return drawing(
        width, bottom + 4, f"latency of {len(rows)} layers, dense, predicted and fitted", *marks
    )


def _layer_title(row: PlanRow) -> str:
    return (
        f"{row.op}: dense {format_quantity(row.latency_dense_s, 'time')}, "
        f"predicted {format_quantity(row.latency_predicted_s, 'time')}, "
        f"{row.basis.value} {format_quantity(row.latency_measured_s, 'time')}"
    )
