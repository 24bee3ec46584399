"""Reports of fits to hardware that ran nothing: they say so, and show no program."""

from rich.console import Console
from summaries import side, summary

from cofit.core import Basis
from cofit.fit.summary import Memory, Summary, Verification
from cofit.report import print_summary, view
from cofit.report.html import render_html


def modelled() -> Summary:
    return summary(
        target="eyeriss",
        dense=side(basis=Basis.MODELLED, spread=None, precision="int8"),
        fitted=side(
            basis=Basis.MODELLED, spread=None, precision="int8", latency_s=0.0107, energy_j=0.00091
        ),
        verification=Verification(
            bit_exact=False, max_abs_error=None, samples=1000, reference="integer reference",
            ran=False, layers=12,
        ),
        limits=tuple(row for row in summary().limits if row.metric != "flash"),
        memory=Memory(arena_bytes=0, steps=(), blocks=()),
        peers=(),
    )  # fmt: skip


def test_what_was_verified_is_said_plainly() -> None:
    text = view.verified(modelled())
    assert "eyeriss is modelled, so no program ran on it" in text
    assert "weights of all 12 layers were checked" in text
    assert "run by the integer reference on 1,000 test inputs" in text
    assert "bit for bit" not in text
    assert view.headline(modelled()).startswith("2.00× faster and 2.00× less energy than the dense")


def test_page_and_terminal_show_no_program() -> None:
    page = render_html(modelled())
    for absent in (
        "Memory over time",
        "The compiled program ran",
        "Flash",
        "RAM",
        "in the program",
    ):
        assert absent not in page, absent
    assert "so no program ran on it" in page and "modelled" in page
    console = Console(record=True, width=120)
    print_summary(modelled(), console)
    text = console.export_text()
    assert "so no program ran on it" in text and "Flash" not in text and "RAM" not in text
    assert {c.quantity for c in view.comparisons(modelled())} == {
        "Accuracy", "Arithmetic", "Latency", "Energy", "MACs", "Parameters",
    }  # fmt: skip
