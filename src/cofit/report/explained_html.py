"""An explanation as one HTML file that needs nothing else: roofline, layers, reasons."""

from __future__ import annotations

from pathlib import Path

from cofit.core.files import write_text
from cofit.fit import Explanation
from cofit.report import explained, numbers
from cofit.report.figures import roofline
from cofit.report.html import both, breakable, load_template, quantity
from cofit.report.numbers import Scale


def write_explanation(explanation: Explanation, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        FileError: the folder is not writable.
    """
    write_text(path, render_explanation(explanation))


def render_explanation(explanation: Explanation) -> str:
    """The page as HTML. Every name in it is escaped; it refers to nothing outside itself."""
    template, css = load_template("explanation.html.j2")
    return template.render(
        e=explanation,
        css=css,
        explained=explained,
        breakable=breakable,
        numbers=numbers,
        quantity=quantity,
        scale=Scale.of([layer.latency_s for layer in explanation.layers], "time"),
        figures=both(lambda width: roofline(explanation, width)),
    )
