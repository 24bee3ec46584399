"""`cofit explain`: where the time of a saved program goes, layer by layer, and why."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cofit.api import explain
from cofit.cli.console import console, print_json
from cofit.fit import silent
from cofit.report import ProgressDisplay, print_explanation, write_explanation


def explain_command(folder: Path, as_json: bool, html: Path | None) -> None:
    """Print the explanation of a program; write it as a page too if asked."""
    with contextlib.ExitStack() as stack:
        progress = silent if as_json else stack.enter_context(ProgressDisplay()).update
        explanation = explain(folder, progress=progress)
    if html is not None:
        write_explanation(explanation, html)
    if as_json:
        print_json(explanation.model_dump(mode="json"))
        return
    print_explanation(explanation, console())
    if html is not None:
        console().print(f"page: {html}")
