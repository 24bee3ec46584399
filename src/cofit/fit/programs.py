"""Fits to targets that run programs: this CPU, and emulated boards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from cofit.codegen import Program, emit, machine
from cofit.codegen.build import toolchain
from cofit.core import ConfigError, Cost, CostRow, format_quantity
from cofit.fit.precision import Precision, Scores, reference_scores
from cofit.fit.products import Product, signature
from cofit.fit.progress import Progress
from cofit.ir import Graph
from cofit.targets import CortexM, CostTable, HostTarget, target

HOST_FLOAT_FAMILIES = ("block8x1", "block16x1", "block32x1", "channel")
HOST_PAIR_FAMILIES = ("block8x2", "block16x2", "channel")
"""Vectors multiply pairs of integers at once: blocks two inputs wide waste neither."""

HOST_QUAD_FAMILIES = ("block16x4", "block32x4", "channel")
"""With VNNI four at once, of sixteen outputs."""

HOST_INTEGER_RECURRENT_FAMILIES = ("block8x1", "block16x1", "block32x1")
"""There pairs are of kept columns, wherever these are."""

CORTEX_FAMILIES = ("block1x4", "block2x4", "block4x4", "channel")

PRICE_CHUNK = 64
"""Layers priced between two reports of progress."""


@dataclass(frozen=True)
class ProgramDevice:
    """A target that runs programs, with its cost table."""

    target: HostTarget | CortexM
    table: CostTable

    @property
    def name(self) -> str:
        """Of the target."""
        return self.target.name

    @property
    def measured(self) -> bool:
        """Whether costs are read off this machine's clock."""
        return not self.emulated

    @property
    def emulated(self) -> bool:
        """Whether programs run on an emulated core, too slowly for whole data sets."""
        return isinstance(self.target, CortexM)

    def precisions(self, wanted: str) -> list[Precision]:
        """Precisions of programs to consider; the first is that of the dense reference.

        Raises:
            ConfigError: the target computes in int8 only.
        """
        if self.emulated and wanted == "fp32":
            raise ConfigError(
                f"precision 'fp32' on {self.target.name}: fit deploys int8 there; "
                "use precision 'int8' or 'auto'"
            )
        if self.emulated or wanted == "int8":
            return ["int8"]
        return ["fp32"] if wanted == "fp32" else ["fp32", "int8"]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Words that a budget may use."""
        return self.target.metrics

    def families(self, precision: Precision, kind: str = "conv2d") -> tuple[str, ...]:
        """Structure families that the target's kernels run fast on ops of a kind."""
        if self.emulated:
            return CORTEX_FAMILIES
        if precision == "int8" and kind in ("gru", "lstm"):
            return HOST_INTEGER_RECURRENT_FAMILIES
        if precision == "fp32":
            return HOST_FLOAT_FAMILIES
        return HOST_QUAD_FAMILIES if machine(self.name).quads else HOST_PAIR_FAMILIES

    def weight_bits(self, precision: Precision) -> tuple[int, ...]:
        """Bits of a stored weight, the usual first."""
        if precision == "fp32":
            return (32,)
        return (8, 4) if self.emulated else (8,)

    @property
    def narrows_structures(self) -> bool:
        """No: kernels of structures take int8 weights."""
        return False

    def price(
        self,
        graph: Graph,
        asked: Sequence[tuple[Product, str | None, int]],
        precision: Precision,
        progress: Progress,
    ) -> list[CostRow]:
        """Cost of the ops of products, each alone, from the cost table."""
        signatures = [
            signature(graph, product, structure, bits, precision)
            for product, structure, bits in asked
        ]
        for begin in range(0, len(signatures), PRICE_CHUNK):
            progress("cost table", begin, len(signatures))
            self.table.fill(signatures[begin : begin + PRICE_CHUNK])
        progress("cost table", len(signatures), len(signatures))
        return [self.table.row(wanted) for wanted in signatures]

    def cost(self, graph: Graph) -> Cost:
        """Cost of a whole program, also of one that is too large for the device."""
        return self._roomy().cost(graph)

    def cost_beside(self, graph: Graph, reference: Graph, known: Cost) -> Cost:
        """As `cost`, on the clock by which a reference program took what is known of it.

        A shared machine is faster at one time than at another; both programs are measured in turn
        and latencies are stated relative to the reference's.
        """
        if self.emulated:
            return self.cost(graph)
        roomy = self._roomy()
        now, cost = roomy.compare([roomy.program(reference), roomy.program(graph)])
        clock = known.latency_s / now.latency_s
        return replace(
            cost, rows=tuple(replace(row, latency_s=row.latency_s * clock) for row in cost.rows)
        )

    def memory(self) -> dict[str, float]:
        """What the device has, by budget word; absent where it is not limited."""
        limits = self.target.limits
        found = {"flash": limits.flash_bytes, "ram": limits.ram_bytes}
        return {metric: float(value) for metric, value in found.items() if value is not None}

    def ready(self) -> None:
        """Check that there is a compiler.

        Raises:
            BuildError: there is none.
        """
        toolchain()

    def check(self, graph: Graph) -> None:
        """Check that there is a kernel for every op.

        Raises:
            UnsupportedOpError: naming the op that has none.
        """
        core = self.target.board.core if isinstance(self.target, CortexM) else "host"
        emit(graph, machine(core))

    def program(self, graph: Graph) -> Program:
        """The compiled, verified program.

        Raises:
            TargetError: it does not fit the device.
        """
        return self.target.program(graph)

    def reference_program(self, graph: Graph) -> Program:
        """As `program`, for a network that need not fit: the dense one, to compare with."""
        if isinstance(self.target, HostTarget):
            return self.target.program(graph)
        return self.target.without_limits().program(graph)

    def within(self, ram_bytes: float, graph: Graph, cost: Cost) -> Self:
        """The device whose programs run in stripes where whole layers need more RAM than this.

        Args:
            ram_bytes: limit of all RAM.
            graph: a network.
            cost: its cost, whole: what it needs beside its arena is taken to be needed by all.
        """
        if not isinstance(self.target, CortexM):
            return self
        board = self.target.board
        beside = cost.ram_bytes - emit(graph, machine(board.core)).plan.arena_bytes
        limit = min(int(ram_bytes) - beside, board.arena_room_bytes)
        return replace(self, target=replace(self.target, arena_limit_bytes=limit))

    def _roomy(self) -> HostTarget | CortexM:
        """The target with memory for anything, programs as `within` has them."""
        if isinstance(self.target, HostTarget):
            return self.target
        limit = self.target.arena_limit_bytes
        return replace(self.target.without_limits(), arena_limit_bytes=limit)

    def compare(self, programs: Sequence[Program]) -> list[Cost]:
        """Costs of programs taken together, so that their ratios hold on a noisy machine."""
        return self.target.compare(programs)

    def scores(self, program: Program) -> Scores:
        """What decides the reported accuracy: the program itself, or its bit-exact reference."""
        return reference_scores(program.graph) if self.emulated else program.run

    def describe(self) -> dict[str, str]:
        """Facts about the hardware for the report."""
        limits = self.target.limits
        facts = {"target": self.target.name, **self.target.facts()}
        if limits.flash_bytes is not None:
            facts["flash"] = format_quantity(limits.flash_bytes, "bytes")
        if limits.ram_bytes is not None:
            facts["ram"] = format_quantity(limits.ram_bytes, "bytes")
        return facts


def program_device(name: str) -> ProgramDevice:
    """A device that runs programs, by target name.

    Raises:
        UnknownNameError: no such target.
        ConfigError: the target is modelled.
    """
    found = target(name)
    if not isinstance(found, HostTarget | CortexM):
        raise ConfigError(
            f"target {name!r} is modelled and runs no programs; choose host or a Cortex-M"
        )
    return ProgramDevice(found, CostTable(found))
