"""Runs a generated program on this machine through a shared object."""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from cofit.codegen.build import DEFAULT_COMPILER, WARNINGS, build
from cofit.codegen.emit import INPUT, OUTPUT, Source
from cofit.codegen.large import linked_files
from cofit.codegen.layout import memory_shape, to_logical
from cofit.codegen.runner import Array, Measurement
from cofit.core import Basis, ModelError, numpy_generator
from cofit.ir import DType

GUARD_BYTES = 256
GUARD = 0x5C
MEASURE_TIME_S = 0.3
MIDDLE = 0.2  # share of the runs, around the median, that count
MIN_REPEATS, MAX_REPEATS = 11, 2000


def build_flags(source: Source, optimise: str = "-O3") -> tuple[str, ...]:
    """Flags of a host build of this source."""
    # a * b + c may round once: the fp32 bound allows it, integers do not care
    return (*WARNINGS, optimise, *source.machine.flags, "-ffp-contract=fast")


def build_host(
    sources: Sequence[Source], compiler: str = DEFAULT_COMPILER, optimise: str = "-O3"
) -> Path:
    """One shared object with all entry points of the sources (their names must differ)."""
    files: dict[str, str | bytes] = {f"{source.name}.h": source.header for source in sources}
    if len(files) < len(sources):
        raise ModelError("two programs of one shared object have the same name; rename one graph")
    units: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:
        units.setdefault(_alternatives(source), []).append(source)
    linux = sys.platform == "linux"
    for together in units.values():
        texts = (source.source if linux else source.standalone for source in together)
        files[f"{together[0].name}.c"] = "\n".join(texts)
    if linux:
        files |= linked_files([item for source in sources for item in source.large])
    flags = (*build_flags(sources[0], optimise), "-shared", "-fPIC")
    return build(files, (*flags, "-DCOFIT_PROFILE", "-DCOFIT_STEPS"), "program.so", compiler)


def _alternatives(source: Source) -> tuple[str, ...]:
    """Support files that define one function in several ways: one of them per translation unit."""
    used = {name for step in source.steps for name in step.code.support}
    return tuple(sorted(name for name in used if name.startswith("s8_requantise")))


