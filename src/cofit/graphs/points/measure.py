"""Wall-clock time of calls by a stated rule, and memory by what the allocator gave out."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch.profiler import ProfilerActivity, profile

WARM_UP, FEWEST, MOST = 10, 10, 50
STEADY = 0.05


@dataclass(frozen=True)
class Timing:
    """Repeated runs of one call.

    Attributes:
        latency_s: mean of the runs that are no outliers.
        spread: inter-quartile range over the median.
        runs: number of them, outliers included.
        at: when they ended, in seconds since 1970.
    """

    latency_s: float
    spread: float
    runs: int
    at: float


def time_call(
    call: Callable[[], object],
    *,
    warm_up: int = WARM_UP,
    most: int = MOST,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Run until the inter-quartile range is below 5 % of the median, or `most` times.

    Runs further than 1.5 inter-quartile ranges from the middle half are dropped, the others
    averaged.

    Args:
        call: what is timed.
        warm_up: runs before the first that counts.
        most: at most so many that count.
        clock: seconds.
    """
    for _ in range(warm_up):
        call()

    def timed() -> float:
        start = clock()
        call()
        return clock() - start

    return _timed(timed, most)


def _timed(run: Callable[[], float], most: int) -> Timing:
    """Of runs that give their seconds."""
    seconds: list[float] = []
    while len(seconds) < most:
        seconds.append(run())
        if len(seconds) >= FEWEST and _spread(seconds) < STEADY:
            break
    low, high = np.quantile(seconds, [0.25, 0.75])
    reach = 1.5 * (high - low)
    kept = [s for s in seconds if low - reach <= s <= high + reach]
    return Timing(statistics.fmean(kept), _spread(seconds), len(seconds), time.time())


def time_beside(
    call: Callable[[], object],
    reference: Callable[[], object],
    *,
    most: int = MOST,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Timing, float]:
    """As `time_call`, every run behind one of the reference; and the median of their ratios.

    A machine that others use is slower for minutes at a time; a ratio of neighbouring runs is not.
    """
    for _ in range(WARM_UP):
        reference()
        call()
    ratios: list[float] = []

    def timed() -> float:
        start = clock()
        reference()
        middle = clock()
        call()
        end = clock()
        ratios.append((end - middle) / (middle - start))
        return end - middle

    return _timed(timed, most), statistics.median(ratios)


def _spread(seconds: list[float]) -> float:
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def allocated_peak_bytes(call: Callable[[], object]) -> int:
    """High-water mark of the CPU allocator during a call, above what it held before.

    Taken from the profiler's record of every allocation and release.
    """
    call()
    # else the recorder announces each start and stop on the standard error stream
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    assert recorded.profiler is not None
    results = recorded.profiler.kineto_results
    assert results is not None
    events = [event for event in results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(max(np.cumsum([0, *sizes])))
