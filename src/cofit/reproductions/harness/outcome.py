"""What a reproduction gives: claims, tables, a figure; and the finding that is stored."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict

from cofit.core import UnknownNameError
from cofit.reproductions.harness.claim import Claim
from cofit.targets import cpu_name

Scale = Literal["smoke", "standard", "full"]
SCALES: tuple[Scale, ...] = ("smoke", "standard", "full")


def parse_scale(text: str) -> Scale:
    """The scale of that name.

    Raises:
        UnknownNameError: there is none.
    """
    for scale in SCALES:
        if text == scale:
            return scale
    raise UnknownNameError("scale", text, SCALES)


class Table(BaseModel):
    """Raw numbers behind the claims, as they are shown.

    Attributes:
        title: what the rows are.
        columns: headings, units included.
        rows: one text per column.
    """

    model_config = ConfigDict(frozen=True)

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sources(**hardware: Mapping[str, str]) -> Table:
    """Where the numbers of modelled hardware come from: published, derived, recalled or chosen.

    Args:
        hardware: facts by kind, as `HardwareFile.facts` gives them, by name of the hardware.
    """
    return Table(
        title="Where the hardware's numbers come from",
        columns=("hardware", "kind", "numbers"),
        rows=tuple(
            (name.replace("_", "-"), kind, text)
            for name, facts in hardware.items()
            for kind, text in facts.items()
        ),
    )


@dataclass(frozen=True)
class Outcome:
    """What a reproduction's `run` returns; the figure is stored as SVG."""

    claims: Sequence[Claim]
    tables: Sequence[Table]
    figure: Figure


class Finding(BaseModel):
    """A finished reproduction as it is stored in `finding.json`.

    `seconds` is the time of all steps, of runs that were interrupted too.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    source: str
    scale: Scale
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    seconds: float
    device: str
    versions: dict[str, str]

    @property
    def held(self) -> int:
        """Number of claims that hold."""
        return sum(claim.holds for claim in self.claims)


def environment() -> tuple[str, dict[str, str]]:
    """The CPU's name, and the versions of what computes."""
    packages = {name: metadata.version(name) for name in ("cofit", "torch", "numpy")}
    return cpu_name(), {"python": platform.python_version(), **packages}
