"""The terminal: the same numbers, no markup, a bar that always goes away."""

import io

import pytest
import summaries
from rich.console import Console

from cofit.report import ProgressDisplay, print_summary


def printed(summary: object, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_summary(summary, console)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_summary_shows_before_after_plan_and_verdict() -> None:
    text = printed(summaries.summary())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Latency 21.4 ms 9.87 ms 2.17× measured, spread 3.4 %, batch 1" in lines
    assert "layer1.0.conv2 block8x1@3 3.00× 32 2.000 0.880 −9.1 %" in lines
    assert lines[-1] == "budget met: latency 9.87 ms (within 10.7 ms)"
    assert "budget not met" in printed(summaries.not_met())


def test_weights_that_know_the_validation_images_are_said_so_on_one_line() -> None:
    said = "The given weights seem to know the validation images (99.91 % there, 87.15 % on test)"
    lines = printed(summaries.seen(), 200).splitlines()
    assert sum(line.startswith(said) for line in lines) == 1
    assert lines[-1].startswith("budget met")
    assert "know the validation images" not in printed(summaries.summary(), 200)


def test_other_runtimes_stand_beside_our_programs() -> None:
    lines = [" ".join(line.split()) for line in printed(summaries.summary(), 160).splitlines()]
    assert "runtime latency ours, dense ours, fitted ÷ dense ÷ fitted" in lines
    row = "onnxruntime 1.27 23.1 ms 21 ms 10 ms 1.10× 2.31× fp32, 1 thread"
    assert row in lines
    assert "openvino 2026.0 – 21 ms 10 ms – – not installed" in lines
    assert lines[-1].startswith("budget met")
    assert "runtime" not in printed(summaries.emulated(), 160)  # without peers


def test_many_layers_are_cut_and_said_so() -> None:
    text = printed(summaries.large(), 140)
    assert "block23" in text and "block24" not in text
    assert "and 36 more layers, see the report" in text


def test_names_are_neither_markup_nor_control() -> None:
    name = "[bold]x[/bold] [/nope] :smile: \x1b[31m\x07"
    text = printed(summaries.summary(name=name, verdict=name))
    assert "[bold]x[/bold] [/nope] :smile:" in text
    assert "\x1b" not in text and "\x07" not in text
    printed(summaries.hostile())
    printed(summaries.bare())


def display(terminal: bool) -> tuple[ProgressDisplay, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, legacy_windows=False)
    return ProgressDisplay(console), out


def test_progress_shows_the_stage() -> None:
    shown, out = display(terminal=True)
    with shown:
        shown.update("sensitivity [/x]", 3, 10)
        shown.update("cost table", 0, 64)
        shown.update("cost table", 7, 64)
    assert "cost table" in out.getvalue() and "7/64" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")  # the bar is gone


def test_progress_is_silent_without_a_terminal() -> None:
    shown, out = display(terminal=False)
    with shown:
        shown.update("sensitivity", 1, 2)
    assert out.getvalue() == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_progress_ends_with_the_cursor_back_and_lets_errors_pass(
    error: type[BaseException],
) -> None:
    shown, out = display(terminal=True)
    with pytest.raises(error), shown:
        shown.update("training", 1, 2)
        raise error
    hidden, back = out.getvalue().rfind("\x1b[?25l"), out.getvalue().rfind("\x1b[?25h")
    assert 0 <= hidden < back
