"""What no schedule or partition can beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from cofit.core import InfeasibleError
from cofit.targets.heterogeneous.partition import Bench
from cofit.targets.heterogeneous.workload import Workload


def relaxed_makespan(work: Workload) -> float:
    """A makespan that no schedule of a workload can beat.

    The longest chain, or all layers divided among units in the best fractions.

    Raises:
        InfeasibleError: a layer runs on no unit.
    """
    layer, unit = np.nonzero(np.isfinite(work.cycles))
    if len(np.unique(layer)) < work.layers:
        raise InfeasibleError("a layer runs on no unit; give one more units")
    pairs = len(layer)
    spent = work.cycles[layer, unit]
    scale = float(spent.max(initial=1.0))
    loads = coo_array(
        (
            np.concatenate([spent / scale, -np.ones(work.units)]),
            (
                np.concatenate([unit, np.arange(work.units)]),
                np.concatenate([np.arange(pairs), np.full(work.units, pairs)]),
            ),
        ),
        shape=(work.units, pairs + 1),
    )
    once = coo_array((np.ones(pairs), (layer, np.arange(pairs))), shape=(work.layers, pairs + 1))
    goal = np.zeros(pairs + 1)
    goal[-1] = 1.0
    solved = linprog(
        goal, A_ub=loads.tocsr(), b_ub=np.zeros(work.units),
        A_eq=once.tocsr(), b_eq=np.ones(work.layers), method="highs",
    )  # fmt: skip
    return max(float(solved.fun) * scale, work.least_cycles())


def perfect_edp(bench: Bench, dataflows: Sequence[str]) -> float:
    """Energy times makespan of an oracle: each layer as fast and cheap as any full array has it.

    It needs no reconfiguration, and takes speed and energy from different dataflows where these
    differ. A partition whose layers leave much of the full array idle may beat it; none beats
    `packed_edp`.
    """
    tables = [bench.table(name, 1) for name in dataflows]
    cycles = np.min([table.cycles[:, -1, -1] for table in tables], axis=0)
    energy = np.min([table.energy_pj[:, -1, -1] for table in tables], axis=0)
    work = bench.mix.workload(cycles[:, None], energy[:, None], 0 * cycles[:, None])
    makespan = float(work.cycles.sum())
    return (float(work.energy_pj.sum()) + bench.static_chip_pj * makespan) * makespan


def packed_edp(bench: Bench, dataflows: Sequence[str], parts: int) -> float:
    """Energy times makespan that no partition into so many parts can beat.

    Shares of units and of bandwidth each sum to 1, so the makespan is at least the sum over layers
    of (share of either, or any mean of both) times cycles, each layer on the array that wastes
    least; energy at least the least of any array.
    """
    tables = [bench.table(name, parts) for name in dataflows]
    cycles = np.stack([table.cycles for table in tables])
    energy = np.min([table.energy_pj for table in tables], axis=(0, 2, 3))
    share = np.arange(1, bench.steps + 1) / bench.steps
    rest = parts - 1  # every part has at least a step
    free = slice(0, bench.steps - rest)
    packed = np.max(
        [
            _over_instances(
                bench,
                np.min(
                    (mean * share[:, None] + (1 - mean) * share)[free, free]
                    * cycles[:, :, free, free],
                    axis=(0, 2, 3),
                ),
            )
            for mean in np.linspace(0, 1, 5)
        ]
    )  # fmt: skip
    return float((_over_instances(bench, energy) + bench.static_chip_pj * packed) * packed)


def _over_instances(bench: Bench, each: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Sum of a cost per layer of the mix over all instances."""
    first, total = 0, 0.0
    for job in bench.mix.jobs:
        size = len(job.network.layers)
        total += job.count * float(each[first : first + size].sum())
        first += size
    return total
