"""`cofit fit`: the main job, from options and a config file to a folder of results."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from cofit.api import fit_and_report
from cofit.cli.console import console
from cofit.fit import make_config, read_config, silent
from cofit.report import ProgressDisplay, print_summary

BUDGET_NOT_MET = 3


def fit_command(values: dict[str, Any], file: Path | None, as_json: bool, quiet: bool) -> int:
    """Fit and write the results; the exit status says whether the budget is met.

    Args:
        values: what the options give, by field of `FitConfig`.
        file: TOML that the options override.
        as_json: print summary.json and nothing else.
        quiet: print the verdict only.
    """
    config = make_config(values) if file is None else read_config(file, values)
    with contextlib.ExitStack() as stack:
        progress = silent
        if not (as_json or quiet):
            progress = stack.enter_context(ProgressDisplay()).update
        result = fit_and_report(config, progress)
    if as_json:
        sys.stdout.write((config.out / "summary.json").read_text(encoding="utf-8"))
    elif quiet:
        console().print(result.summary.verdict)
    else:
        print_summary(result.summary, console())
        console().print(f"results: {config.out / 'report.html'}")
    return 0 if result.summary.met else BUDGET_NOT_MET
