"""Simulation of a netlist, bit for bit and for many vectors at once, with toggles per net."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.build import WARNINGS, build
from cofit.codegen.machine import machine
from cofit.core import VerificationError
from cofit.rtl.netlist import ONE, ZERO, Netlist

Words = NDArray[np.uint64]
WORD = 64
_POINTER = ctypes.c_void_p


class _State(ctypes.Structure):
    _fields_ = (
        ("gates", _POINTER), ("gate_count", ctypes.c_int64),
        ("flops", _POINTER), ("flop_count", ctypes.c_int64),
        ("rams", _POINTER), ("ram_count", ctypes.c_int64),
        ("ram_words", _POINTER), ("ram_reads", _POINTER), ("ram_writes", _POINTER),
        ("nets", _POINTER), ("pending", _POINTER), ("toggles", _POINTER), ("mask", _POINTER),
        ("words", ctypes.c_int64),
    )  # fmt: skip


class Simulator:
    """A netlist in operation; registers and memories start at zero.

    Inputs are integers that all vectors share, or arrays (vectors,) of them; they keep their value
    until they are set again. Control and addresses must be the same in all vectors.

    Args:
        netlist: to run.
        vectors: how many inputs are computed side by side.

    Attributes:
        toggles: (nets,) changes since `count`, over all vectors.
        cycles: since `count`.
        reads, writes: of each memory, in cycles since `count`.
        busy_cycles: in which the port "busy" was high, since `count`.
    """

    def __init__(self, netlist: Netlist, vectors: int) -> None:
        self.netlist, self.vectors = netlist, vectors
        self._words = -(-vectors // WORD)
        self._nets = np.zeros((netlist.nets, self._words), np.uint64)
        self._nets[ONE] = ~np.uint64(0)
        self._pending = np.zeros((len(netlist.flops), self._words), np.uint64)
        self._mask = _pack(np.ones((vectors, 1), np.uint8), self._words, fill=False)[0]
        self._memories = [
            np.zeros((ram.depth, ram.width, self._words), np.uint64) for ram in netlist.rams
        ]
        layout = [
            word
            for ram in netlist.rams
            for word in (
                ram.width, ram.depth, len(ram.address), ram.enable, ram.write, *ram.address,
                *ram.inputs, *ram.outputs,
            )
        ]  # fmt: skip
        self._layout = np.array(layout, np.int32)
        self._pointers = np.array([memory.ctypes.data for memory in self._memories], np.uint64)
        self._counting = False
        self.count(False)

    def count(self, on: bool = True) -> None:
        """Set all counters to zero; toggles are counted from now on, or not."""
        self._counting = on
        self.toggles = np.zeros(self.netlist.nets, np.int64)
        self.reads = np.zeros(len(self.netlist.rams), np.int64)
        self.writes = np.zeros(len(self.netlist.rams), np.int64)
        self.cycles = self.busy_cycles = 0

    def set(self, inputs: Mapping[str, int | NDArray[np.integer]]) -> None:
        """Change input ports.

        Args:
            inputs: by port; an array (vectors,) of integers, or (vectors, bits) of bits.
        """
        for name, value in inputs.items():
            nets = list(self.netlist.ports[name])
            self._nets[nets] = _pack(_bits(value, len(nets)), self._words)

    def step(self, cycles: int = 1) -> None:
        """Let some cycles pass; what is emitted meanwhile is lost."""
        self._run(cycles, -1, np.zeros((cycles, 0), np.int32))

    def read(self, port: str) -> NDArray[np.int64]:
        """Signed values (vectors,) that a port has after the last step."""
        words = np.ascontiguousarray(self._nets[list(self.netlist.ports[port])])
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, : self.vectors]
        weight = 1 << np.arange(len(bits), dtype=np.int64)
        weight[-1] = -weight[-1]
        values: NDArray[np.int64] = weight @ bits.astype(np.int64)
        return values

    def finish(self, outputs: int, limit: int, drain: int) -> NDArray[np.uint8]:
        """Run until `busy` has been low for some cycles; collect `y` whenever `valid` is high.

        Args:
            outputs: emitted values at most.
            limit: of cycles.
            drain: cycles after `busy` fell.

        Returns:
            Bits (emitted, bits of y, vectors), uint8.

        Raises:
            VerificationError: it did not finish, emitted more, or vectors disagree about control.
        """
        y = np.array(self.netlist.ports["y"], np.int32)
        found = self._run(limit, drain, y, outputs)
        bits = np.unpackbits(found.view(np.uint8), axis=2, bitorder="little")
        return bits[:, :, : self.vectors]

    def _run(
        self, limit: int, drain: int, y: NDArray[np.int32], outputs: int = 0
    ) -> NDArray[np.uint64]:
        netlist = self.netlist
        keeps = y.ndim == 1
        out = np.zeros((outputs if keeps else limit, y.shape[-1], self._words), np.uint64)
        emitted, busy = ctypes.c_int64(0), ctypes.c_int64(0)
        state = _State(
            netlist.gates.ctypes.data, len(netlist.gates),
            netlist.flops.ctypes.data, len(netlist.flops),
            self._layout.ctypes.data, len(netlist.rams),
            self._pointers.ctypes.data, self.reads.ctypes.data, self.writes.ctypes.data,
            self._nets.ctypes.data, self._pending.ctypes.data,
            self.toggles.ctypes.data if self._counting else None,
            self._mask.ctypes.data, self._words,
        )  # fmt: skip
        ports = netlist.ports
        ran = _library()(
            ctypes.byref(state), limit, ports.get("busy", (ZERO,))[0], drain,
            ports.get("valid", (ZERO,))[0],
            y.ctypes.data, y.shape[-1], out.ctypes.data, len(out), ctypes.byref(emitted),
            ctypes.byref(busy),
        )  # fmt: skip
        if ran == -1:
            raise VerificationError("vectors disagree on an address or a control signal")
        if ran == -2:
            raise VerificationError(f"the design emits more than {outputs} values")
        if drain >= 0 and ran == limit:
            raise VerificationError(f"the design is still busy after {limit} cycles")
        self.cycles += ran
        self.busy_cycles += busy.value
        return out[: emitted.value]


def _bits(value: int | NDArray[np.integer], width: int) -> NDArray[np.uint8]:
    """Bits (vectors or 1, width), lowest first."""
    array = np.asarray(value)
    if array.ndim == 2:
        return array.astype(np.uint8)
    return (array.reshape(-1, 1).astype(np.int64) >> np.arange(width) & 1).astype(np.uint8)


def _pack(bits: NDArray[np.uint8], words: int, fill: bool = True) -> Words:
    """Bits (vectors, width) to words (width, words); missing vectors repeat the first."""
    whole = np.zeros((words * WORD, bits.shape[1]), np.uint8)
    if fill:
        whole[:] = bits[0]
    whole[: len(bits)] = bits
    packed = np.packbits(whole.T, axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view(np.uint64)


@functools.cache
def _library() -> Any:
    source = Path(__file__).with_name("simulate.c").read_text(encoding="utf-8")
    flags = (*WARNINGS, "-O3", *machine("host").flags, "-shared", "-fPIC")
    loaded = ctypes.CDLL(str(build({"simulate.c": source}, flags, "simulate.so")))
    function = loaded.cofit_simulate
    integer = ctypes.c_int64
    function.argtypes = [
        _POINTER, integer, ctypes.c_int32, integer, ctypes.c_int32, _POINTER, integer, _POINTER,
        integer, _POINTER, _POINTER,
    ]  # fmt: skip
    function.restype = integer
    return function
