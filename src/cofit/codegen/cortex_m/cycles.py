"""Modelled cycles of an emulated run: executed counts are exact, cycles per block are a model.

Each basic block is timed alone, from its first issue to its last; jumps add a penalty. Flash wait
states, cache misses and branch mispredictions are not modelled. The Cortex-M4 issues one
instruction per cycle, and a load costs one more unless another load or store is right behind it.
The Cortex-M7 issues two per cycle in order, if they do not depend on each other and do not need
the same pipe, and waits for results that are late. The numbers, with sources, are in `cycles.toml`.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.cortex_m.counter import Profile
from cofit.codegen.cortex_m.decode import CLASSES, Instruction, decode
from cofit.codegen.machine import Machine

_PIPES = {
    "load": "memory", "store": "memory", "load_multiple": "memory", "store_multiple": "memory",
    "fp_load": "memory", "fp_store": "memory", "mac": "mac", "divide": "divide",
    "branch": "branch", "fp": "fp", "fp_mac": "fp", "fp_divide": "fp",
}  # fmt: skip
_SINGLE_MEMORY = frozenset({"load", "store", "fp_load", "fp_store"})
_WORD_BYTES = 4


@dataclass(frozen=True)
class CycleModel:
    """The timing of a core; all values in cycles except `bytes_per_beat`."""

    issue_width: int
    taken_branch: int
    load_bubble: int
    bytes_per_beat: int
    cycles: Mapping[str, int]
    latency: Mapping[str, int]

    def block(self, instructions: Sequence[Instruction]) -> int:
        """Cycles of a basic block whose last branch, if any, is not taken."""
        if self.issue_width == 1:
            return self._one_by_one(instructions)
        return self._in_pairs(instructions)

    def _busy(self, instruction: Instruction) -> int:
        beats = -(-instruction.words * _WORD_BYTES // self.bytes_per_beat)
        return self.cycles[instruction.kind] + beats

    def _one_by_one(self, instructions: Sequence[Instruction]) -> int:
        total = sum(map(self._busy, instructions))
        for here, behind in zip(instructions, [*instructions[1:], None], strict=True):
            pipelined = behind is not None and behind.kind in _SINGLE_MEMORY
            if here.kind in ("load", "fp_load", "fp_store") and not pipelined:
                total += self.load_bubble
        return total

    def _in_pairs(self, instructions: Sequence[Instruction]) -> int:
        free: dict[str, int] = {}  # cycle at which a pipe is free again
        ready: dict[int, int] = {}  # cycle at which a register can be read
        accumulated: dict[int, int] = {}  # the same, for the accumulator input of a mac
        now, slots, end = 0, self.issue_width, 0
        for instruction in instructions:
            pipe = _PIPES.get(instruction.kind)
            waits = [now, free.get(pipe, 0) if pipe else 0]
            for register in instruction.reads:
                early = instruction.accumulator == register and register in accumulated
                waits.append(accumulated[register] if early else ready.get(register, 0))
            start = max(waits)
            if start == now and slots == 0:
                start += 1
            slots = slots - 1 if start == now else self.issue_width - 1
            now = start
            busy = self._busy(instruction)
            if pipe:
                free[pipe] = now + busy
            late = self.latency.get(instruction.kind, 1)
            for register in instruction.writes:
                based = register == instruction.base  # the address register is updated at once
                ready[register] = now + (1 if based else busy - 1 + late)
                accumulated.pop(register, None)
                if instruction.kind == "mac":
                    accumulated[register] = now + 1
            end = max(end, now + busy)
        return end


@functools.cache
def cycle_model(machine_name: str) -> CycleModel:
    """The model of "cortex-m4" or "cortex-m7"."""
    with Path(__file__).with_name("cycles.toml").open("rb") as file:
        entry = tomllib.load(file)[machine_name]
    assert set(entry["cycles"]) == set(CLASSES)
    return CycleModel(
        entry["issue_width"],
        entry["taken_branch"],
        entry["load_bubble"],
        entry["bytes_per_beat"],
        entry["cycles"],
        entry.get("latency", {}),
    )


def modelled_cycles(profile: Profile, code: bytes, machine: Machine) -> NDArray[np.int64]:
    """(contexts,) cycles of a run.

    Args:
        profile: exact counts.
        code: the bytes at `profile.base`.
        machine: cortex-m4 or cortex-m7.
    """
    model = cycle_model(machine.name)
    per_block = np.array([model.block(block) for block in decode(profile, code)], np.int64)
    jumps = profile.taken.sum(axis=1) * model.taken_branch
    return np.asarray(profile.counts @ per_block + jumps, np.int64)
