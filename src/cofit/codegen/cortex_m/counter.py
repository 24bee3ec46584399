"""Exact instruction counts of an emulated run, from a native hook at every basic block."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from unicorn.unicorn_const import UC_HOOK_BLOCK
from unicorn.unicorn_py3.unicorn import uclib

from cofit.codegen.build import WARNINGS, build
from cofit.core import EmulationError

_SOURCE = Path(__file__).with_name("counter.c")


@dataclass(frozen=True)
class Profile:
    """What a run executed.

    Context k is the k-th step function (callees included), the last context everything else.

    Attributes:
        base: address of the first halfword of code.
        starts: (blocks,) halfword offsets where a basic block starts.
        lengths: (blocks,) instructions of the block.
        sizes: (blocks,) halfwords of the block.
        counts: (contexts, blocks) executions.
        ends: (jumps,) halfword offsets just behind an instruction that jumped.
        taken: (contexts, jumps) how often it jumped.
    """

    base: int
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]
    ends: NDArray[np.int64]
    taken: NDArray[np.int64]

    @property
    def instructions(self) -> int:
        """Retired instructions; those whose IT condition failed count, as they take their cycle."""
        return int((self.counts * self.lengths).sum())

    @property
    def per_context(self) -> NDArray[np.int64]:
        """(contexts,) retired instructions."""
        return np.asarray((self.counts * self.lengths).sum(axis=1), np.int64)

    def executed(self, halfwords: int) -> NDArray[np.int64]:
        """(halfwords,) executions of the instruction at each halfword, over all contexts."""
        edges = np.zeros(halfwords + 1, np.int64)
        total = self.counts.sum(axis=0)
        np.add.at(edges, self.starts, total)
        np.add.at(edges, self.starts + self.sizes, -total)
        return np.asarray(edges.cumsum()[:-1], np.int64)


class _State(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_void_p),
        ("context_of", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("taken", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("base", ctypes.c_uint64),
        ("halfwords", ctypes.c_uint64),
        ("retired", ctypes.c_uint64),
        ("budget", ctypes.c_uint64),
        ("previous_end", ctypes.c_uint64),
        ("context", ctypes.c_int64),
        ("torn", ctypes.c_int64),
        ("stop", ctypes.c_void_p),
    )


class Counter:
    """Counts the blocks that an engine executes."""

    def __init__(
        self,
        engine: Any,
        base: int,
        code: bytes,
        steps: Sequence[tuple[int, int]],
        outside: Sequence[tuple[int, int]],
    ) -> None:
        """Attach to an engine.

        Args:
            engine: a unicorn engine.
            base: address of `code`, even.
            code: the bytes that may be executed.
            steps: (address, size) of the functions that have a context of their own.
            outside: (address, size) of the functions between them: their callers.
        """
        code += bytes(len(code) % 2)
        halfwords = len(code) // 2
        contexts = len(steps) + 1
        self._base = base
        self._code = np.frombuffer(code, np.uint16)
        self._context_of = np.full(halfwords, -1, np.int16)
        for context, spans in ((None, steps), (len(steps), outside)):
            for index, (address, size) in enumerate(spans):
                begin = (address - base) // 2
                value = index if context is None else context
                self._context_of[begin : begin + (size + 1) // 2] = value
        self._counts = np.zeros((contexts, halfwords), np.uint32)
        self._taken = np.zeros((contexts, halfwords + 1), np.uint32)
        self._sizes = np.zeros(halfwords, np.uint16)
        self._lengths = np.zeros(halfwords, np.uint16)
        self._state = _State(
            self._code.ctypes.data,
            self._context_of.ctypes.data,
            self._counts.ctypes.data,
            self._taken.ctypes.data,
            self._sizes.ctypes.data,
            self._lengths.ctypes.data,
            base,
            halfwords,
            0,
            0,
            0,
            contexts - 1,
            0,
            ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value,
        )
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            engine._uch, ctypes.byref(handle), UC_HOOK_BLOCK,
            ctypes.cast(_native().cofit_on_block, ctypes.c_void_p), ctypes.byref(self._state),
            ctypes.c_uint64(1), ctypes.c_uint64(0),  # begin > end: at every address
        )  # fmt: skip
        if status:
            raise EmulationError(f"the emulator refused the counting hook (status {status})")

    def start(self, budget: int) -> None:
        """Begin a run that may retire `budget` instructions."""
        self._counts[:] = 0
        self._taken[:] = 0
        self._state.retired = 0
        self._state.budget = budget
        self._state.previous_end = 0
        self._state.context = self._counts.shape[0] - 1

    def finish(self) -> None:
        """Count the jump that ended the run: no block behind it was entered."""
        end = (self._state.previous_end - self._base) // 2
        self._taken[self._state.context, end] += 1

    @property
    def exhausted(self) -> bool:
        """Whether the run was stopped at its budget."""
        return bool(self._state.retired > self._state.budget)

    @property
    def retired(self) -> int:
        """Instructions retired since `start`."""
        return int(self._state.retired)

    def profile(self) -> Profile:
        """The counts since `start`.

        Raises:
            EmulationError: code ran outside the image, or the emulator cut one block in two ways.
        """
        if self._state.torn:
            raise EmulationError("the emulated program left its code; counts would be wrong")
        starts = np.flatnonzero(self._counts.any(axis=0))
        ends = np.flatnonzero(self._taken.any(axis=0))
        return Profile(
            self._base,
            starts,
            self._lengths[starts].astype(np.int64),
            self._sizes[starts].astype(np.int64) // 2,
            self._counts[:, starts].astype(np.int64),
            ends,
            self._taken[:, ends].astype(np.int64),
        )


@functools.cache
def _native() -> ctypes.CDLL:
    text = _SOURCE.read_text(encoding="utf-8")
    flags = (*WARNINGS, "-mcpu=baseline", "-O2", "-shared", "-fPIC")
    return ctypes.CDLL(str(build({"counter.c": text}, flags, "counter.so")))
