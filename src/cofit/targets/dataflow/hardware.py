"""Accelerators: an array of units, and memories around it that each hold some tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.targets.dataflow.layer import DIMS, RELEVANT, TENSORS

Number = float | NDArray[np.float64]
"""A quantity of one accelerator, or one per point of a batch."""

STATIONARY = ("weight", "output", "input", "row", "any")
SPARSE_USES = ("compressed", "gated", "skipped")


@dataclass(frozen=True, eq=False)
class Memory:
    """A memory, and the tensors that pass through it.

    Attributes:
        name: for reports.
        level: 0 is next to the multipliers, the highest is DRAM.
        tensors: that it holds; others bypass it.
        bits: capacity of one instance.
        read_pj_per_bit: energy of reading.
        write_pj_per_bit: energy of writing.
        read_bits_per_cycle: of the read port; None never limits.
        write_bits_per_cycle: of the write port; None never limits.
        one_port: reads and writes share a port, and its bandwidth.
        double_buffered: half of it is filled while the other half is used.
        latched: a value at the output is not read again while it stays the same.
        shared_over: below the array, dimensions along which units share one instance.
        area_um2: of one instance, None where it is not known.
    """

    name: str
    level: int
    tensors: tuple[str, ...]
    bits: Number
    read_pj_per_bit: Number
    write_pj_per_bit: Number
    read_bits_per_cycle: Number | None = None
    write_bits_per_cycle: Number | None = None
    one_port: bool = False
    double_buffered: bool = False
    latched: bool = False
    shared_over: tuple[int, ...] = ()
    area_um2: Number | None = None


@dataclass(frozen=True)
class Axis:
    """One side of the array.

    Attributes:
        size: units along it.
        dims: indices of dimensions that may be spread over it, one at a time.
    """

    size: int
    dims: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Hardware:
    """An accelerator.

    Memories of level 0 stand in the array, one per unit (or shared along some dimensions); those
    above serve the whole array. The last level is DRAM and holds every tensor.

    Attributes:
        name: of the accelerator.
        axes: of the array.
        memories: by level, inner first.
        clock_hz: cycles per second.
        mac_pj: energy of a multiply-accumulate of `mac_bits` by `mac_bits`.
        mac_bits: width of a multiplier; wider operands take several passes.
        stationary: which tensor stays while the others move, or "any" to let a search choose.
        multicast: one read serves all units that want the same value.
        reduces: sums over units are formed in the array.
        systolic: values move through the array unit by unit, which takes time at the end.
        simd_lanes: element-wise operations per cycle.
        noc_pj_per_bit: energy of a bit that arrives at a unit.
        psum_pj_per_bit: energy of a bit of a sum that goes from one unit to the next.
        psum_bits: width of a sum that is not finished.
        noc_bits_per_cycle: between the array and what feeds it; None never limits.
        leakage_w: power that does not depend on work.
        sparse: by tensor, which of "compressed", "gated" and "skipped" its zeros are.
        index_bits: that say where a value of a compressed tensor belongs.
        mac_um2: area of a unit, None where it is not known.
        node_nm: process of all energies and areas.
        facts: what a report says of where the numbers come from.
    """

    name: str
    axes: tuple[Axis, ...]
    memories: tuple[Memory, ...]
    clock_hz: float
    mac_pj: Number
    mac_bits: int = 8
    stationary: str = "any"
    multicast: bool = True
    reduces: bool = True
    systolic: bool = False
    simd_lanes: int = 1
    noc_pj_per_bit: Number = 0.0
    psum_pj_per_bit: Number = 0.0
    psum_bits: int = 32
    noc_bits_per_cycle: Number | None = None
    leakage_w: Number = 0.0
    sparse: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    index_bits: Number = 0.0
    mac_um2: Number | None = None
    node_nm: float = 0.0
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.stationary not in STATIONARY:
            raise ConfigError(
                f"accelerator {self.name!r}: unknown dataflow {self.stationary!r}; "
                f"known: {', '.join(STATIONARY)}"
            )
        levels = [memory.level for memory in self.memories]
        if not levels or levels != sorted(levels) or levels[-1] < 1:
            raise ConfigError(
                f"accelerator {self.name!r}: memories need levels from 0 upwards, inner first, and "
                f"DRAM above the array; got {levels}"
            )
        for memory in self.memories:
            self._check(memory)
        if self.dram.tensors != TENSORS or levels.count(levels[-1]) > 1:
            raise ConfigError(
                f"accelerator {self.name!r}: the last memory, {self.dram.name!r}, must be alone on "
                f"its level and hold {', '.join(TENSORS)}"
            )

    def _check(self, memory: Memory) -> None:
        for tensor in memory.tensors:
            if tensor not in TENSORS:
                raise ConfigError(
                    f"memory {memory.name!r} holds unknown tensor {tensor!r}; "
                    f"known: {', '.join(TENSORS)}"
                )
            if set(memory.shared_over) & RELEVANT[tensor]:
                names = ", ".join(DIMS[d] for d in memory.shared_over)
                raise ConfigError(
                    f"memory {memory.name!r} is shared over {names}, along which elements of the "
                    f"{tensor} differ"
                )
            twins = [m for m in self.memories if m.level == memory.level and tensor in m.tensors]
            if len(twins) > 1:
                raise ConfigError(
                    f"accelerator {self.name!r}: {twins[0].name!r} and {twins[1].name!r} of level "
                    f"{memory.level} both hold the {tensor}"
                )

    @property
    def units(self) -> int:
        """Multipliers of the array."""
        return int(np.prod([axis.size for axis in self.axes]))

    @property
    def dram(self) -> Memory:
        """The outermost memory."""
        return self.memories[-1]

    @property
    def levels(self) -> int:
        """Levels of memory, DRAM included."""
        return self.memories[-1].level + 1

    def chain(self, tensor: str) -> tuple[Memory, ...]:
        """Memories that a tensor passes through, inner first."""
        return tuple(memory for memory in self.memories if tensor in memory.tensors)

    def instances(self, memory: Memory) -> int:
        """How many of a memory there are."""
        if memory.level > 0:
            return 1
        apart = [a.size for a in self.axes if not set(a.dims) & set(memory.shared_over)]
        return int(np.prod(apart))

    def area_mm2(self) -> Number | None:
        """Area of units and on-chip memories; None where a part of it is not known."""
        if self.mac_um2 is None:
            return None
        total: Number = self.units * self.mac_um2
        for memory in self.memories[:-1]:
            if memory.area_um2 is None:
                return None
            total = total + self.instances(memory) * memory.area_um2
        return total * 1e-6

    def memory(self, name: str) -> Memory:
        """A memory by name.

        Raises:
            ConfigError: no memory has this name.
        """
        for memory in self.memories:
            if memory.name == name:
                return memory
        raise ConfigError(
            f"accelerator {self.name!r} has no memory {name!r}; it has "
            f"{', '.join(memory.name for memory in self.memories)}"
        )

    def with_memory(self, name: str, **changed: Any) -> Hardware:
        """The same accelerator with another memory, for example `bits=...`.

        Raises:
            ConfigError: no memory has this name.
        """
        found = self.memory(name)
        memories = tuple(replace(m, **changed) if m is found else m for m in self.memories)
        return replace(self, memories=memories)
