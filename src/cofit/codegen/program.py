"""Compile a graph into a verified program that runs on its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.build import DEFAULT_COMPILER
from cofit.codegen.chosen import Chosen
from cofit.codegen.cortex_m import Board, CortexMRunner, default_board
from cofit.codegen.emit import Source, emit
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.layout import to_logical, to_memory
from cofit.codegen.machine import Machine
from cofit.codegen.machine import machine as machine_named
from cofit.codegen.planner import MemoryPlan
from cofit.codegen.runner import Array, Measurement, Runner
from cofit.codegen.tuning import tune as tuned
from cofit.codegen.verify import verify as verify_program
from cofit.ir import Graph, integer


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled graph. Build with `compile`.

    Attributes:
        source: the generated C, its memory plan and its steps.
        runner: what executes it.
        compiler: name of the C compiler it was built with.
        verified: whether every step was compared with the graph's meaning.
    """

    source: Source
    runner: Runner
    compiler: str
    verified: bool

    @property
    def graph(self) -> Graph:
        """What the program computes."""
        return self.source.graph

    @property
    def machine(self) -> Machine:
        """What it runs on."""
        return self.source.machine

    @property
    def plan(self) -> MemoryPlan:
        """The arena."""
        return self.source.plan

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Real outputs (N, ...) of real inputs (N, C, H, W), whatever the program's own types.

        Raises:
            ModelError: the shape does not fit.
            DataError: an input of an integer program holds NaN.
        """
        if self.machine.io == "float":
            out: NDArray[np.float32] = self.runner.run(x).astype(np.float32, copy=False)
            return out
        shape = self.graph.tensors[self.graph.outputs[0]].shape
        if not self.graph.is_integer:
            return to_logical(self.runner.run(to_memory(x)), shape).astype(np.float32, copy=False)
        stored = integer.quantise_input(self.graph, x)
        out_q = to_logical(self.runner.run(to_memory(stored)), shape)
        return integer.dequantise_output(self.graph, out_q.astype(np.int8, copy=False))

    def run_native(self, x: Array) -> Array:
        """Outputs as the C interface gives them: float32 NCHW, or the tensor's type in NHWC."""
        return self.runner.run(x)

    def measure(self, repeats: int | None = None) -> Measurement:
        """Time of one inference, per step and in all."""
        return self.runner.measure(repeats)

    def save(self, folder: Path | str) -> None:
        """Write the program as a folder that builds with `make` (see `codegen.save`)."""
        from cofit.codegen.save import save_program

        save_program(self, Path(folder))


def compile(
    graph: Graph,
    machine: str | Machine = "host",
    compiler: str | None = None,
    verify: bool = True,
    board: Board | None = None,
    threads: int = 1,
    arena_limit_bytes: int | None = None,
    tune: bool = False,
) -> Program:
    """Generate, build and verify the program of a graph.

    Args:
        graph: a float or an integer graph with one input and one output.
        machine: "host", "cortex-m4", "cortex-m7", or a `Machine`.
        compiler: "zig" (default) or the name of a C compiler on PATH.
        verify: compare every step with the graph's meaning (see `codegen.verify`).
        board: where a Cortex-M program runs; the machine's default board if absent.
        threads: of this machine that share the larger steps; results are the same bits.
        arena_limit_bytes: arena to stay below, the board's RAM at most; where it binds, the first
            layers of an int8 program run in stripes of rows.
        tune: time the ways in which each convolution and linear layer can be computed here, and
            take the fastest; what was measured before with this CPU and compiler is not measured
            again (see `codegen.tuning`). Without, the same graph always gives the same code.

    Raises:
        ConfigError: the machine does not run so many threads, or is not this one and `tune` is set.
        UnsupportedOpError: an op has no kernel on the machine.
        BuildError: the C compiler is missing or refused.
        VerificationError: the program does not compute what its graph means.
    """
    chosen = machine if isinstance(machine, Machine) else machine_named(machine)
    if threads != 1:
        chosen = chosen.with_threads(threads)
    name = compiler or DEFAULT_COMPILER
    kernels = tuned(graph, chosen, name) if tune else {}
    return assemble(graph, chosen, name, verify, board, arena_limit_bytes, kernels)


def assemble(
    graph: Graph,
    machine: Machine,
    compiler: str,
    verify: bool,
    board: Board | None,
    arena_limit_bytes: int | None,
    kernels: Mapping[str, Chosen],
) -> Program:
    """As `compile`, with kernels that are chosen already."""
    if machine.freestanding:
        board = board or default_board(machine.name)
        room = board.arena_room_bytes
        arena_limit_bytes = room if arena_limit_bytes is None else min(room, arena_limit_bytes)
    source = emit(graph, machine, arena_limit_bytes, kernels)
    runner = _runner(source, compiler, board)
    if verify:
        verify_program(source, runner)
    return Program(source, runner, compiler, verify)


def _runner(source: Source, compiler: str, board: Board | None) -> Runner:
    if board is None or not source.machine.freestanding:
        return HostRunner(source, build_host([source], compiler))
    return CortexMRunner(source, board, compiler)
