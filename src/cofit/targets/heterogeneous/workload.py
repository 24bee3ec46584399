"""Layers that wait for each other, and what each costs on every sub-accelerator."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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
        buffer_bits: (layers, units) that a layer holds in the shared buffer while it runs; infinite
            where the unit cannot run the layer at all.
        release: cycle before which a layer may not begin; all 0 if empty.

    Raises:
        ConfigError: shapes do not agree, or a layer waits for itself or a later one.
    """

    before: tuple[tuple[int, ...], ...]
    instance: tuple[int, ...]
    cycles: Array
    energy_pj: Array
    buffer_bits: Array
    release: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        layers = len(self.before)
        shapes = {array.shape for array in (self.cycles, self.energy_pj, self.buffer_bits)}
        if len(shapes) != 1 or len(self.cycles) != layers or len(self.instance) != layers:
            raise ConfigError(f"{layers} layers have costs of shapes {sorted(shapes)}")
        if len(self.release) not in (0, layers):
            raise ConfigError(f"{layers} layers have {len(self.release)} times of release")
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

    @cached_property
    def releases(self) -> tuple[float, ...]:
        """Cycle before which each layer may not begin."""
        return self.release or (0.0,) * self.layers

    def least_cycles(self) -> float:
        """A makespan that no schedule can beat: the longest chain, or all work spread evenly."""
        fastest = self.cycles.min(axis=1)
        ends = np.zeros(self.layers)
        for layer, needed in enumerate(self.before):
            ready = max((float(ends[other]) for other in needed), default=0.0)
            ends[layer] = fastest[layer] + max(ready, self.releases[layer])
        return float(max(ends.max(initial=0.0), fastest.sum() / self.units))

    def priced(
        self, unit: Sequence[int], start: Array, end: Array, static_pj: float = 0.0
    ) -> Schedule:
        """A schedule with its energy: that of the layers, and `static_pj` in every cycle."""
        chosen = np.asarray(unit, dtype=np.intp)
        dynamic = float(self.energy_pj[np.arange(self.layers), chosen].sum())
        return Schedule(chosen, start, end, dynamic + static_pj * float(end.max(initial=0.0)))

    def latencies(self, schedule: Schedule) -> dict[int, float]:
        """Cycles from the release of each network instance to its last output."""
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        for layer, instance in enumerate(self.instance):
            first[instance] = min(first.get(instance, np.inf), self.releases[layer])
            last[instance] = max(last.get(instance, 0.0), float(schedule.end[layer]))
        return {instance: last[instance] - first[instance] for instance in last}


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

    def score(self, objective: str) -> float:
        """What an objective makes least: "edp", "cycles" or "energy"."""
        return {"edp": self.edp, "cycles": self.makespan, "energy": self.energy_pj}[objective]


def check_schedule(work: Workload, schedule: Schedule, buffer_bits: float) -> None:
    """Check precedence, that units do one thing at a time, durations, and the shared buffer.

    Raises:
        ConfigError: naming the first layers that break a rule.
    """
    rows = np.arange(work.layers)
    if not all(len(column) == work.layers for column in (schedule.unit, schedule.start)):
        raise ConfigError(f"{len(schedule.unit)} of {work.layers} layers are scheduled")
    if not np.allclose(schedule.end - schedule.start, work.cycles[rows, schedule.unit]):
        raise ConfigError("a layer does not run for its cycles")
    for layer, needed in enumerate(work.before):
        if schedule.start[layer] < work.releases[layer]:
            raise ConfigError(f"layer {layer} starts before its release")
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
