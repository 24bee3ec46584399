"""A Cortex-M board as a target: emulated instruction counts, modelled cycles, linked bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cofit.codegen import Program, Source, emit, machine
from cofit.codegen import compile as compile_program
from cofit.codegen.cortex_m import Board, CortexMRunner, shared_bytes, shared_names
from cofit.core import Cost, SharedCode, TargetError
from cofit.ir import Graph
from cofit.targets.contract import Limits
from cofit.targets.rows import cost_rows

ROOMY_BYTES = 1 << 27  # the linker script has room for no more
_NOTE = "latency: cycle model on exact instruction counts"
_ENERGY = "energy: typical current of the data sheet"


@dataclass(frozen=True)
class CortexM:
    """A board with a Cortex-M4F or M7F.

    Latency is cycles modelled from exactly counted instructions (see `codegen.cortex_m.cycles`),
    at the board's highest clock. Flash and RAM are those of the linked program; RAM includes the
    stack that one inference was seen to use. Energy is stated where the data sheet gives a current.

    Attributes:
        board: the board.
        arena_limit_bytes: arena that programs shall stay below, None for what the board has; where
            it binds, their first layers run in stripes (see `codegen.stripes`).
    """

    board: Board
    arena_limit_bytes: int | None = None

    @property
    def name(self) -> str:
        """For example "cortex-m4:stm32f446"."""
        return f"{self.board.core}:{self.board.name}"

    def without_limits(self) -> CortexM:
        """The board with memory for anything, arena too: what does not fit can still be priced."""
        return CortexM(replace(self.board, flash_bytes=ROOMY_BYTES, ram_bytes=ROOMY_BYTES))

    def facts(self) -> dict[str, str]:
        """What reports say about this hardware."""
        return {
            "core": self.board.core,
            "clock": f"{self.board.clock_hz / 1e6:g} MHz",
            "source": self.board.source,
        }

    def program(
        self, graph: Graph, compiler: str | None = None, threads: int = 1, tune: bool = False
    ) -> Program:
        """The compiled and verified program, linked for the board, which runs one thread.

        Raises:
            ConfigError: more threads, or tuning, are asked for.
        """
        return compile_program(
            graph,
            self.board.core,
            compiler,
            board=self.board,
            threads=threads,
            tune=tune,
            arena_limit_bytes=self.arena_limit_bytes,
        )

    def compare(self, programs: Sequence[Program]) -> list[Cost]:
        """Costs of programs; emulated counts do not drift."""
        return [
            self.cost_of(program.runner)
            for program in programs
            if isinstance(program.runner, CortexMRunner)
        ]

    @property
    def limits(self) -> Limits:
        """Flash and RAM of the board."""
        return Limits(self.board.flash_bytes, self.board.ram_bytes)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Energy where the data sheet of the board gives a current."""
        energy = () if self.board.energy_j_per_cycle is None else ("energy",)
        return ("latency", "flash", "ram", *energy)

    def cost(self, graph: Graph) -> Cost:
        """Compile, link and emulate one inference on random input.

        Raises:
            UnsupportedOpError: an op has no kernel.
            TargetError: the program does not fit the board.
        """
        room, limit = self.board.arena_room_bytes, self.arena_limit_bytes
        source = emit(graph, machine(self.board.core), room if limit is None else min(room, limit))
        return self.cost_of(CortexMRunner(source, self.board))

    def cost_of(self, runner: CortexMRunner) -> Cost:
        """The cost of a program that is built already for a board with this core."""
        if runner.source.machine.name != self.board.core:
            raise TargetError(
                f"the program was built for {runner.source.machine.name}, board "
                f"{self.board.name!r} has a {self.board.core}; compile it for that"
            )
        source: Source = runner.source
        measurement = runner.measure()
        image = runner.linked.image
        functions = {step.function: step.name for step in reversed(source.steps)}
        flash = dict.fromkeys((step.name for step in source.steps), 0)
        flash |= {name: image.flash_of(function) for function, name in functions.items()}
        energy = self.board.energy_j_per_cycle
        rows = cost_rows(
            source,
            measurement,
            flash,
            runtime_flash_bytes=image.flash_bytes - sum(flash.values()),
            runtime_ram_bytes=image.ram_bytes + runner.emulator.stack_high_water_bytes,
            energy_w=None if energy is None else energy * self.board.clock_hz,
            note=_NOTE if energy is None else f"{_NOTE}; {_ENERGY}",
            shared=_shared(runner),
        )
        return Cost(self.name, rows)


def _shared(runner: CortexMRunner) -> dict[str, tuple[SharedCode, ...]]:
    """By step name, the functions of its support files that the program has."""
    source, image = runner.source, runner.linked.image
    support = dict.fromkeys(file for step in source.steps for file in step.code.support)
    general = shared_bytes(support, source.machine, runner.compiler)
    present = {
        name: SharedCode(name, nbytes, general[name])
        for name in general
        if (nbytes := image.flash_of(name))
    }
    return {
        step.name: tuple(
            code for name, code in present.items() if name in shared_names(step.code.support)
        )
        for step in source.steps
    }
