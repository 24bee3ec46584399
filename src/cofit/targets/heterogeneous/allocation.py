"""Units for layers, and sub-accelerators for networks, under hard limits (NASAIC, DAC 2020).

The heterogeneous assignment problem: the least energy whose makespan stays within a limit. The
heuristic solves it without regard to waiting (a mixed-integer program), for the limit and for
tighter ones; schedules what comes out; and moves single layers, those first that save the most
energy per cycle they add.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, hstack

from cofit.core import ConfigError, InfeasibleError
from cofit.targets.heterogeneous.bounds import relaxed_makespan
from cofit.targets.heterogeneous.costs import OBJECTIVES
from cofit.targets.heterogeneous.exact import assignments, chains, least_makespan, shortest
from cofit.targets.heterogeneous.partition import Bench, Design, Part
from cofit.targets.heterogeneous.scheduler import (
    ORDERS,
    Policy,
    earliest_finish,
    schedule,
)
from cofit.targets.heterogeneous.timeline import place
from cofit.targets.heterogeneous.workload import Array, Schedule, Workload

Score = Callable[[Schedule], tuple[float, ...]]
STARTS = 4
"""Schedules that are improved by moves."""

REPEATS = 40
"""Assignments without waiting that are scheduled, best first, where layers are few."""

TIGHTER = (0.95, 0.9, 0.8)
"""Shares of the limit that other assignments must keep, so that waiting has room."""

TIME_LIMIT_S, GAP = 5.0, 1e-3

FEW = 16
"""Layers up to which orders are searched, and pairs of moves tried."""


def refined(
    work: Workload,
    buffer_bits: float,
    begin: Schedule,
    score: Score,
    static_pj: float = 0.0,
) -> Schedule:
    """A schedule improved by moving layers to other units, one by one, until no move helps.

    Args:
        work: layers and their costs.
        buffer_bits: of the shared buffer.
        begin: where to start.
        score: to be made less.
        static_pj: energy of all units per cycle.
    """
    best, least = begin, score(begin)
    improved = True
    while improved:
        improved = False
        for changes in _moves(work, buffer_bits, best):
            units = best.unit.tolist()
            for layer, unit in changes:
                units[layer] = unit
            tried = min(
                (
                    work.priced(units, *_placed(work, buffer_bits, units, first), static_pj)
                    for first in (best.start, -chains(work, units))
                ),
                key=score,
            )
            if score(tried) < least:
                best, least, improved = tried, score(tried), True
                if work.layers <= FEW:  # the moves of a small case are ranked anew
                    break
    return best


def _placed(
    work: Workload, buffer_bits: float, units: Sequence[int], first: Array
) -> tuple[Array, Array]:
    """Layers placed by ascending `first`, gaps filled."""
    order = np.lexsort((np.arange(work.layers), first)).tolist()
    return place(work, buffer_bits, order, units, gaps=True)


def _moves(
    work: Workload, buffer_bits: float, begin: Schedule
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Layers with other units for them, by energy saved per cycle added; then pairs if few."""
    ranked = []
    for layer, unit in enumerate(begin.unit):
        for other in np.flatnonzero(work.buffer_bits[layer] <= buffer_bits):
            if other == unit:
                continue
            saved = work.energy_pj[layer, unit] - work.energy_pj[layer, other]
            added = work.cycles[layer, other] - work.cycles[layer, unit]
            ratio = saved / added if added > 0 else np.inf if saved >= 0 else 0.0
            ranked.append((-ratio, layer, int(other)))
    single = [(layer, unit) for _, layer, unit in sorted(ranked)]
    yield from ((move,) for move in single)
    if work.layers <= FEW:
        yield from ((a, b) for a, b in itertools.combinations(single, 2) if a[0] != b[0])


