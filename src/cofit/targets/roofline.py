"""The least time of every step of a program within a machine's ceilings, and what sets it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cofit.codegen import Source
from cofit.targets.ceilings import Ceilings
from cofit.targets.signature import Precision
from cofit.targets.work import Work, input_bytes, work_of

COMPUTE, OVERHEAD = "compute", "overhead"

OVERHEAD_SHARE = 0.5
"""Above this share of the measured time, what no ceiling explains is what binds."""


@dataclass(frozen=True)
class Roofline:
    """Least seconds of one step.

    Attributes:
        compute_s: its multiply-adds at the machine's peak.
        memory_s: its bytes at the speed of the level they come from, by level.
        overlap: whether both may go on at the same time.
    """

    compute_s: float
    memory_s: Mapping[str, float]
    overlap: bool = True

    @property
    def slowest_s(self) -> float:
        """Seconds of the level that takes longest."""
        return max(self.memory_s.values(), default=0.0)

    @property
    def limit_s(self) -> float:
        """No time can be less: the longest of all, or their sum where nothing overlaps."""
        if self.overlap:
            return max(self.compute_s, self.slowest_s)
        return self.compute_s + self.slowest_s

    @property
    def tightest(self) -> str:
        """COMPUTE or the name of the level that takes longest."""
        if not self.memory_s or self.compute_s >= self.slowest_s:
            return COMPUTE
        return max(self.memory_s, key=lambda name: self.memory_s[name])

    def overhead_s(self, latency_s: float) -> float:
        """What the limit leaves unexplained of a latency; never below zero."""
        return max(latency_s - self.limit_s, 0.0)

    def binds(self, latency_s: float) -> str:
        """What a latency is mostly due to: COMPUTE, a level, or OVERHEAD."""
        unexplained = self.overhead_s(latency_s)
        return OVERHEAD if unexplained > OVERHEAD_SHARE * latency_s else self.tightest


def traffic(source: Source, index: int, work: Work, ceilings: Ceilings) -> dict[str, int]:
    """Bytes that a step takes from each level, at least.

    Constants are read once per inference, so they come from the levels that hold all that an
    inference touches. Inputs come from those that hold what was touched since they were written,
    outputs go to those that hold what the step touches. What a register tile loads again and again
    comes from the nearest level.
    """
    everything = source.constant_bytes + source.plan.arena_bytes
    found: dict[str, float] = {}

    def take(nbytes: int, within: int) -> None:
        for name, share in ceilings.shares(within).items():
            found[name] = found.get(name, 0.0) + share * nbytes

    take(work.constant_bytes, everything)
    inputs = input_bytes(source, source.steps[index])
    for name, nbytes in inputs.items():
        part = work.input_bytes * nbytes // sum(inputs.values())
        take(part, min(_since_written(source, index, name), everything))
    take(work.output_bytes, work.nbytes)
    nearest = ceilings.levels[0].name
    found[nearest] = max(found.get(nearest, 0), work.register_bytes)
    return {name: round(nbytes) for name, nbytes in found.items() if round(nbytes)}


def roofline_of(
    source: Source, work: Work, traffic: Mapping[str, int], ceilings: Ceilings
) -> Roofline:
    """The least time of a step's work."""
    precision: Precision = "int8" if source.graph.is_integer else "float32"
    rates = {level.name: level.read.per_s for level in ceilings.levels}
    return Roofline(
        work.macs_executed / ceilings.macs[precision].per_s,
        {name: nbytes / rates[name] for name, nbytes in traffic.items()},
        ceilings.overlap,
    )


def _since_written(source: Source, index: int, name: str) -> int:
    """Bytes of an input of a step and of all that was touched since it was written."""
    written = {earlier.writes: at for at, earlier in enumerate(source.steps[:index])}
    first = written.get(name)
    if first is None:  # the caller wrote it
        return input_bytes(source, source.steps[index])[name]
    between = sum(work_of(source, s).nbytes for s in source.steps[first + 1 : index])
    return work_of(source, source.steps[first]).output_bytes + between


def intensity(work: Work) -> float:
    """Multiply-adds per byte that must move; infinite where none must."""
    return work.macs_executed / work.nbytes if work.nbytes else math.inf
