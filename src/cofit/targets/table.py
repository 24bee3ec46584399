"""Cost of single ops on a target: measured or emulated once, kept on disk, looked up ever after.

A table file belongs to one target, one CPU model, one compiler version and one state of cofit's
own code generator; if any of them changes, a new file begins.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cofit.codegen
import cofit.structures
from cofit.codegen import Source, emit, machine
from cofit.codegen.build import toolchain
from cofit.codegen.cortex_m import CortexMRunner
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.machine import cpu_name
from cofit.core import Basis, CostRow, SharedCode, cache_dir, read_json, write_json
from cofit.targets.cortex_m import CortexM
from cofit.targets.host import HostTarget
from cofit.targets.rows import live_bytes
from cofit.targets.signature import OpSignature, one_op_graph

SPREAD_LIMIT = 0.05
PASSES = 6  # over the programs of a shared object, at most, until readings agree
READING_S = 0.05
_CHUNK = 32  # programs in one shared object


class CostTable:
    """Rows by op signature for one target."""

    def __init__(self, target: HostTarget | CortexM) -> None:
        """Open the table of a target on this machine (it may be empty)."""
        self.target = target
        self.path = cache_dir() / "costs" / f"{table_key(target)}.json"
        self._rows: dict[str, CostRow] = self._stored()

    def row(self, signature: OpSignature) -> CostRow:
        """The cost of one op; `op` is the signature's text. Filled in where absent.

        Raises:
            UnsupportedOpError: the target has no kernel for it.
            StructureError: its weight cannot carry its structure.
        """
        self.fill([signature])
        return self._rows[signature.text]

    def fill(self, signatures: Iterable[OpSignature]) -> None:
        """Measure the signatures that are absent, many per build, and store them."""
        absent = {s.text: s for s in signatures if s.text not in self._rows}
        waiting = list(absent.values())
        for begin in range(0, len(waiting), _CHUNK):
            chunk = waiting[begin : begin + _CHUNK]
            measure = _on_host if isinstance(self.target, HostTarget) else self._emulated
            for signature, row in zip(chunk, measure(chunk), strict=True):
                self._rows[signature.text] = row
            self._rows = self._stored() | self._rows
            write_json(self.path, {text: asdict(row) for text, row in self._rows.items()})

    def _emulated(self, signatures: Sequence[OpSignature]) -> list[CostRow]:
        assert isinstance(self.target, CortexM)
        # an op may be costed although alone it would not fit: others may shrink
        target = self.target.without_limits()
        board = target.board

        def cost(signature: OpSignature) -> CostRow:
            source = emit(one_op_graph(signature, "op"), machine(board.core))
            row = next(r for r in target.cost_of(CortexMRunner(source, board)).rows if r.op == "y")
            return replace(row, op=signature.text)

        # threads suffice: compilers are processes, and the emulator runs without Python's lock
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(cost, signatures))

    def _stored(self) -> dict[str, CostRow]:
        if not self.path.exists():
            return {}
        document: dict[str, dict[str, Any]] = read_json(self.path)
        return {
            text: CostRow(
                **{
                    **entry,
                    "basis": Basis(entry["basis"]),
                    "shared": tuple(SharedCode(**code) for code in entry["shared"]),
                }
            )
            for text, entry in document.items()
        }


def table_key(target: HostTarget | CortexM) -> str:
    """Name of the table file: what its numbers depend on."""
    parts = [target.name, toolchain().version, generator_hash()]
    if isinstance(target, HostTarget):
        parts.append(cpu_name())
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"{target.name.replace(':', '-')}-{digest}"


@functools.cache
def generator_hash() -> str:
    """Hash of every file that decides what code is generated for an op."""
    digest = hashlib.sha256()
    for room in (cofit.codegen, cofit.structures):
        assert room.__file__ is not None
        for path in sorted(Path(room.__file__).parent.rglob("*")):
            if path.suffix in (".py", ".c", ".h", ".ld", ".toml"):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _on_host(signatures: Sequence[OpSignature]) -> list[CostRow]:
    """Costs from readings that lie apart in time: a neighbour may slow the machine for a while."""
    sources = [
        emit(one_op_graph(signature, f"op{index}"), machine("host"))
        for index, signature in enumerate(signatures)
    ]
    library = build_host(sources)
    ops = [
        _TimedOp(signature, source, HostRunner(source, library))
        for signature, source in zip(signatures, sources, strict=True)
    ]
    for _ in range(PASSES):
        for op in ops:
            if op.spread > SPREAD_LIMIT:
                op.read()
    return [op.row() for op in ops]


class _TimedOp:
    """The op `y` of a program, and what its clock read so far."""

    def __init__(self, signature: OpSignature, source: Source, runner: HostRunner) -> None:
        self._signature, self._source, self._runner = signature, source, runner
        self._index = next((i for i, s in enumerate(source.steps) if s.name == "y"), None)
        self._readings: list[float] = []
        self._repeats = 3

    @property
    def spread(self) -> float:
        """How far the two least readings lie apart, relative; nothing makes an op faster."""
        if self._index is None:
            return 0.0
        if len(self._readings) < 2:
            return float("inf")
        least, second = sorted(self._readings)[:2]
        return (second - least) / max(least, 1e-12)

    def read(self) -> None:
        """One reading: a typical time of many runs."""
        if not self._readings:
            once = self._runner.measure(self._repeats).latency_s
            self._repeats = min(max(int(READING_S / max(once, 1e-7)), 5), 500)
        self._readings.append(self._runner.measure(self._repeats).per_step_s["y"])

    def row(self) -> CostRow:
        """The least reading, or nothing for an op that is only a view."""
        text, kind = self._signature.text, self._signature.attributes.kind
        if self._index is None:
            return CostRow(text, kind, 0.0, 0, 0, Basis.MEASURED, note="view")
        step = self._source.steps[self._index]
        return CostRow(
            op=text,
            kind=step.kind,
            latency_s=min(self._readings),
            flash_bytes=step.constant_bytes,
            ram_bytes=live_bytes(self._source.plan, self._index),
            basis=Basis.MEASURED,
            macs=step.macs,
            spread=self.spread,
            note=f"{step.kernel} {step.code.variant}".strip(),
        )
