"""A slower machine, declared: work takes a multiple of the CPU time it takes here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cofit.core import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Slowdown:
    """Sleeps so that work takes `factor` times its CPU time on this thread.

    CPU time, not wall time, is multiplied: a machine that also does something else is not made
    slower by it than declared. The work must not use other threads.

    Attributes:
        factor: 1 sleeps never.

    Raises:
        ConfigError: a factor below 1.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ConfigError(f"a slow-down of {self.factor:g}; give 1 (none) or more")

    def run(self, work: Callable[[], T]) -> tuple[T, float]:
        """The result of the work and the seconds it took, the sleep included."""
        start, cpu = time.perf_counter(), time.thread_time()
        result = work()
        if self.factor > 1:
            due = start + self.factor * (time.thread_time() - cpu)
            time.sleep(max(due - time.perf_counter(), 0.0))
        return result, time.perf_counter() - start
