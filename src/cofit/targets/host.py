"""This machine as a target: every op timed inside the whole program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cofit.codegen import Measurement, Program
from cofit.codegen import compile as compile_program
from cofit.codegen.machine import cpu_name
from cofit.core import Cost
from cofit.ir import Graph
from cofit.targets.contract import Limits
from cofit.targets.rows import cost_rows

COMPARE_ROUNDS = 7


@dataclass(frozen=True)
class HostTarget:
    """This CPU, one thread. Flash counts the constants, RAM the arena; neither is limited."""

    name: str = "host"

    def facts(self) -> dict[str, str]:
        """What reports say about this hardware."""
        return {"cpu": cpu_name(), "threads": "1"}

    def program(
        self, graph: Graph, compiler: str | None = None, threads: int = 1, tune: bool = False
    ) -> Program:
        """The compiled and verified program; tuned if asked (see `codegen.compile`)."""
        return compile_program(graph, "host", compiler, threads=threads, tune=tune)

    @property
    def limits(self) -> Limits:
        """None."""
        return Limits()

    @property
    def metrics(self) -> tuple[str, ...]:
        """No energy: nothing here measures it."""
        return ("latency", "flash", "ram")

    def cost(self, graph: Graph) -> Cost:
        """Compile and time one inference: the middle one of several series, with their spread.

        Raises:
            UnsupportedOpError: an op has no kernel.
        """
        return self.compare([compile_program(graph, "host", verify=False)])[0]

    def cost_of(self, program: Program, measurement: Measurement | None = None) -> Cost:
        """The cost of a program that is built already; measured now if it was not yet."""
        source = program.source
        flash = {step.name: step.constant_bytes for step in source.steps}
        timed = measurement or program.measure()
        rows = cost_rows(source, timed, flash, 0, source.plan.arena_bytes)
        return Cost(self.name, rows)

    def compare(self, programs: Sequence[Program]) -> list[Cost]:
        """Costs of programs measured in turn, so that drift of the machine touches all alike."""
        series: list[list[Measurement]] = [[] for _ in programs]
        for _ in range(COMPARE_ROUNDS):
            for seen, program in zip(series, programs, strict=True):
                seen.append(program.measure())
        return [
            self.cost_of(program, middle_of(seen))
            for program, seen in zip(programs, series, strict=True)
        ]


def middle_of(series: Sequence[Measurement]) -> Measurement:
    """The measurement of median latency; its spread is that of the medians of the series."""
    ordered = sorted(series, key=lambda m: m.latency_s)
    middle = ordered[len(ordered) // 2]
    spread = (ordered[-1].latency_s - ordered[0].latency_s) / max(middle.latency_s, 1e-12)
    return replace(middle, spread=spread)
