"""Times of interchangeable pieces of code, read in turn so that drift touches all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SERIES_S = 0.005
ROUNDS = 5
Clock = Callable[[], float]


@dataclass(frozen=True)
class Reading:
    """Seconds of one run.

    Attributes:
        seconds: the least of all rounds; nothing makes code faster than it is.
        spread: how far the median of the rounds lies above the least, relative.
    """

    seconds: float
    spread: float


def clock_of(threads: int) -> Clock:
    """The time of the processor, which others do not disturb; of the wall for several threads."""
    return time.process_time if threads == 1 else time.perf_counter


def race(runs: Sequence[Callable[[], None]], clock: Clock) -> list[Reading]:
    """Readings of all runs: series of at least `SERIES_S`, `ROUNDS` of each, A/B/A/B."""
    repeats = [_repeats(run, clock) for run in runs]
    table: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, count, found in zip(runs, repeats, table, strict=True):
            found.append(_series(run, count, clock) / count)
    return [
        Reading(least := min(found), statistics.median(found) / max(least, 1e-12) - 1)
        for found in table
    ]


def _repeats(run: Callable[[], None], clock: Clock) -> int:
    """How often to run for a series, after a run that fetches code and weights."""
    run()
    count = 1
    while (took := _series(run, count, clock)) < SERIES_S:
        count = max(2 * count, min(int(1.2 * count * SERIES_S / max(took, 1e-9)), 100 * count))
    return count


def _series(run: Callable[[], None], count: int, clock: Clock) -> float:
    started = clock()
    for _ in range(count):
        run()
    return clock() - started
