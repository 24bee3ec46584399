"""List scheduling of layers on sub-accelerators (HERALD, HPCA 2021).

A layer goes to the unit it likes best, unless that unit would be too busy beside the others; it
starts when its inputs, the unit and room in the shared buffer are there. Later layers then move
into idle gaps before them, as long as all rules hold and nothing gets later.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cofit.core import ConfigError, InfeasibleError, UnknownNameError
from cofit.targets.heterogeneous.costs import OBJECTIVES, score
from cofit.targets.heterogeneous.timeline import Timeline, place
from cofit.targets.heterogeneous.workload import Array, Schedule, Workload

ORDERS = ("depth", "breadth")
IMBALANCES = (1.05, 1.5, 3.0, float("inf"))


@dataclass(frozen=True)
class Policy:
    """How to schedule.

    Attributes:
        order: "depth" finishes a network before the next, "breadth" takes a layer of each in turn.
        metric: by which a layer prefers units: "edp", "cycles" or "energy".
        imbalance: a unit may become so many times as busy as the least busy one; infinite is pure
            preference.
        fill_gaps: move layers into idle time afterwards.
        static_pj: energy of all units per cycle, busy or not.
    """

    order: str = "breadth"
    metric: str = "edp"
    imbalance: float = 1.5
    fill_gaps: bool = True
    static_pj: float = 0.0

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UnknownNameError("order", self.order, ORDERS)
        if self.metric not in OBJECTIVES:
            raise UnknownNameError("metric", self.metric, OBJECTIVES)
        if not self.imbalance >= 1:
            raise ConfigError(f"imbalance is {self.imbalance}; it must be at least 1")


def schedule(work: Workload, buffer_bits: float, policy: Policy | None = None) -> Schedule:
    """A schedule by preference and balance.

    Args:
        work: layers and their costs.
        buffer_bits: of the buffer that all units share.
        policy: default if None.

    Raises:
        InfeasibleError: a layer needs more than the whole buffer on every unit.
    """
    policy = policy or Policy()
    order = list(in_order(work, policy.order))
    units = _assign(work, buffer_bits, order, policy)
    made = place(work, buffer_bits, order, units, gaps=False)
    if policy.fill_gaps:
        made = filled(work, buffer_bits, order, units, made)
    return work.priced(units, *made, policy.static_pj)


def best_schedule(
    work: Workload, buffer_bits: float, static_pj: float = 0.0, objective: str = "edp"
) -> Schedule:
    """The best of several policies: all orders, metrics and four imbalances.

    Args:
        work: layers and their costs.
        buffer_bits: of the buffer that all units share.
        static_pj: energy of all units per cycle.
        objective: "edp", "cycles" or "energy" of the whole schedule.

    Raises:
        InfeasibleError: a layer needs more than the whole buffer on every unit.
    """
    made = (
        schedule(work, buffer_bits, Policy(order, metric, imbalance, static_pj=static_pj))
        for order in ORDERS
        for metric in OBJECTIVES
        for imbalance in IMBALANCES
    )
    return min(made, key=lambda found: found.score(objective))


def earliest_finish(
    work: Workload, buffer_bits: float, order: str = "breadth", static_pj: float = 0.0
) -> Schedule:
    """The greedy baseline: each layer in turn goes where it is done first.

    Raises:
        InfeasibleError: a layer needs more than the whole buffer on every unit.
    """
    timeline = Timeline(work, buffer_bits, gaps=False)
    units = [0] * work.layers
    for layer in in_order(work, order):
        fits = fitting(work, buffer_bits, layer)
        ends = [timeline.earliest(layer, unit) + work.cycles[layer, unit] for unit in fits]
        units[layer] = fits[int(np.argmin(ends))]
        timeline.put(layer, units[layer])
    return work.priced(units, *timeline.arrays(), static_pj)


def fitting(work: Workload, buffer_bits: float, layer: int) -> list[int]:
    """Units on which a layer fits the buffer.

    Raises:
        InfeasibleError: there is none.
    """
    fits = [unit for unit in range(work.units) if work.buffer_bits[layer, unit] <= buffer_bits]
    if not fits:
        least = work.buffer_bits[layer].min()
        if np.isinf(least):
            raise InfeasibleError(
                f"layer {layer} runs on no unit; give one more units or more of the buffer"
            )
        raise InfeasibleError(
            f"layer {layer} needs {least:g} bits of the shared buffer, which has {buffer_bits:g}; "
            "give it a larger buffer or smaller tiles"
        )
    return fits


def in_order(work: Workload, order: str) -> Iterator[int]:
    """Layers in a "depth" or "breadth" order; each follows those it waits for."""
    if order == "depth":
        yield from sorted(range(work.layers), key=lambda layer: (work.instance[layer], layer))
        return
    queues: dict[int, list[int]] = {}
    for layer, instance in enumerate(work.instance):
        queues.setdefault(instance, []).append(layer)
    for turn in itertools.zip_longest(*queues.values()):
        yield from (layer for layer in turn if layer is not None)


def filled(
    work: Workload,
    buffer_bits: float,
    order: Sequence[int],
    units: Sequence[int],
    made: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Layers moved into idle time before them, until nothing gets earlier."""
    best = made
    queue = list(order)
    while True:
        tried = place(work, buffer_bits, queue, units, gaps=True)
        if tried[1].max(initial=0.0) > best[1].max(initial=0.0):
            return best
        settled = np.array_equal(tried[0], best[0])
        best = tried
        if settled:
            return best
        queue = sorted(queue, key=lambda layer: (best[0][layer], layer))


def _assign(work: Workload, buffer_bits: float, order: Sequence[int], policy: Policy) -> list[int]:
    """A unit for each layer: the preferred one that does not get too busy."""
    liked = score(work.cycles, work.energy_pj, policy.metric)
    cycles = work.cycles.tolist()
    busy = [0.0] * work.units
    units = [0] * work.layers
    for layer in order:
        ranked = sorted(
            fitting(work, buffer_bits, layer), key=lambda unit: (liked[layer, unit], unit)
        )
        chosen = next(
            (unit for unit in ranked if _balanced(cycles[layer], busy, unit, policy.imbalance)),
            ranked[0],
        )
        units[layer] = chosen
        busy[chosen] += cycles[layer][chosen]
    return units


def _balanced(cycles: Sequence[float], busy: Sequence[float], unit: int, imbalance: float) -> bool:
    """Whether a unit that takes a layer is not too busy beside the least busy one."""
    after = busy[unit] + cycles[unit]
    others = [load for other, load in enumerate(busy) if other != unit]
    if max(others, default=0.0) > after:  # another unit decides the imbalance
        return True
    least = max(min((*others, after)), min(cycles))
    return after <= imbalance * least
