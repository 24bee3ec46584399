"""Optimal schedules of a few layers, by branch and bound: what heuristics are measured against.

Placing layers one by one, each as early as it can begin, in some order, gives every schedule in
which no layer could begin earlier; one of them is the shortest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from cofit.core import InfeasibleError
from cofit.targets.heterogeneous.timeline import place
from cofit.targets.heterogeneous.workload import Array, Schedule, Workload


def exhaustive(work: Workload, buffer_bits: float, static_pj: float = 0.0) -> Schedule:
    """The schedule with the least energy times makespan, over all assignments and orders.

    For some eight layers on two units.

    Raises:
        InfeasibleError: a layer needs more than the whole buffer on every unit.
    """
    best: Schedule | None = None
    rows = np.arange(work.layers)

    def promise(units: tuple[int, ...]) -> float:
        least = least_makespan(work, units)
        return (float(work.energy_pj[rows, list(units)].sum()) + static_pj * least) * least

    for units in sorted(assignments(work, buffer_bits), key=promise):
        if best is not None and promise(units) >= best.edp:
            break
        found = work.priced(units, *shortest(work, buffer_bits, units), static_pj)
        if best is None or found.edp < best.edp:
            best = found
    if best is None:
        raise InfeasibleError("a layer needs more than the whole buffer on every unit")
    return best


def assignments(work: Workload, buffer_bits: float) -> Iterator[tuple[int, ...]]:
    """All ways to give layers units on which they fit the buffer."""
    fits = [np.flatnonzero(row <= buffer_bits).tolist() for row in work.buffer_bits]
    return itertools.product(*fits)


def least_makespan(work: Workload, units: Sequence[int]) -> float:
    """A makespan that no schedule of an assignment can beat."""
    cycles = work.cycles[np.arange(work.layers), list(units)]
    loads = np.bincount(units, cycles, minlength=work.units)
    ends = [0.0] * work.layers
    for layer, needed in enumerate(work.before):
        ready = max((ends[other] for other in needed), default=0.0)
        ends[layer] = max(ready, work.releases[layer]) + float(cycles[layer])
    return max(float(loads.max(initial=0.0)), max(ends, default=0.0))


def shortest(
    work: Workload, buffer_bits: float, units: Sequence[int], enough: float = 0.0
) -> tuple[Array, Array]:
    """Starts and ends of the shortest schedule of an assignment.

    Args:
        work: layers and their costs.
        buffer_bits: of the shared buffer.
        units: of each layer.
        enough: a makespan that need not be beaten.
    """
    search = _Search(work, buffer_bits, list(units), max(enough, least_makespan(work, units)))
    search.run([])
    assert search.best is not None
    return search.best


class _Search:
    """Depth first over orders; orders that lead to the same starts are followed once."""

    def __init__(self, work: Workload, buffer_bits: float, units: list[int], enough: float) -> None:
        self._work, self._buffer_bits, self._units, self._enough = work, buffer_bits, units, enough
        self._seen: set[tuple[tuple[int, float], ...]] = set()
        self._tails = chains(work, units).tolist()
        self.best: tuple[Array, Array] | None = None
        self._makespan = np.inf

    def run(self, order: list[int]) -> None:
        """All orders that begin as given."""
        start, end = place(self._work, self._buffer_bits, order, self._units, gaps=True)
        placed = set(order)
        key = tuple((layer, start[layer]) for layer in sorted(placed))
        if key in self._seen or self._makespan <= self._enough:
            return
        self._seen.add(key)
        if len(order) == self._work.layers:
            makespan = float(end.max(initial=0.0))
            if makespan < self._makespan:
                self._makespan, self.best = makespan, (start, end)
            return
        ready = {}
        for layer, needed in enumerate(self._work.before):
            if layer not in placed:
                known = [float(end[other]) for other in needed if other in placed]
                ready[layer] = max([self._work.releases[layer], *known])
                if ready[layer] + self._tails[layer] >= self._makespan:
                    return
        free = [layer for layer in ready if placed.issuperset(self._work.before[layer])]
        for layer in sorted(free, key=lambda layer: (ready[layer], -self._tails[layer])):
            self.run([*order, layer])


def chains(work: Workload, units: Sequence[int]) -> Array:
    """Cycles of the longest chain that begins with each layer, itself included."""
    tails = np.zeros(work.layers)
    for layer in reversed(range(work.layers)):
        tails[layer] += work.cycles[layer, units[layer]]
        for other in work.before[layer]:
            tails[other] = max(tails[other], tails[layer])
    return tails
