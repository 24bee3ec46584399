"""What the instructions of an emulated program are for: counts and modelled cycles by purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cofit.codegen.cortex_m import CortexMRunner, cycle_model, decode

PURPOSES: Mapping[str, str] = {
    "mac": "multiply", "fp_mac": "multiply",
    "load": "memory", "store": "memory", "load_multiple": "memory", "store_multiple": "memory",
    "fp_load": "memory", "fp_store": "memory",
    "branch": "branch",
}  # fmt: skip
"""By class of instruction; all others are arithmetic: widening, addresses, rounding, counting."""


@dataclass(frozen=True)
class Executed:
    """Retired instructions of one step by purpose, and the cycles that two of them occupy.

    `memory_cycles` are those of moving words, without waiting for them.
    """

    multiply: int
    memory: int
    arithmetic: int
    branch: int
    multiply_cycles: int
    memory_cycles: int

    @property
    def instructions(self) -> int:
        """All of them."""
        return self.multiply + self.memory + self.arithmetic + self.branch


def executed_by_step(runner: CortexMRunner) -> dict[str, Executed]:
    """By step name, what one inference on a fixed random input executed."""
    profile = runner.profile()
    model = cycle_model(runner.source.machine.name)
    counts: dict[str, list[int]] = {}
    for block in decode(profile, runner.emulator.code):
        row = dict.fromkeys(("multiply", "memory", "arithmetic", "branch", "mc", "lc"), 0)
        for instruction in block:
            purpose = PURPOSES.get(instruction.kind, "arithmetic")
            beats = -(-4 * instruction.words // model.bytes_per_beat)
            row[purpose] += 1
            row["mc"] += (purpose == "multiply") * model.cycles[instruction.kind]
            row["lc"] += (purpose == "memory") * (model.cycles[instruction.kind] + beats)
        for name, value in row.items():
            counts.setdefault(name, []).append(value)
    names = [step.name for step in runner.source.steps]
    sums = {name: profile.counts @ np.array(column, np.int64) for name, column in counts.items()}
    return {
        name: Executed(*(int(sums[key][k]) for key in
                         ("multiply", "memory", "arithmetic", "branch", "mc", "lc")))
        for k, name in enumerate(names)
    }  # fmt: skip
