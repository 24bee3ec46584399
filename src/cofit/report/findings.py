"""Findings of reproductions: as tables on a terminal, and as the page docs/results.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from cofit.core.files import write_text
from cofit.reproductions import Finding
from cofit.reproductions.harness import Claim

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
    """Write the page of all findings, and their figures in a folder beside it.

    Args:
        page: a Markdown file.
        findings: each with the folder of its run.
    """
    figures = page.parent / page.stem
    figures.mkdir(parents=True, exist_ok=True)
    parts = [_overview([finding for finding, _ in findings])]
    for finding, folder in findings:
        drawn = figures / f"{finding.name}.svg"
        shutil.copyfile(folder / "figure.svg", drawn)
        parts.append(_section(finding, f"{page.stem}/{drawn.name}"))
    write_text(page, "\n".join(parts))


def _overview(findings: Sequence[Finding]) -> str:
    rows = [
        (
            f"[{f.name}](#{f.name})",
            f.title,
            f.scale,
            f"{f.held} of {len(f.claims)}",
            f"{f.seconds:.0f}",
        )
        for f in findings
    ]
    columns = ("system", "what", "scale", "claims that hold", "seconds")
    return (
        "# Results\n\nWritten by `cofit reproduce --all --write`; not edited by hand. Whether a "
        "claim holds is decided by the rule in its row, fixed before the run.\n\n"
        + _markdown(columns, rows)
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
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)]) + "\n"