def least_energy(work: Workload, buffer_bits: float, limit_cycles: float) -> Schedule:
    """The schedule of least energy found whose makespan is within a limit.

    Raises:
        InfeasibleError: none was found; says the least makespan found, and the least possible.
    """

    def score(made: Schedule) -> tuple[float, ...]:
        return max(made.makespan - limit_cycles, 0.0), made.energy_pj

    begins = [earliest_finish(work, buffer_bits, order) for order in ORDERS]
    begins += [
        schedule(work, buffer_bits, Policy(order, metric))
        for order in ORDERS
        for metric in OBJECTIVES
    ]
    few = work.layers <= FEW
    tried: list[list[int]] = []
    for share in (*(1.0,) * (REPEATS if few else 1), *TIGHTER):
        units = without_waiting(work, buffer_bits, share * limit_cycles, tried)
        if units is None:
            continue
        tried.append(units)
        if few:
            made = shortest(work, buffer_bits, units, limit_cycles)
        else:
            made = _placed(work, buffer_bits, units, -chains(work, units))
        begins.append(work.priced(units, *made))
        if share == 1 and begins[-1].makespan <= limit_cycles:
            return begins[-1]  # no other takes less energy, waiting or not
    apart = {tuple(begin.unit.tolist()): begin for begin in sorted(begins, key=score, reverse=True)}
    chosen = sorted(apart.values(), key=score)[:STARTS]
    found = min((refined(work, buffer_bits, begin, score) for begin in chosen), key=score)
    if found.makespan > limit_cycles:
        raise InfeasibleError(
            f"no schedule within {limit_cycles:g} cycles was found; the shortest found takes "
            f"{found.makespan:g}, none takes less than {relaxed_makespan(work):g}"
        )
    return found


def without_waiting(
    work: Workload,
    buffer_bits: float,
    limit_cycles: float,
    but: Sequence[Sequence[int]] = (),
) -> list[int] | None:
    """Units of least energy if no layer ever waited for a unit or for room; None if there are none.

    Work of each unit and each chain of layers stay within the limit, so its energy is a bound.

    Args:
        work: layers and their costs.
        buffer_bits: of the shared buffer.
        limit_cycles: of units and chains.
        but: assignments that are not wanted.
    """
    layer, unit = np.nonzero(work.buffer_bits <= buffer_bits)
    pairs, layers = len(layer), work.layers
    spent, columns = work.cycles[layer, unit] / limit_cycles, np.arange(pairs)
    free = np.zeros((layers, layers))
    once = coo_array((np.ones(pairs), (layer, columns)), shape=(layers, pairs)).tocsr()
    loads = coo_array((spent, (unit, columns)), shape=(work.units, pairs)).tocsr()
    # ends[layer] - ends[other] - cycles of the layer >= 0, and ends - cycles >= release
    own = coo_array((spent, (layer, columns)), shape=(layers, pairs)).tocsr()
    rows = [(at, other) for at, needed in enumerate(work.before) for other in needed]
    first = np.array([at for at, _ in rows], dtype=np.intp)
    step = np.zeros((len(rows), layers))
    step[np.arange(len(rows)), first] = 1.0
    step[np.arange(len(rows)), [other for _, other in rows]] -= 1.0
    known = np.array(but, dtype=np.intp).reshape(len(but), layers)[:, layer]
    same = csr_array((known == unit).astype(float))
    solved = milp(
        np.concatenate([work.energy_pj[layer, unit] / work.energy_pj.min(), np.zeros(layers)]),
        integrality=np.concatenate([np.ones(pairs), np.zeros(layers)]),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(hstack([once, csr_array(free)]), 1, 1),
            LinearConstraint(hstack([loads, csr_array((work.units, layers))]), -np.inf, 1),
            LinearConstraint(
                hstack([-own, csr_array(np.eye(layers))]),
                np.array(work.releases) / limit_cycles,
                np.inf,
            ),
            LinearConstraint(hstack([-own[first], csr_array(step)]), 0, np.inf),
            LinearConstraint(hstack([same, csr_array((len(but), layers))]), 0, layers - 1),
        ],
        options={"time_limit": TIME_LIMIT_S, "mip_rel_gap": GAP},
    )
    if solved.x is None:
        return None
    units = np.zeros(layers, int)
    taken = solved.x[:pairs] > 0.5
    units[layer[taken]] = unit[taken]
    return units.tolist()


