"""What a partition is compared with, at equal units, bandwidth and buffer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cofit.targets.heterogeneous.costs import OBJECTIVES, score
from cofit.targets.heterogeneous.partition import Bench, Part
from cofit.targets.heterogeneous.scheduler import in_order
from cofit.targets.heterogeneous.workload import Schedule

OVERHEAD = 0.10
"""Of a reconfigurable array, in the energy of all but DRAM (HERALD's choice to sweep)."""

AREA_OVERHEAD = 0.20


def fixed(bench: Bench, dataflow: str) -> Schedule:
    """One array of one dataflow (FDA)."""
    return bench.schedule((Part(dataflow, bench.steps, bench.steps),))


def scaled_out(bench: Bench, dataflow: str) -> Schedule:
    """Two equal halves of one dataflow (SM-FDA); an odd step is left over."""
    half = bench.steps // 2
    return bench.schedule((Part(dataflow, half, half),) * 2)


def reconfigurable(bench: Bench, dataflows: Sequence[str], overhead: float = OVERHEAD) -> Schedule:
    """One array that takes the best dataflow for every layer (RDA).

    When the dataflow changes, every unit is set anew over the network: units / words per cycle.

    Args:
        bench: mix and chip.
        dataflows: it can take.
        overhead: in the energy of all but DRAM.
    """
    tables = [bench.table(name, 1) for name in dataflows]
    cycles, energy, dram, held = (
        np.stack([getattr(table, name)[:, -1, -1] for table in tables], axis=1)
        for name in ("cycles", "energy_pj", "dram_pj", "buffer_bits")
    )
    energy = energy + overhead * (energy - dram)
    work = bench.mix.workload(cycles, energy, held)
    change = bench.chip.units * 8 / bench.chip.bandwidth
    order = list(in_order(work, "depth"))
    found = []
    for metric in OBJECTIVES:
        taken = score(work.cycles, work.energy_pj, metric).argmin(axis=1)
        spent = work.cycles[np.arange(work.layers), taken]
        changes = np.flatnonzero(np.diff(taken[order], prepend=-1))
        each = spent[order]
        each[changes] += change
        # one array runs layers one after another, arrivals aside
        end, start, now = np.zeros(work.layers), np.zeros(work.layers), 0.0
        for layer, time in zip(order, each, strict=True):
            start[layer] = max(now, work.releases[layer])
            now = end[layer] = start[layer] + time
        found.append(work.priced(taken.tolist(), start, end, bench.static_chip_pj))
    return min(found, key=lambda made: made.score(bench.objective))
