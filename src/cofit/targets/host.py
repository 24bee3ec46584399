"""This machine as a target: every op timed inside the whole program."""

from __future__ import annotations

from dataclasses import dataclass

from cofit.codegen import compile as compile_program
from cofit.core import Cost
from cofit.ir import Graph
from cofit.targets.contract import Limits
from cofit.targets.rows import cost_rows


@dataclass(frozen=True)
class HostTarget:
    """This CPU, one thread. Flash counts the constants, RAM the arena; neither is limited."""

    name: str = "host"

    @property
    def limits(self) -> Limits:
        """None."""
        return Limits()

    def cost(self, graph: Graph) -> Cost:
        """Compile and time one inference; the median over the repeats, with their spread.

        Raises:
            UnsupportedOpError: an op has no kernel.
        """
        program = compile_program(graph, "host", verify=False)
        source = program.source
        flash = {step.name: step.constant_bytes for step in source.steps}
        rows = cost_rows(source, program.measure(), flash, 0, source.plan.arena_bytes)
        return Cost(self.name, rows)
