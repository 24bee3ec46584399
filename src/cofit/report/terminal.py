"""A summary in the terminal: before and after, the plan, and the verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cofit.fit.summary import Summary
from cofit.report import view
from cofit.report.svg import clean

MOST_LAYERS = 24
"""The terminal shows so many layers; the HTML report shows all."""


def print_summary(summary: Summary, console: Console) -> None:
    """Before and after, the plan layer by layer, verification, and last the verdict."""
    console.print(_text(f"{summary.name} on {summary.target}", "bold"))
    console.print()
    console.print(_comparison(summary))
    console.print()
    console.print(_plan(summary))
    hidden = len(summary.plan) - MOST_LAYERS
    if hidden > 0:
        console.print(_text(f"and {hidden} more layers, see the report", "dim"))
    console.print()
    console.print(_text(view.verified(summary)))
    if note := view.validation_note(summary):
        console.print(_text(note))
    console.print(_text(summary.verdict, "bold green" if summary.met else "bold red"))


def _comparison(summary: Summary) -> Table:
    table = _table(("", "dense", "fitted", "dense ÷ fitted", "basis"), right=(1, 2, 3))
    for row in view.comparisons(summary):
        cells = (row.quantity, row.dense, row.fitted, row.change)
        table.add_row(*map(_text, cells), _text(row.basis, "dim"))
    return table


def _plan(summary: Summary) -> Table:
    plan = view.plan(summary.plan)
    unit = plan.latency.unit
    headings = ("layer", "structure", "rate", "bits", f"dense {unit}", f"{plan.found} {unit}")
    table = _table((*headings, "error"), right=(2, 3, 4, 5, 6))
    for row in plan.layers[:MOST_LAYERS]:
        cells = (row.op, row.structure, row.rate, row.bits)
        times = (row.latency.dense, row.latency.found, row.latency.error)
        table.add_row(*map(_text, (*cells, *times)))
    return table


def _table(headings: tuple[str, ...], right: tuple[int, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        number = index in right
        table.add_column(
            Text(heading),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    return table


def _text(words: str, style: str = "") -> Text:
    """Words as they are: no markup, and no control characters for the terminal to obey."""
    return Text(clean(words), style=style)
