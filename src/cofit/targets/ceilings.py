"""What a machine can do at most: multiply-adds per second, and bytes per second by cache level.

On this CPU the limits are measured by a small C program (`ceilings.c`), compiled as generated
programs are. Sizes of caches are what the operating system says. Of a Cortex-M the limits are
those of its cycle model.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cofit.codegen import machine
from cofit.codegen.build import WARNINGS, build, toolchain
from cofit.codegen.cortex_m import Board
from cofit.codegen.cortex_m.cycles import cycle_model
from cofit.codegen.machine import cpu_name
from cofit.core import Basis, cache_dir, read_json, write_json
from cofit.targets.signature import Precision

ROUNDS = 15
SAMPLE_S = 0.002
DRAM_BYTES = 256 << 20
"""The largest working set that is read: enough for every cache but that of a few servers."""

USUAL_BYTES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 16 << 20}
"""Taken where the operating system says nothing of its caches."""

SMLAD_MACS = 2
"""Products that one SMLAD of a Cortex-M adds up."""

_SYSFS = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Rate:
    """The best rate seen, in units per second; spread is (max - min) / median over the rounds."""

    per_s: float
    spread: float = 0.0


@dataclass(frozen=True)
class Level:
    """A level of memory: what it holds (None: everything) and the bytes it gives per second."""

    name: str
    capacity_bytes: int | None
    read: Rate


@dataclass(frozen=True)
class Ceilings:
    """Limits of a machine, one thread.

    Attributes:
        basis: measured on this CPU, or modelled.
        machine: what they are limits of.
        macs: multiply-adds per second by precision.
        int8: the instructions that the int8 rate was reached with.
        levels: levels of memory, nearest first; the last holds everything.
        step_s: seconds of an empty step of a program, its clock included.
        overlap: whether loads and multiply-adds may run at the same time.
    """

    basis: Basis
    machine: str
    macs: Mapping[Precision, Rate]
    int8: str
    levels: tuple[Level, ...]
    step_s: float
    overlap: bool

    def shares(self, within: int) -> dict[str, float]:
        """Parts of so many bytes, read over and over, that come from each level.

        However well a cache chooses what to keep, it keeps no more than it holds: the rest comes
        from further away.
        """
        found: dict[str, float] = {}
        nearer = 0
        for level in self.levels:
            size = within if level.capacity_bytes is None else min(level.capacity_bytes, within)
            if size > nearer or within == 0:
                found[level.name] = (size - nearer) / within if within else 1.0
                nearer = size
            if nearer == within:
                break
        return found


class Probe:
    """The compiled measuring program."""

    def __init__(self) -> None:
        """Build it, or take it from the cache.

        Raises:
            BuildError: the compiler is missing.
        """
        files, flags = _sources()
        self._library = ctypes.CDLL(str(build(files, flags, "ceilings.so")))
        for name in ("float32", "int8", "step"):
            function = getattr(self._library, f"ceiling_{name}")
            function.argtypes, function.restype = [ctypes.c_long], ctypes.c_double
        read = self._library.ceiling_read
        read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
        read.restype = ctypes.c_double
        self._library.ceiling_int8_name.restype = ctypes.c_char_p
        self.int8 = self._library.ceiling_int8_name().decode()
        self._unit = {
            "float32": 12 * machine("host").vector_floats,
            "int8": 12 * int(self._library.ceiling_int8_macs()),
            "step": 1,
        }

    def rate(self, kind: str, sample_s: float = SAMPLE_S) -> float:
        """Multiply-adds ("float32", "int8") or empty steps ("step") per second, one sample."""
        function = getattr(self._library, f"ceiling_{kind}")
        count = max(int(1000 * sample_s / max(function(1000), 1e-9)), 1000)
        return float(count * self._unit[kind] / function(count))

    def read(self, memory: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> float:
        """Bytes per second of reading a working set over and over, one sample."""
        function, start = self._library.ceiling_read, memory.ctypes.data
        once = function(start, memory.size, 1)
        passes = max(int(SAMPLE_S / max(once, 1e-9)), 1)
        return float(passes * memory.size / function(start, memory.size, passes))


def host_ceilings() -> Ceilings:
    """Limits of this CPU: measured once for a compiler, kept in the cache folder."""
    path = cache_dir() / "ceilings" / f"{_key()}.json"
    form = TypeAdapter(Ceilings)
    if path.exists():
        try:
            return form.validate_python(read_json(path))
        except ValidationError:
            pass  # written by another version: measure again
    found = measure_ceilings()
    write_json(path, form.dump_python(found, mode="json"))
    return found


def measure_ceilings(probe: Probe | None = None) -> Ceilings:
    """Measure this CPU: the best of several rounds in which all limits take turns."""
    probe = probe or Probe()
    caches = cache_bytes()
    sets = _working_sets(caches)
    memory = {name: _aligned(nbytes) for name, nbytes in sets.items()}
    samples: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for kind in ("float32", "int8", "step"):
            samples.setdefault(kind, []).append(probe.rate(kind))
        for name, block in memory.items():
            samples.setdefault(name, []).append(probe.read(block))
    best = {name: _best(values) for name, values in samples.items()}
    return Ceilings(
        Basis.MEASURED,
        cpu_name(),
        {"float32": best["float32"], "int8": best["int8"]},
        probe.int8,
        tuple(Level(name, caches.get(name), best[name]) for name in sets),
        1.0 / best["step"].per_s,
        overlap=True,
    )


def cortex_m_ceilings(board: Board) -> Ceilings:
    """Limits that the cycle model of a board's core allows.

    SMLAD adds two products per issue; a load moves four bytes. On a core that issues one
    instruction at a time nothing overlaps.
    """
    model = cycle_model(board.core)
    clock = board.clock_hz
    word = Rate(4 * clock / model.cycles["load"])
    return Ceilings(
        Basis.MODELLED,
        f"{board.core} at {clock / 1e6:g} MHz",
        {
            "float32": Rate(clock / model.cycles["fp_mac"]),
            "int8": Rate(SMLAD_MACS * clock / model.cycles["mac"]),
        },
        "SMLAD",
        (Level("memory", None, word),),
        0.0,
        overlap=model.issue_width > 1,
    )


def cache_bytes() -> dict[str, int]:
    """Sizes of the data caches of this CPU by level, nearest first."""
    found: dict[str, int] = {}
    for index in sorted(_SYSFS.glob("index*")):
        try:
            kind, level, size = (
                (index / name).read_text().strip() for name in ("type", "level", "size")
            )
            if kind != "Instruction":
                found[f"L{level}"] = int(size.removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    return found or dict(USUAL_BYTES)


def _working_sets(caches: Mapping[str, int]) -> dict[str, int]:
    """Bytes to read per level: half a cache and more than the one before; DRAM beyond all."""
    sets: dict[str, int] = {}
    before = 0
    for name, size in caches.items():
        wanted = max(size // 2, min(3 * before // 2, size))
        sets[name] = min(wanted, max(4 * before, 16 << 10)) if before else wanted
        before = size
    return {**sets, "DRAM": min(max(4 * before, 64 << 20), DRAM_BYTES)}


def _aligned(nbytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Touched memory that begins at a vector and holds whole groups of eight of them."""
    whole = nbytes // 512 * 512
    block = np.ones(whole + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + whole]


def _best(values: list[float]) -> Rate:
    middle = float(np.median(values))
    return Rate(max(values), (max(values) - min(values)) / max(middle, 1e-12))


@functools.cache
def _key() -> str:
    files, flags = _sources()
    parts = (cpu_name(), toolchain().version, *flags, *files.values(), str(os.cpu_count()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _sources() -> tuple[dict[str, str], tuple[str, ...]]:
    host = machine("host")
    text = Path(__file__).with_name("ceilings.c").read_text(encoding="utf-8")
    lanes = f"-DLANES={host.vector_floats}"
    flags = (*WARNINGS, "-O3", *host.flags, "-ffp-contract=fast", "-shared", "-fPIC", lanes)
    return {"ceilings.c": text}, flags
