"""Findings of reproductions: as tables on a terminal, and as the page docs/results.md."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from cofit.core import FileError
from cofit.core.files import write_text
from cofit.reproductions import Finding
from cofit.reproductions.harness import Claim

TITLE = "# Results"
INTRODUCTION = (
    "Written by `cofit reproduce --write`; not edited by hand. Whether a claim holds is decided by "
    "the rule in its row, fixed before the run."
)
COLUMNS = ("system", "what", "scale", "claims that hold", "seconds")
HEADINGS = ("claim", "published", "here", "limit", "basis", "holds if", "holds")


def print_finding(finding: Finding, folder: Path, console: Console) -> None:
    """Claims, the tables behind them, the reasons of those that do not hold."""
    console.print(f"\n{finding.name}: {finding.title} ({finding.scale})")
    console.print(_rich(HEADINGS, [_cells(claim) for claim in finding.claims]))
    for kind, text in _remarks(finding):
        console.print(f"{kind}: {text}")
    for table in finding.tables:
        console.print(f"\n{table.title}")
        console.print(_rich(table.columns, table.rows))
    console.print(
        f"\n{finding.held} of {len(finding.claims)} claims hold; {finding.seconds:.0f} s of work; "
        f"figure: {folder / 'figure.svg'}"
    )


def write_results(page: Path, findings: Sequence[tuple[Finding, Path]]) -> None:
    """Write findings to a page, and their figures in a folder beside it.

    What a page of this kind says of other systems stays.

    Args:
        page: a Markdown file.
        findings: each with the folder of its run.

    Raises:
        FileError: there is a file that is no such page.
    """
    figures = page.parent / page.stem
    rows, sections = read_results(page)
    for finding, folder in findings:
        drawn = figures / f"{finding.name}.svg"
        figures.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "figure.svg", drawn)
        rows[finding.name] = _line(_row(finding))
        sections[finding.name] = _section(finding, f"{page.stem}/{drawn.name}")
    names = sorted(sections)
    overview = [TITLE, "", INTRODUCTION, "", *_head(COLUMNS), *(rows[name] for name in names), ""]
    write_text(page, "\n".join(["\n".join(overview), *(sections[name] for name in names)]))


def read_results(page: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(rows of the overview, sections) of a page by system; none where there is no page.

    Raises:
        FileError: the file is no such page.
    """
    if not page.exists():
        return {}, {}
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    overview, *found = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    rows = dict(re.findall(r"^(?=\| \[([\w-]+)\])(.+)$", overview, flags=re.MULTILINE))
    sections = {part.split("\n", 1)[0].removeprefix("## "): part for part in found}
    if not overview.startswith(TITLE) or rows.keys() != sections.keys():
        raise FileError(f"{str(page)!r} is no page of results; choose another file or remove it")
    return rows, sections


def _row(finding: Finding) -> tuple[str, ...]:
    return (
        f"[{finding.name}](#{finding.name})",
        finding.title,
        finding.scale,
        f"{finding.held} of {len(finding.claims)}",
        f"{finding.seconds:.0f}",
    )


def _section(finding: Finding, figure: str) -> str:
    claims = _markdown(HEADINGS, [_cells(claim) for claim in finding.claims])
    notes = [f"- {kind.capitalize()}: {text}" for kind, text in _remarks(finding)]
    tables = [f"{t.title}\n\n{_markdown(t.columns, t.rows)}" for t in finding.tables]
    versions = ", ".join(f"{name} {version}" for name, version in finding.versions.items())
    facts = (
        f"Scale {finding.scale}, seeds {', '.join(map(str, finding.seeds)) or 'none'}, "
        f"{finding.seconds:.0f} s on {finding.device}; {versions}. "
        f"Settings: `{json.dumps(finding.settings)}`"
    )
    parts = [
        f"## {finding.name}", finding.title, f"Source: {finding.source}", claims,
        *(["\n".join(notes)] if notes else []), f"![{finding.name}]({figure})", *tables, facts,
    ]  # fmt: skip
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _remarks(finding: Finding) -> list[tuple[str, str]]:
    """Settings of claims as ("note", text), and of those that do not hold ("why not", text)."""
    remarks = []
    for claim in finding.claims:
        if claim.note:
            remarks.append(("note", f"{claim.claim}: {claim.note}"))
        if claim.why_not:
            remarks.append(("why not", f"{claim.claim}: {claim.why_not}"))
    return remarks


def _cells(claim: Claim) -> tuple[str, ...]:
    return (
        claim.claim,
        claim.published,
        claim.measured.text,
        claim.limit,
        str(claim.basis),
        claim.rule.text,
        "yes" if claim.holds else "no",
    )


def _rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
    found = RichTable(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column, overflow="fold")
    for row in rows:
        found.add_row(*row)
    return found


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([*_head(columns), *map(_line, rows)]) + "\n"


def _head(columns: Sequence[str]) -> list[str]:
    return [_line(columns), _line(["---"] * len(columns))]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
