"""Horizontal bars as a standalone SVG, each with a line where its limit lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cofit.report.svg import drawing, element, text

LABEL_PX, BAR_PX, ROW_PX, TOP_PX = 250, 420, 22, 40
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 }
.bar { fill: #3b6ea5 }
.limit { stroke: #c05020; stroke-width: 2 }
.one { stroke: #999; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .bar { fill: #6f9fd8 } }
"""


@dataclass(frozen=True)
class Bar:
    """A value, and what bounds it."""

    label: str
    value: float
    limit: float | None


def bars(title: str, items: Sequence[Bar]) -> str:
    """The drawing; a dashed line marks the value one."""
    most = max((max(item.value, item.limit or 0) for item in items), default=1.0)
    scale = BAR_PX / max(most, 1.0)
    height = TOP_PX + ROW_PX * len(items) + 10
    marks = [element("style", Markup(STYLE)), text(10, 22, title)]
    for index, item in enumerate(items):
        y = TOP_PX + ROW_PX * index
        width = item.value * scale
        marks.append(text(LABEL_PX - 8, y + 14, item.label, anchor="end"))
        marks.append(
            element("rect", x=LABEL_PX, y=y + 3, width=width, height=ROW_PX - 6, class_="bar")
        )
        if item.limit is not None:
            x = LABEL_PX + item.limit * scale
            marks.append(element("line", x1=x, x2=x, y1=y, y2=y + ROW_PX, class_="limit"))
        words = f"{item.value:.2f}"
        marks.append(text(LABEL_PX + max(width, (item.limit or 0) * scale) + 6, y + 14, words))
    one = LABEL_PX + scale
    marks.append(element("line", x1=one, x2=one, y1=TOP_PX, y2=height - 10, class_="one"))
    body = drawing(LABEL_PX + BAR_PX + 60, height, title, *marks)
    return str(body).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"
