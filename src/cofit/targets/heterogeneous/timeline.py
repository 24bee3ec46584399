"""Placing layers in time: each as early as its inputs, its unit and the shared buffer allow."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from cofit.targets.heterogeneous.workload import Array, Workload


class Timeline:
    """What units and buffer do, while layers are placed one by one.

    Attributes:
        start: of each layer, by layer; of those that are not placed, 0.
        end: likewise.
    """

    def __init__(self, work: Workload, buffer_bits: float, gaps: bool) -> None:
        """An empty one.

        Args:
            work: layers and their costs.
            buffer_bits: of the shared buffer.
            gaps: a layer may begin before others of its unit that were placed earlier.
        """
        self._work, self._room, self._gaps = work, buffer_bits, gaps
        self._cycles, self._held = work.cycles.tolist(), work.buffer_bits.tolist()
        self._starts: list[list[float]] = [[] for _ in range(work.units)]
        self._ends: list[list[float]] = [[] for _ in range(work.units)]
        # the buffer holds self._levels[i] bits from self._times[i] on
        self._times, self._levels = [0.0], [0.0]
        held = np.where(work.buffer_bits <= buffer_bits, work.buffer_bits, 0.0)
        self._crowded = bool(held.max(axis=0, initial=0.0).sum() > buffer_bits)
        self.start = [0.0] * work.layers
        self.end = [0.0] * work.layers

    def earliest(self, layer: int, unit: int) -> float:
        """Cycle at which a layer can begin on a unit."""
        ready = self._work.releases[layer]
        for other in self._work.before[layer]:
            ready = max(ready, self.end[other])
        starts, ends = self._starts[unit], self._ends[unit]
        if not self._gaps and ends:
            ready = max(ready, ends[-1])
        cycles = self._cycles[layer][unit]
        while True:
            until = ready + cycles
            after = bisect_right(ends, ready)
            if after < len(starts) and starts[after] < until:
                ready = ends[after]
                continue
            full = self._full_until(ready, until, self._held[layer][unit])
            if full is None:
                return ready
            ready = full

    def put(self, layer: int, unit: int) -> None:
        """Place a layer on a unit as early as it can begin."""
        begin = self.earliest(layer, unit)
        until = begin + self._cycles[layer][unit]
        self.start[layer], self.end[layer] = begin, until
        if until > begin:
            at = bisect_left(self._starts[unit], begin)
            self._starts[unit].insert(at, begin)
            self._ends[unit].insert(at, until)
            if self._crowded:
                self._hold(begin, until, self._held[layer][unit])

    def arrays(self) -> tuple[Array, Array]:
        """Starts and ends of all layers."""
        return np.array(self.start), np.array(self.end)

    def _full_until(self, begin: float, until: float, bits: float) -> float | None:
        """The end of the first time in which the buffer lacks room, None if there is none."""
        if not self._crowded:
            return None
        at = bisect_right(self._times, begin) - 1
        while at < len(self._times) and self._times[at] < until:
            if self._levels[at] + bits > self._room:
                return self._times[at + 1]
            at += 1
        return None

    def _hold(self, begin: float, until: float, bits: float) -> None:
        first, last = self._cut(begin), self._cut(until)
        for at in range(first, last):
            self._levels[at] += bits

    def _cut(self, time: float) -> int:
        """Index of a moment, which becomes one where the level may change."""
        at = bisect_left(self._times, time)
        if at == len(self._times) or self._times[at] != time:
            self._times.insert(at, time)
            self._levels.insert(at, self._levels[at - 1])
        return at


def place(
    work: Workload, buffer_bits: float, order: Sequence[int], units: Sequence[int], gaps: bool
) -> tuple[Array, Array]:
    """Starts and ends of layers taken in an order, each as early as the rules allow.

    Args:
        work: layers and their costs.
        buffer_bits: of the shared buffer.
        order: of placing; layers follow those they wait for.
        units: of each layer.
        gaps: a layer may begin before others of its unit that were placed earlier.
    """
    timeline = Timeline(work, buffer_bits, gaps)
    for layer in order:
        timeline.put(layer, units[layer])
    return timeline.arrays()
