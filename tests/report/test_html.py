"""The HTML report: complete, self-contained, safe."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import summaries

from cofit.core import FileError
from cofit.fit import Summary
from cofit.report import render_html, write_html
from cofit.report.view import choices, chosen, comparisons, headline

VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, visible text, and whether every element is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words).replace("\u00a0", " "))


@pytest.fixture(params=summaries.ALL.values(), ids=summaries.ALL.keys())
def any_summary(request: pytest.FixtureRequest) -> Summary:
    make: Callable[[], Summary] = request.param
    return make()


def test_every_page_is_closed_and_refers_to_nothing_outside(any_summary: Summary) -> None:
    source = render_html(any_summary)
    page = Page(source)
    assert page.open == []
    assert {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "a",
    } == set()
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert name not in ("src", "href", "srcset", "xlink:href", "style"), (tag, name)
            assert not name.startswith("on"), (tag, name)
            if name not in ("aria-label", "content"):
                assert "://" not in (value or ""), (tag, name)
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import|http|<", style[1])
    assert "default-src 'none'" in source


def test_no_name_becomes_markup_and_all_are_shown() -> None:
    source = render_html(summaries.hostile())
    assert "<script" not in source and "\x07" not in source
    text = Page(source).text
    shown = summaries.EVIL.replace("\x07", "\ufffd")
    assert text.count(shown) > 10
    assert summaries.UNICODE in text and "https://example.org/a.js" in text
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_the_key_numbers_are_on_the_page() -> None:
    text = Page(render_html(summaries.summary())).text
    for words in (
        "Budget met",
        "2.17× faster and 2.56× smaller in flash than the dense program",
        "86.40 % test accuracy (−0.75 points)",
        "9.87 ms of at most 10.7 ms dense 21.4 ms",
        "0.75 points of at most 1.00",
        "Accuracy 87.10 % 86.40 % −0.70 points measured: 871 and 864 of 1,000 test samples",
        "Latency 21.4 ms 9.87 ms 2.17× measured, spread 3.4 %, batch 1",
        "Flash 312.40 KB 121.90 KB 2.56× measured, constants",
        "RAM 131.07 KB 98.30 KB 1.33× measured, arena",
        "Energy 1.82 mJ 840 µJ 2.17× modelled",
        "MACs 12,501,632 4,212,736 2.97×",
        "Parameters 77,360 24,019 3.22×",
        "in float, reaches 87.15 % on the same 1,000 test samples",
        "block8x1@3",
        "the budget is met with less loss elsewhere",
        "32×16×3×3",
        "5,000 validation samples that steer the search, not on the test samples",
        "arena of 34.82 KB",
        "largest absolute difference from torch, float64 is 2.4e-06 over 1,000 test inputs",
        "Proven lower bound 0.1101 Gap 2.13 %",
        "onnxruntime 1.27 23.1 ms 1.10× 2.31× fp32, 1 thread",
        "openvino 2026.0 – – – not installed",
        "Training samples 45,000 Validation samples 5,000 Test samples 1,000",
        "Example CPU 3.0 GHz",
        "torch 2.13.0",
        "seed 7",
        "1 h 2 min",
        'model = "mlperf_resnet"',
    ):
        squeezed = re.sub(r"\s+", "", words)
        assert squeezed in re.sub(r"\s+", "", text), words


def test_missing_quantities_have_no_line() -> None:
    text = Page(render_html(summaries.emulated())).text
    assert "Energy" not in text and "Other runtimes" not in text
    assert "1,371,967" in text and "emulated, counted" in text
    assert "bit for bit on 16 test inputs" in text
    assert "Instructions" not in Page(render_html(summaries.summary())).text


def test_a_budget_that_is_not_met_says_what_is_over() -> None:
    source = render_html(summaries.not_met())
    text = Page(source).text
    assert "Budget not met" in text and "Budget met" not in text
    assert "Latency 12.5 ms is over its limit of 10.7 ms." in text
    assert "−0.20 points" in text
    assert 'class="over"' in source
    assert 'class="over"' not in render_html(summaries.summary())


def test_light_dark_print_and_phones_are_catered_for() -> None:
    source = render_html(summaries.summary())
    for words in (
        "@media (prefers-color-scheme: dark)",
        "@media print",
        "@media (max-width:",
        'name="viewport"',
        'name="color-scheme"',
    ):
        assert words in source
    used = set(re.findall(r"var\((--[a-z]+)\)", source))
    light, dark, printed = (
        set(re.findall(r"(--[a-z]+):", block))
        for block in re.findall(r":root \{(.*?)\}", source, re.DOTALL)
    )
    assert used <= light
    assert dark == printed == light - {"--sans", "--mono"}


def test_every_class_of_the_page_is_known_to_the_style_sheet(any_summary: Summary) -> None:
    source = render_html(any_summary)
    style, body = source.split("</style>", 1)
    used = {c for classes in re.findall(r'class="([^"]*)"', body) for c in classes.split()}
    assert used - set(re.findall(r"\.([a-z][a-z-]*)", style)) == {"tried"}


def test_headline_without_change() -> None:
    same = summaries.side(accuracy=0.8715)
    text = headline(summaries.summary(dense=same, fitted=same))
    assert text == "Latency and flash of the dense program, at 87.15 % test accuracy (unchanged)."
    slower = headline(summaries.summary(dense=same, fitted=summaries.side(latency_s=0.0428)))
    assert slower.startswith("2.00× slower than the dense program")


def test_the_kept_network_is_found_among_the_tried() -> None:
    best = chosen(summaries.summary())
    assert best is not None and best.label == "round2"
    assert chosen(summaries.bare()) is None


def test_choices_multiply() -> None:
    rows = [summaries.layer(str(i), considered=n) for i, n in enumerate((4, 5, 6))]
    assert choices(tuple(rows)) == "120"
    assert choices(tuple(summaries.layer(str(i), considered=10) for i in range(12))) == "1 × 10¹²"
    assert choices((summaries.layer("a", considered=99_999_999),)) == "1 × 10⁸"


def test_every_comparison_says_its_basis() -> None:
    for make in summaries.ALL.values():
        for row in comparisons(make()):
            assert row.basis or row.quantity == "Arithmetic"


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_html(summaries.summary(), path)
    assert path.read_text(encoding="utf-8") == render_html(summaries.summary())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(FileError, match="cannot write"):
        write_html(summaries.summary(), path / "below" / "report.html")


def test_a_summary_from_disk_gives_the_same_report(tmp_path: Path) -> None:
    summary = summaries.emulated()
    summary.save(tmp_path / "summary.json")
    assert render_html(Summary.read(tmp_path / "summary.json")) == render_html(summary)


def test_weights_that_know_the_validation_images_are_said_so() -> None:
    said = "The given weights seem to know the validation images (99.91 % there, 87.15 % on test)"
    assert said in Page(render_html(summaries.seen())).text
    assert "know the validation images" not in Page(render_html(summaries.summary())).text
