"""Instructions of executed blocks: their class, and the registers they read and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import capstone
import numpy as np
from capstone import arm
from numpy.typing import NDArray

from cofit.codegen.cortex_m.counter import Profile

CLASSES = (
    "alu", "dsp", "mac", "divide", "load", "store", "load_multiple", "store_multiple", "branch",
    "it", "fp", "fp_mac", "fp_divide", "fp_load", "fp_store", "system",
)  # fmt: skip

_EXACT = {
    "ldr": "load", "ldrb": "load", "ldrh": "load", "ldrsb": "load", "ldrsh": "load",
    "str": "store", "strb": "store", "strh": "store",
    "ldrd": "load_multiple", "pop": "load_multiple", "vpop": "load_multiple",
    "strd": "store_multiple", "push": "store_multiple", "vpush": "store_multiple",
    "b": "branch", "bl": "branch", "bx": "branch", "blx": "branch", "cbz": "branch",
    "cbnz": "branch", "tbb": "branch", "tbh": "branch",
    "it": "it", "sdiv": "divide", "udiv": "divide",
    "vdiv": "fp_divide", "vsqrt": "fp_divide", "vldr": "fp_load", "vstr": "fp_store",
    "bkpt": "system", "dsb": "system", "isb": "system", "dmb": "system", "msr": "system",
    "mrs": "system", "svc": "system",
    "ssat": "dsp", "usat": "dsp", "ssat16": "dsp", "usat16": "dsp", "sel": "dsp",
}  # fmt: skip
_PREFIXES = (
    ("ldm", "load_multiple"), ("vldm", "load_multiple"),
    ("stm", "store_multiple"), ("vstm", "store_multiple"),
    ("vmla", "fp_mac"), ("vmls", "fp_mac"), ("vfm", "fp_mac"), ("vfnm", "fp_mac"),
    ("vnml", "fp_mac"), ("v", "fp"),
    ("mul", "mac"), ("mla", "mac"), ("mls", "mac"), ("sm", "mac"), ("um", "mac"),
    ("pkh", "dsp"), ("sxtb16", "dsp"), ("uxtb16", "dsp"), ("sxtab16", "dsp"), ("uxtab16", "dsp"),
    ("sadd", "dsp"), ("ssub", "dsp"), ("uadd", "dsp"), ("usub", "dsp"), ("uhadd", "dsp"),
    ("shadd", "dsp"), ("qadd", "dsp"), ("qsub", "dsp"), ("uqadd", "dsp"), ("uqsub", "dsp"),
    ("usad", "dsp"),
)  # fmt: skip


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        kind: one of CLASSES.
        reads: registers read.
        writes: registers written.
        base: register that addresses memory, None if none.
        accumulator: register that a multiply-accumulate adds to, None if none.
        words: words that a load or store multiple moves.
    """

    kind: str
    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    base: int | None = None
    accumulator: int | None = None
    words: int = 0


def classify(name: str) -> str:
    """Class of an instruction by its name without condition and width."""
    if name in _EXACT:
        return _EXACT[name]
    return next((kind for prefix, kind in _PREFIXES if name.startswith(prefix)), "alu")


def decode(profile: Profile, code: bytes) -> list[tuple[Instruction, ...]]:
    """Instructions of each block of a profile.

    Args:
        profile: from a run.
        code: the bytes at `profile.base`.
    """
    engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    engine.detail = True
    known: dict[int, tuple[int, Instruction]] = {}
    blocks: list[tuple[Instruction, ...]] = []
    for start, size in zip(profile.starts.tolist(), profile.sizes.tolist(), strict=True):
        at, found = 2 * start, []
        while at < 2 * (start + size):
            if at not in known:
                raw = next(engine.disasm(code[at : at + 4], profile.base + at, 1))
                known[at] = (raw.size, _instruction(raw))
            length, instruction = known[at]
            found.append(instruction)
            at += length
        blocks.append(tuple(found))
    return blocks


def histogram(
    profile: Profile, blocks: Sequence[Sequence[Instruction]]
) -> dict[str, NDArray[np.int64]]:
    """Retired instructions per class and context."""
    table = np.array(
        [[sum(i.kind == kind for i in block) for kind in CLASSES] for block in blocks], np.int64
    ).reshape(len(blocks), len(CLASSES))
    counts = profile.counts @ table  # (contexts, classes)
    return {kind: counts[:, index] for index, kind in enumerate(CLASSES)}


def _instruction(raw: Any) -> Instruction:
    kind = classify(raw.insn_name().split(".")[0])
    name = raw.insn_name()
    read, written = raw.regs_access()
    plain = [o.reg for o in raw.operands if o.type == arm.ARM_OP_REG]
    base = next((o.mem.base for o in raw.operands if o.type == arm.ARM_OP_MEM), None)
    words = 0
    if kind in ("load_multiple", "store_multiple"):
        listed = plain if base is not None or name.endswith(("push", "pop")) else plain[1:]
        words = sum(2 if raw.reg_name(r).startswith("d") else 1 for r in listed)
        if kind == "load_multiple":
            written = [*written, *listed]
    else:
        read = [*read, *plain[1:]]  # the disassembler leaves out shifted and saturated operands
    accumulator = plain[3] if kind == "mac" and len(plain) == 4 else None
    return Instruction(kind, frozenset(read), frozenset(written), base, accumulator, words)
