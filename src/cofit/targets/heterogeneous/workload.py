"""Layers that wait for each other, and what each costs on every sub-accelerator."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Workload:
    """Layers of all network instances, and their cost on every unit (sub-accelerator).

    Attributes:
        before: for each layer, the layers whose outputs it reads; these have smaller indices.
        instance: network instance that each layer belongs to.
        cycles: (layers, units).
        energy_pj: (layers, units).
        buffer_bits: (layers, units) that a layer holds in the shared buffer while it runs.
    """

    before: tuple[tuple[int, ...], ...]
    instance: tuple[int, ...]
    cycles: Array
    energy_pj: Array
    buffer_bits: Array

    def __post_init__(self) -> None:
        layers = len(self.before)
        shapes = {array.shape for array in (self.cycles, self.energy_pj, self.buffer_bits)}
        if len(shapes) != 1 or len(self.cycles) != layers or len(self.instance) != layers:
            raise ConfigError(f"{layers} layers have costs of shapes {sorted(shapes)}")
        for layer, needed in enumerate(self.before):
            if any(not 0 <= other < layer for other in needed):
                raise ConfigError(
                    f"layer {layer} waits for {needed}: layers may wait for earlier ones only, "
                    "else they could wait for each other"
                )

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.before)

    @property
    def units(self) -> int:
        """Number of sub-accelerators."""
        return int(self.cycles.shape[1])

    def least_cycles(self) -> float:
        """A makespan that no schedule can beat: the longest chain, or all work spread evenly."""
        fastest = self.cycles.min(axis=1)
        ends = np.zeros(self.layers)
        for layer, needed in enumerate(self.before):
            ends[layer] = fastest[layer] + max((ends[other] for other in needed), default=0.0)
        return float(max(ends.max(initial=0.0), fastest.sum() / self.units))


@dataclass(frozen=True, eq=False)
class Schedule:
    """Where and when each layer runs.

    Attributes:
        unit: of each layer.
        start: cycle at which it begins.
        end: cycle at which it is done.
        energy_pj: of all layers, and of the units while they wait.
    """

    unit: NDArray[np.intp]
    start: Array
    end: Array
    energy_pj: float

    @property
    def makespan(self) -> float:
        """Cycles until the last layer is done."""
        return float(self.end.max(initial=0.0))

    @property
    def edp(self) -> float:
        """Energy times makespan (pJ cycles)."""
        return self.energy_pj * self.makespan


def check_schedule(work: Workload, schedule: Schedule, buffer_bits: float) -> None:
    """Check precedence, that units do one thing at a time, durations, and the shared buffer.

    Raises:
        ConfigError: naming the first layers that break a rule.
    """
    rows = np.arange(work.layers)
    if not np.allclose(schedule.end - schedule.start, work.cycles[rows, schedule.unit]):
        raise ConfigError("a layer does not run for its cycles")
    for layer, needed in enumerate(work.before):
        for other in needed:
            if schedule.start[layer] < schedule.end[other]:
                raise ConfigError(f"layer {layer} starts before layer {other} is done")
    for unit in range(work.units):
        mine = np.flatnonzero(schedule.unit == unit)
        mine = mine[np.lexsort((schedule.end[mine], schedule.start[mine]))]
        for first, second in itertools.pairwise(mine):
            if schedule.start[second] < schedule.end[first]:
                raise ConfigError(f"layers {first} and {second} run on unit {unit} at once")
    held = work.buffer_bits[rows, schedule.unit]
    for time in schedule.start:
        alive = (schedule.start <= time) & (time < schedule.end)
        if held[alive].sum() > buffer_bits:
            raise ConfigError(
                f"at cycle {time:g} layers hold {held[alive].sum():g} bits, the buffer has "
                f"{buffer_bits:g}"
            )
