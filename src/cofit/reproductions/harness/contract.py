"""What a reproduction is: one file that composes the rooms and says what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cofit.reproductions.harness.outcome import Outcome, Scale
from cofit.reproductions.harness.study import Study

S = TypeVar("S")


@dataclass(frozen=True)
class Reproduction(Generic[S]):
    """A published system, re-measured.

    A module of this room (named as the system, "_" for "-") holds one as `REPRODUCTION`.

    Attributes:
        name: as in `cofit reproduce NAME`.
        title: the system in one line.
        source: authors, venue, year, arXiv number.
        scales: settings of every scale: frozen dataclasses of JSON values. "smoke" needs nothing
            but the embedded data and a few seconds; "standard" up to 15 minutes on 2 cores.
        seeds: per scale; three or more where "standard" trains.
        run: does the work, step by step, and draws the figure.
    """

    name: str
    title: str
    source: str
    scales: Mapping[Scale, S]
    seeds: Mapping[Scale, tuple[int, ...]]
    run: Callable[[Study[S]], Outcome]


AnyReproduction = Reproduction[Any]
