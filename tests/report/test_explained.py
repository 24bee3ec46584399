"""An explanation in the terminal and as a page: the numbers, the reasons, the roofline."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import explanations
import pytest
import summaries
from rich.console import Console

from cofit.fit import Explanation
from cofit.report import print_explanation, render_explanation, write_explanation
from cofit.report.figures import roofline


def printed(explanation: Explanation) -> str:
    console = Console(file=io.StringIO(), width=180)
    print_explanation(explanation, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_layers_reasons_and_limits_are_printed() -> None:
    text = printed(explanations.explanation())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "net on host"
    assert lines[1].startswith("100 µs (measured, spread 1.2 %), 1.9 times the 53.2 µs")
    assert "50 G multiply-adds/s by fused multiply-add; GB/s: L1 200, DRAM 10" in lines[2]
    assert "conv1 dense 1,179,648 40.00 40.0 % 23.60 15.00 16.40 59 % compute" in lines
    assert any(line.startswith("conv3 dense (block8x1@4 ignored) 1,179,648") for line in lines)
    assert "! its zeros satisfy block8x1@4: 40 µs to 14 µs" in lines
    assert lines[-1] == "note: the CPU gave 50% of its measured peak"


def test_layers_alike_are_told_once() -> None:
    text = printed(explanations.explanation())
    assert "conv1 and 1 like it  f32-dense" in text
    assert text.count("compute binds: 59%") == 2  # once for both, once for the one with advice


def test_the_caution_is_for_changes_of_weights() -> None:
    assert "change weights" not in printed(explanations.explanation())
    other = explanations.layer("conv1", advice=(explanations.advice(exact=False),))
    assert "change weights" in printed(explanations.explanation(layers=(other,)))


def test_names_are_neither_markup_nor_html() -> None:
    evil = explanations.layer(summaries.EVIL, why=(summaries.EVIL,), kernel="[bold]x[/nope]")
    names = {"program": summaries.EVIL, "notes": (summaries.EVIL,)}
    found = explanations.explanation(**names, layers=(evil,))
    assert "\x07" not in printed(found) and "[bold]x[/nope]" in printed(found)
    page = render_explanation(found)
    assert "<script" not in page and "alert(&#34;x&#34;)" in page
    assert not re.search(r"(?:src|href)=|url\(", page)


@pytest.mark.parametrize("width", [920.0, 328.0])
def test_points_lie_where_their_numbers_say(width: float) -> None:
    drawn = ElementTree.fromstring(roofline(explanations.explanation(), width))
    points = {
        circle[0].text.split(":")[0]: (float(circle.get("cx")), float(circle.get("cy")))
        for circle in drawn.iter("circle")
    }
    assert set(points) == {"conv1", "conv2", "conv3"}  # what only moves bytes has no place
    assert points["conv1"] == points["conv2"]
    assert points["conv3"][0] == points["conv1"][0]  # the same work
    assert points["conv3"][1] < points["conv1"][1]  # done faster
    assert all(0 < x < width for x, _ in points.values())
    roof = [line for line in drawn.iter("line") if line.get("class") == "limit"]
    assert len(roof) == 3  # the peak and two levels
    peak = float(roof[0].get("y1"))
    assert all(float(line.get("y2")) == peak for line in roof)
    assert all(y > peak for _, y in points.values())


def test_nothing_to_place_is_no_error() -> None:
    found = explanations.explanation(layers=())
    assert "0 layers" in roofline(found, 920.0)
    printed(found)
    render_explanation(found)


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    write_explanation(explanations.explanation(), tmp_path / "e.html")
    page = (tmp_path / "e.html").read_text()
    assert page.endswith("</html>")
    for words in ("Where the time goes", "conv3", "block8x1@4 ignored", "like it"):
        assert words in page
