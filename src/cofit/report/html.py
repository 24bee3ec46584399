"""The report: one HTML file that needs nothing else, on a phone, on paper, without a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from cofit.core import format_quantity
from cofit.core.files import write_text
from cofit.core.units import Dimension
from cofit.fit.summary import Summary
from cofit.report import numbers, view
from cofit.report.figures import Point, bullet, front, layer_bars, live_bytes, memory_map
from cofit.report.svg import clean

WIDE_PX, SLIM_PX = 920, 328
"""Widths of the two drawings of each figure: for desktops and paper, and for phones."""


def write_html(summary: Summary, path: Path) -> None:
    """Write the report, whole or not at all.

    Raises:
        FileError: the folder is not writable.
    """
    write_text(path, render_html(summary))


def render_html(summary: Summary) -> str:
    """The report as HTML. Every name in it is escaped; it refers to nothing outside itself."""
    template, css = load_template("report.html.j2")
    return template.render(
        s=summary,
        css=css,
        view=view,
        breakable=breakable,
        numbers=numbers,
        quantity=quantity,
        bullet=bullet,
        plan=view.plan(summary.plan),
        layer_figures=both(lambda width: layer_bars(summary.plan, width)),
        front_figures=both(lambda width: _front(summary, width)),
        memory_figures=both(lambda width: memory_map(summary.memory, width)),
        live=live_bytes(summary.memory),
    )


def quantity(value: float | None, dimension: Dimension) -> str:
    """A value with its unit, kept on one line."""
    return numbers.glued(format_quantity(value, dimension))


def breakable(name: str) -> Markup:
    """A name that may break after its dots and underscores."""
    return Markup(re.sub("([._/])", r"\1<wbr>", str(escape(clean(name)))))


def both(draw: Callable[[float], Markup]) -> Markup:
    """A figure twice: wide for desktops and paper, narrow for phones."""
    wide, slim = draw(WIDE_PX), draw(SLIM_PX)
    return Markup('<div class="wide">{}</div><div class="slim">{}</div>').format(wide, slim)


def _front(summary: Summary, width: float) -> Markup:
    best = view.chosen(summary)
    points = [
        Point("dense", summary.dense.latency_s, summary.search.validation_dense, "dense"),
        *(
            Point(t.label, t.latency_s, t.accuracy, "chosen" if t is best else "tried")
            for t in summary.tried
        ),
    ]
    drop = view.limit_of(summary, "accuracy_drop")
    floor = None if drop is None else summary.search.validation_dense - drop
    return front(points, view.limit_of(summary, "latency"), floor, width)


@cache
def load_template(name: str) -> tuple[Template, Markup]:
    """A page of `template/` that escapes all but figures, and the style sheet of all pages."""
    loader = PackageLoader("cofit.report", "template")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else clean(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css, _, _ = loader.get_source(environment, "report.css")
    return environment.get_template(name), Markup(css)
