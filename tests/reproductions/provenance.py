"""What reports of modelled hardware must say of its numbers."""

from __future__ import annotations

from cofit.core.quantities import KINDS
from cofit.reproductions.harness import Finding


def states_sources(finding: Finding) -> bool:
    """Whether the report ends with the numbers by kind and source, of every piece of hardware."""
    table = finding.tables[-1]
    named = {hardware for hardware, _, _ in table.rows}
    stated = {hardware for hardware, kind, text in table.rows if kind in KINDS and ": " in text}
    return table.title == "Where the hardware's numbers come from" and named == stated != set()
