"""List scheduling of layers on sub-accelerators (HERALD, HPCA 2021), and the exhaustive oracle.

A layer goes to the unit it likes best, unless that unit would be too busy beside the others; it
starts when its inputs, the unit and room in the shared buffer are there. Later layers then move
into idle gaps before them, as long as all rules hold and nothing gets later.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cofit.core import InfeasibleError, UnknownNameError
from cofit.targets.heterogeneous.workload import Array, Schedule, Workload

ORDERS = ("depth", "breadth")
METRICS = ("edp", "cycles", "energy")
IMBALANCES = (1.5, 3.0, float("inf"))


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
        if self.metric not in METRICS:
            raise UnknownNameError("metric", self.metric, METRICS)


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
    order = list(_in_order(work, policy.order))
    units = _assign(work, buffer_bits, order, policy)
    made = place(work, buffer_bits, order, units, gaps=False)
    if policy.fill_gaps:
        made = _filled(work, buffer_bits, order, units, made)
    return _priced(work, units, made, policy.static_pj)


def best_schedule(work: Workload, buffer_bits: float, static_pj: float = 0.0) -> Schedule:
    """The one with the least energy times makespan of several policies.

    Raises:
        InfeasibleError: a layer needs more than the whole buffer on every unit.
    """
    made = (
        schedule(work, buffer_bits, Policy(order, metric, imbalance, static_pj=static_pj))
        for order in ORDERS
        for metric in METRICS
        for imbalance in IMBALANCES
    )
    return min(made, key=lambda found: found.edp)


def exhaustive(work: Workload, buffer_bits: float, static_pj: float = 0.0) -> Schedule:
    """The schedule with the least energy times makespan, over all assignments and orders.

    For eight layers on two units at most.
    """
    best: Schedule | None = None
    orders = [order for order in itertools.permutations(range(work.layers)) if _legal(work, order)]
    for units in itertools.product(range(work.units), repeat=work.layers):
        rows = np.arange(work.layers), np.array(units)
        if (work.buffer_bits[rows] > buffer_bits).any():
            continue
        for order in orders:
            made = place(work, buffer_bits, order, units, gaps=True)
            found = _priced(work, units, made, static_pj)
            if best is None or found.edp < best.edp:
                best = found
    if best is None:
        raise InfeasibleError("a layer needs more than the whole buffer on every unit")
    return best


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
    start, end = np.zeros(work.layers), np.zeros(work.layers)
    placed: list[int] = []
    held = work.buffer_bits[np.arange(work.layers), np.asarray(units, int)]
    for layer in order:
        unit, cycles = units[layer], work.cycles[layer, units[layer]]
        ready = max((end[other] for other in work.before[layer]), default=0.0)
        mine = [other for other in placed if units[other] == unit]
        if not gaps:
            ready = max([ready, *(end[other] for other in mine)])
        moments = sorted({ready, *(end[other] for other in placed if end[other] > ready)})
        for moment in moments:
            until = moment + cycles
            free = all(end[other] <= moment or start[other] >= until for other in mine)
            if free and _room(placed, start, end, held, moment, until, buffer_bits - held[layer]):
                start[layer], end[layer] = moment, until
                break
        placed.append(layer)
    return start, end


def _room(
    placed: Sequence[int],
    start: Array,
    end: Array,
    held: Array,
    begin: float,
    until: float,
    room: float,
) -> bool:
    """Whether all layers that run between two moments leave room in the buffer all the time."""
    beside = [other for other in placed if start[other] < until and end[other] > begin]
    moments = [begin, *(start[other] for other in beside if start[other] > begin)]
    return all(
        sum(held[other] for other in beside if start[other] <= moment < end[other]) <= room
        for moment in moments
    )


def _in_order(work: Workload, order: str) -> Iterator[int]:
    if order == "depth":
        yield from sorted(range(work.layers), key=lambda layer: (work.instance[layer], layer))
        return
    queues: dict[int, list[int]] = {}
    for layer, instance in enumerate(work.instance):
        queues.setdefault(instance, []).append(layer)
    for turn in itertools.zip_longest(*queues.values()):
        yield from (layer for layer in turn if layer is not None)


def _assign(work: Workload, buffer_bits: float, order: Sequence[int], policy: Policy) -> list[int]:
    """A unit for each layer: the preferred one that does not get too busy."""
    score = {
        "edp": work.cycles * work.energy_pj,
        "cycles": work.cycles,
        "energy": work.energy_pj,
    }[policy.metric]
    busy = np.zeros(work.units)
    units = [0] * work.layers
    for layer in order:
        fits = [u for u in range(work.units) if work.buffer_bits[layer, u] <= buffer_bits]
        if not fits:
            raise InfeasibleError(
                f"layer {layer} needs {work.buffer_bits[layer].min():g} bits of the shared buffer, "
                f"which has {buffer_bits:g}; give it a larger buffer or smaller tiles"
            )
        ranked = sorted(fits, key=lambda u: (score[layer, u], u))
        chosen = next((u for u in ranked if _balanced(work, busy, layer, u, policy)), ranked[0])
        units[layer] = chosen
        busy[chosen] += work.cycles[layer, chosen]
    return units


def _balanced(work: Workload, busy: Array, layer: int, unit: int, policy: Policy) -> bool:
    after = busy.copy()
    after[unit] += work.cycles[layer, unit]
    if after.max() > after[unit]:  # another unit decides the imbalance
        return True
    least = max(after.min(), work.cycles[layer].min())
    return bool(after[unit] <= policy.imbalance * least)


def _filled(
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


def _legal(work: Workload, order: Sequence[int]) -> bool:
    at = {layer: index for index, layer in enumerate(order)}
    return all(at[o] < at[layer] for layer, needed in enumerate(work.before) for o in needed)


def _priced(
    work: Workload, units: Sequence[int], made: tuple[Array, Array], static_pj: float
) -> Schedule:
    start, end = made
    chosen = np.asarray(units, dtype=np.intp)
    dynamic = float(work.energy_pj[np.arange(work.layers), chosen].sum())
    return Schedule(chosen, start, end, dynamic + static_pj * float(end.max(initial=0.0)))