def least_energy_exact(work: Workload, buffer_bits: float, limit_cycles: float) -> Schedule:
    """The schedule of least energy within a limit, over all assignments and orders.

    For a dozen layers on two units.

    Raises:
        InfeasibleError: there is none.
    """
    rows = np.arange(work.layers)
    every = sorted(
        assignments(work, buffer_bits),
        key=lambda units: float(work.energy_pj[rows, list(units)].sum()),
    )
    for units in every:
        if least_makespan(work, units) <= limit_cycles:
            made = work.priced(units, *shortest(work, buffer_bits, units, limit_cycles))
            if made.makespan <= limit_cycles:
                return made
    raise InfeasibleError(f"no schedule takes {limit_cycles:g} cycles or less; allow more")


@dataclass(frozen=True)
class Specs:
    """Hard limits of a design; also the values of one, or bounds.

    Attributes:
        cycles: until all networks are done.
        energy_pj: of all of them.
        area_mm2: of units and buffer.
    """

    cycles: float
    energy_pj: float
    area_mm2: float

    @property
    def values(self) -> tuple[float, float, float]:
        """Cycles, energy and area."""
        return self.cycles, self.energy_pj, self.area_mm2


def penalty(found: Specs, specs: Specs, bounds: Specs) -> float:
    """How far a design is beyond its limits: 0 within all, 1 more for each that is at its bound.

    Raises:
        ConfigError: a bound is not beyond its limit.
    """
    if any(b <= s for b, s in zip(bounds.values, specs.values, strict=True)):
        raise ConfigError(f"bounds {bounds.values} must be beyond the limits {specs.values}")
    return sum(
        max(value - limit, 0.0) / (bound - limit)
        for value, limit, bound in zip(found.values, specs.values, bounds.values, strict=True)
    )


@dataclass(frozen=True)
class Allocated:
    """A design that meets its limits.

    Attributes:
        design: its sub-accelerators.
        schedule: of the mix on them.
        area_mm2: of the units in use, and the buffer.
    """

    design: Design
    schedule: Schedule
    area_mm2: float


def allocate_design(bench: Bench, dataflows: Sequence[str], specs: Specs) -> Allocated:
    """One or two sub-accelerators on which a mix takes the least energy within hard limits.

    Units may be left out, where area is short; bandwidth is divided whole.

    Args:
        bench: mix and chip.
        dataflows: that sub-accelerators may have; both may have the same.
        specs: limits of cycles, energy and area.

    Raises:
        InfeasibleError: no design meets them; says the least that each could be alone.
    """
    best: Allocated | None = None
    least = [np.inf, np.inf, np.inf]
    for design in candidates(dataflows, bench.steps):
        units = sum(part.units for part in design) * bench.chip.units / bench.steps
        area = bench.chip.area_mm2(units)
        work = bench.workload(design)
        try:
            floor = relaxed_makespan(work)
        except InfeasibleError:
            continue
        energy = float(work.energy_pj.min(axis=1).sum())
        least = [min(old, new) for old, new in zip(least, (floor, energy, area), strict=True)]
        within = floor <= specs.cycles and energy <= specs.energy_pj and area <= specs.area_mm2
        if not within or (best is not None and energy >= best.schedule.energy_pj):
            continue
        try:
            made = least_energy(work, bench.chip.buffer_bits, specs.cycles)
        except InfeasibleError:
            continue
        if made.energy_pj <= specs.energy_pj and (
            best is None or made.energy_pj < best.schedule.energy_pj
        ):
            best = Allocated(design, made, area)
    if best is None:
        raise InfeasibleError(
            f"no design meets {specs.cycles:g} cycles, {specs.energy_pj:g} pJ and "
            f"{specs.area_mm2:g} mm2 together; alone, each is at least {least[0]:g} cycles, "
            f"{least[1]:g} pJ, {least[2]:g} mm2"
        )
    return best


def candidates(dataflows: Sequence[str], steps: int) -> Iterator[Design]:
    """Designs of one and of two sub-accelerators, by units in use."""
    for used in range(1, steps + 1):
        yield from ((Part(name, used, steps),) for name in dataflows)
        for pair in itertools.combinations_with_replacement(dataflows, 2):
            for first in range(1, used):
                for bandwidth in range(1, steps):
                    yield (
                        Part(pair[0], first, bandwidth),
                        Part(pair[1], used - first, steps - bandwidth),
                    )
