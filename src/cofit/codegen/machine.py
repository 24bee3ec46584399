"""What the code generator must know of the machine it emits for."""

from __future__ import annotations

import functools
import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cofit.core import ConfigError, UnknownNameError

WIDE_FLAGS = ("-mprefer-vector-width=512",)
"""Compilers otherwise split vectors of 512 bits in two, and run out of registers."""

MOST_THREADS = 64  # as COFIT_MOST_THREADS
THREAD_FLAG = "-pthread"


@dataclass(frozen=True)
class Machine:
    """An instruction set and a calling world.

    Attributes:
        name: "host", "cortex-m4" or "cortex-m7".
        triple: target triple of `zig cc`; None for this machine.
        flags: compiler flags that select the CPU.
        vector_floats: float32 lanes of a vector register; 1 where there are none.
        vector_registers: number of vector registers.
        quads: whether 16 sums of four products of uint8 and int8 are one instruction (VNNI).
        dsp: whether SMLAD and SXTB16 exist.
        freestanding: no operating system, no libc, no libm.
        alignment_bytes: alignment of every buffer in the arena.
        io: "float": the program takes and gives float32 in PyTorch's NCHW order, conversions
            included; "native": int8 programs take and give int8 in NHWC order.
        threads: that share the larger steps of a program.
    """

    name: str
    triple: str | None
    flags: tuple[str, ...]
    vector_floats: int
    vector_registers: int
    quads: bool
    dsp: bool
    freestanding: bool
    alignment_bytes: int
    io: Literal["float", "native"]
    threads: int = 1

    def with_threads(self, threads: int) -> Machine:
        """The machine whose programs run on so many threads.

        Raises:
            ConfigError: fewer than one, too many, or there is no operating system.
        """
        if threads == self.threads:
            return self
        if not 1 <= threads <= MOST_THREADS:
            raise ConfigError(f"threads={threads} is not from 1 to {MOST_THREADS}")
        if self.freestanding:
            raise ConfigError(f"{self.name} runs one thread, got threads={threads}; leave it out")
        flags = tuple(flag for flag in self.flags if flag != THREAD_FLAG)
        flags = (*flags, THREAD_FLAG) if threads > 1 else flags
        return replace(self, threads=threads, flags=flags)


@functools.cache
def host() -> Machine:
    """This CPU, as its flags describe it."""
    flags = _cpu_flags()
    wide, narrow = "avx512f" in flags, "avx2" in flags and "fma" in flags
    lanes = 16 if wide else 8 if narrow else 4
    return Machine(
        name="host",
        triple=None,
        flags=("-march=native", *(WIDE_FLAGS if wide else ())),
        vector_floats=lanes,
        vector_registers=32 if wide else 16,
        quads=wide and "avx512_vnni" in flags,
        dsp=False,
        freestanding=False,
        alignment_bytes=64,
        io="float",
    )


def cortex_m(core: Literal["m4", "m7"]) -> Machine:
    """A Cortex-M4F or Cortex-M7F with the DSP extension."""
    fpu = {"m4": "vfp4d16sp", "m7": "fp_armv8d16sp"}[core]
    return Machine(
        name=f"cortex-{core}",
        triple="thumb-freestanding-eabihf",
        flags=(f"-mcpu=cortex_{core}+{fpu}", "-mthumb"),
        vector_floats=1,
        vector_registers=0,
        quads=False,
        dsp=True,
        freestanding=True,
        alignment_bytes=8,
        io="native",
    )


def machine(name: str) -> Machine:
    """Machine by name.

    Raises:
        UnknownNameError: listing the known names.
    """
    match name:
        case "host":
            return host()
        case "cortex-m4":
            return cortex_m("m4")
        case "cortex-m7":
            return cortex_m("m7")
    raise UnknownNameError("machine", name, ["host", "cortex-m4", "cortex-m7"])


@functools.cache
def cpu_name() -> str:
    """Name, family and model of this CPU; measured tables are valid for it only.

    Virtual machines give CPUs of several generations the same name.
    """
    info = Path("/proc/cpuinfo")
    if info.exists():
        first = info.read_text(encoding="utf-8").partition("\n\n")[0]
        fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", first, flags=re.MULTILINE))
        if "model name" in fields:
            kinds = [f"{key.split()[-1]} {fields[key]}" for key in ("cpu family", "model")
                     if key in fields]  # fmt: skip
            return " ".join([fields["model name"].strip(), *kinds])
    return platform.processor() or platform.machine()


def _cpu_flags() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not info.exists():
        return frozenset()
    for line in info.read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()
