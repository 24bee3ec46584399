"""`cofit reproduce`: published systems, re-measured."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cofit.cli.console import console, print_json
from cofit.core import ConfigError
from cofit.fit import silent
from cofit.report import ProgressDisplay, print_finding, read_results, write_results
from cofit.reproductions import Finding, Scale, known_reproductions, reproduce
from cofit.reproductions.harness import parse_scale

RUNS = Path("runs/reproduce")


def reproduce_command(
    name: str | None, every: bool, scale: str, out: Path | None, write: Path | None, as_json: bool
) -> None:
    """Run one reproduction or all, print what was found, write the page of results if asked.

    Raises:
        ConfigError: options that do not go together, or no such scale.
        FileError: the file to write to is something else.
    """
    if (name is None) != every:
        raise ConfigError("give either the name of a reproduction or --all; see 'cofit list'")
    if write is not None:
        read_results(write)  # refused before the work, not after
    chosen = parse_scale(scale)
    names = known_reproductions() if name is None else (name,)
    findings = []
    for each in names:
        folder = out / each if out is not None and every else out or default_folder(each, chosen)
        finding = _one(each, chosen, folder, as_json)
        findings.append((finding, folder))
        if not as_json:
            print_finding(finding, folder, console())
    if as_json:
        documents = [finding.model_dump(mode="json") for finding, _ in findings]
        print_json(documents if every else documents[0])
    if write is not None:
        write_results(write, findings)


def default_folder(name: str, scale: str) -> Path:
    """Where a run is kept without --out."""
    return RUNS / f"{name}-{scale}"


def _one(name: str, scale: Scale, folder: Path, quiet: bool) -> Finding:
    with contextlib.ExitStack() as stack:
        progress = silent if quiet else stack.enter_context(ProgressDisplay()).update
        return reproduce(name, scale, folder, progress)