class HostRunner:
    """A `Runner` that owns an arena between two guards."""

    def __init__(self, source: Source, library: Path) -> None:
        self.source = source
        loaded = ctypes.CDLL(str(library))
        pointer = ctypes.c_void_p
        self._batch = getattr(loaded, f"{source.name}_batch")
        self._batch.argtypes = [pointer, pointer, pointer, ctypes.c_size_t]
        self._once = getattr(loaded, f"{source.name}_run")
        self._once.argtypes = [pointer]
        self._step = getattr(loaded, f"{source.name}_step")
        self._step.argtypes = [ctypes.c_int, pointer]
        self._profile = getattr(loaded, f"{source.name}_profile")
        self._profile.argtypes = [pointer, pointer]
        for function in (self._batch, self._once, self._step, self._profile):
            function.restype = None
        align = source.machine.alignment_bytes
        size = max(source.plan.arena_bytes, 1)
        self._memory = np.full(size + 2 * GUARD_BYTES + align, GUARD, np.uint8)
        start = GUARD_BYTES + -(self._memory.ctypes.data + GUARD_BYTES) % align
        self._arena = self._memory[start : start + size]
        self._start = start
        self._turn = threading.Lock()
        self._input = source.graph.tensors[source.graph.inputs[0]]
        self._output = source.graph.tensors[source.graph.outputs[0]]
        self._float = source.machine.io == "float"
        tokens = self._input.dtype is DType.I32
        self._takes = np.float32 if self._float and not tokens else self._input.dtype.value
        self._address = self._arena.ctypes.data
        gives = np.float32 if self._float else self._output.dtype.value
        shape = self._output.shape if self._float else memory_shape(self._output.shape)
        self._inlet = self._view(source.entry, self._in_shape(), self._takes)
        self._outlet = self._view(source.exit, shape, gives)

    def run(self, x: Array) -> Array:
        """Outputs (N, ...) of inputs (N, ...)."""
        if x.shape == self._inlet.shape:
            # one input goes straight into the arena: addresses of arrays cost more than a copy
            with self._turn:  # one arena, whichever threads call
                self._inlet[...] = x
                self._once(self._address)
                return self._outlet.copy()
        x = self._checked(x)
        out = np.empty((x.shape[0], *self._outlet.shape[1:]), self._outlet.dtype)
        with self._turn:
            self._batch(self._address, x.ctypes.data, out.ctypes.data, x.shape[0])
        return out

    def load(self, x: Array, poison: int) -> None:
        """Fill the arena with the byte `poison`, then write one input (1, ...)."""
        self._arena[:] = poison
        self._memory[: self._start] = GUARD
        self._memory[self._start + self._arena.size :] = GUARD
        raw = self._checked(x).view(np.uint8).ravel()
        offset = self.source.offsets[self.source.entry]
        self._arena[offset : offset + raw.size] = raw

    def step(self, index: int) -> None:
        """Run one step of the source."""
        self._step(index, self._arena.ctypes.data)

    def read(self, name: str) -> Array:
        """Elements of an activation tensor in the arena, in its logical shape."""
        graph, offset = self.source.schedule.graph, self.source.offsets[name]
        if name in (INPUT, OUTPUT):
            tensor = self._input if name == INPUT else self._output
            raw = self._arena[offset : offset + 4 * tensor.size]
            return raw.copy().view(np.float32).reshape(tensor.shape)
        tensor = graph.tensors[name]
        if (planes := self.source.planes.get(name)) is not None:
            raw = self._arena[offset : offset + planes.nbytes(tensor.shape)]
            return planes.to_logical(raw.copy().view(np.float32), tensor.shape)
        raw = self._arena[offset : offset + tensor.nbytes]
        return to_logical(raw.copy().view(tensor.dtype.value), tensor.shape)

    def overrun(self) -> str | None:
        """None while the guards are intact, else where they changed."""
        if (self._memory[: self._start] != GUARD).any():
            return "below the arena"
        if (self._memory[self._start + self._arena.size :] != GUARD).any():
            return "above the arena"
        return None

    def measure(self, repeats: int | None = None) -> Measurement:
        """Time every step of whole runs with the monotonic clock, after warm-up."""
        rng = numpy_generator(0, "measure", self.source.name)
        x = rng.standard_normal((1, *self._input.shape[1:])).astype(np.float32)
        if self._input.dtype is DType.I32:
            x = np.zeros(self._input.shape, np.int32)
        elif not self._float:
            x = (
                np.zeros(self._in_shape(), self._input.dtype.value)
                if self.source.graph.is_integer
                else x.reshape(self._in_shape())
            )
        raw = self._checked(x).view(np.uint8).ravel()
        offset = self.source.offsets[self.source.entry]
        inlet = self._arena[offset : offset + raw.size]
        seconds = np.zeros(max(len(self.source.steps), 1))

        def once() -> Array:
            inlet[:] = raw  # the run before overwrote it
            seconds[:] = 0
            self._profile(self._arena.ctypes.data, seconds.ctypes.data)
            return seconds.copy()

        once()
        typical = float(np.asarray(once(), np.float64).sum())
        wanted = int(MEASURE_TIME_S / max(typical, 1e-7))
        count = repeats or min(max(wanted, MIN_REPEATS), MAX_REPEATS)
        table = np.stack([once() for _ in range(count)]).astype(np.float64)
        table = table[np.argsort(table.sum(axis=1))]
        totals = table.sum(axis=1)
        # means over the runs around the median, so that the steps add up to the whole
        edge = int(len(table) * (1 - MIDDLE) / 2)
        steps = table[edge : len(table) - edge].mean(axis=0)
        latency_s = float(steps.sum())
        names = [step.name for step in self.source.steps]
        return Measurement(
            basis=Basis.MEASURED,
            latency_s=latency_s,
            minimum_s=float(totals[0]),
            p95_s=float(np.percentile(totals, 95)),
            spread=float(totals[-1] - totals[0]) / max(latency_s, 1e-12),
            repeats=count,
            per_step_s=dict(zip(names, steps.tolist(), strict=False)),
        )

    def _view(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Of the bytes of the arena that are a program's input or output."""
        offset = self.source.offsets[name]
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        return self._arena[offset : offset + nbytes].view(dtype).reshape(shape)

    def _in_shape(self) -> tuple[int, ...]:
        return self._input.shape if self._float else memory_shape(self._input.shape)

    def _checked(self, x: Array) -> Array:
        """Contiguous, of the expected dtype; a wrong shape is the caller's error."""
        shape = self._in_shape()
        if x.shape[1:] != shape[1:]:
            raise ModelError(
                f"program {self.source.name!r} takes inputs {('N', *shape[1:])}, got {x.shape}"
            )
        return np.ascontiguousarray(x, self._takes)
