"""A summary in the terminal: before and after, the plan, and the verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cofit.core import format_quantity
from cofit.fit.summary import Summary
from cofit.report import view
from cofit.report.numbers import ratio
from cofit.report.svg import clean

MOST_LAYERS = 24
"""The terminal shows so many layers; the HTML report shows all."""


def print_summary(summary: Summary, console: Console) -> None:
    """Before and after, the plan layer by layer, verification, and last the verdict."""
    console.print(plain(f"{summary.name} on {summary.target}", "bold"))
    console.print()
    console.print(_comparison(summary))
    console.print()
    console.print(_plan(summary))
    hidden = len(summary.plan) - MOST_LAYERS
    if hidden > 0:
        console.print(plain(f"and {hidden} more layers, see the report", "dim"))
    console.print()
    if summary.peers:
        console.print(_peers(summary))
        console.print()
    console.print(plain(view.verified(summary)))
    if note := view.validation_note(summary):
        console.print(plain(note))
    console.print(plain(summary.verdict, "bold green" if summary.met else "bold red"))


def _comparison(summary: Summary) -> Table:
    table = plain_table(("", "dense", "fitted", "dense ÷ fitted", "basis"), right=(1, 2, 3))
    for row in view.comparisons(summary):
        cells = (row.quantity, row.dense, row.fitted, row.change)
        table.add_row(*map(plain, cells), plain(row.basis, "dim"))
    return table


def _plan(summary: Summary) -> Table:
    plan = view.plan(summary.plan)
    unit = plan.latency.unit
    headings = ("layer", "structure", "rate", "bits", f"dense {unit}", f"{plan.found} {unit}")
    table = plain_table((*headings, "error"), right=(2, 3, 4, 5, 6))
    for row in plan.layers[:MOST_LAYERS]:
        cells = (row.op, row.structure, row.rate, row.bits)
        times = (row.latency.dense, row.latency.found, row.latency.error)
        table.add_row(*map(plain, (*cells, *times)))
    return table


def _peers(summary: Summary) -> Table:
    """Other runtimes on the dense network, and what our programs took in the same run."""
    headings = ("runtime", "latency", "ours, dense", "ours, fitted", "÷ dense", "÷ fitted")
    table = plain_table((*headings, ""), right=(1, 2, 3, 4, 5))
    for peer in summary.peers:
        times = (peer.latency_s, peer.dense_s, peer.fitted_s)
        ratios = (ratio(peer.latency_s, peer.dense_s), ratio(peer.latency_s, peer.fitted_s))
        cells = (peer.name, *(format_quantity(value, "time") for value in times), *ratios)
        table.add_row(*map(plain, cells), plain(peer.note, "dim"))
    return table


def plain_table(headings: tuple[str, ...], right: tuple[int, ...]) -> Table:
    """A table without lines; the columns at the positions `right` hold numbers."""
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


def plain(words: str, style: str = "") -> Text:
    """Words as they are: no markup, and no control characters for the terminal to obey."""
    return Text(clean(words), style=style)
