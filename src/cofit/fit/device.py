"""What a fit asks of a target: precisions, structures worth trying, prices, programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cofit.codegen import Program
from cofit.core import ConfigError, Cost, CostRow
from cofit.fit.precision import Precision
from cofit.fit.progress import Progress
from cofit.ir import Graph, Op
from cofit.targets import CompiledTarget, CostTable, Signature, target

HOST_FAMILIES = ("block8x1", "block16x1", "block32x1", "channel")
CORTEX_FAMILIES = ("block1x4", "block2x4", "block4x4", "channel")


@dataclass(frozen=True)
class Device:
    """A compiled target with its cost table."""

    target: CompiledTarget
    table: CostTable

    def precisions(self, wanted: str) -> list[Precision]:
        """Precisions of programs to consider; the first is that of the dense reference.

        Raises:
            ConfigError: the target computes in int8 only.
        """
        if self.target.machine.freestanding:
            if wanted == "fp32":
                raise ConfigError(
                    f"precision 'fp32' on {self.target.name}: fit deploys int8 there; "
                    "use precision 'int8' or 'auto'"
                )
            return ["int8"]
        match wanted:
            case "fp32":
                return ["fp32"]
            case "int8":
                return ["int8"]
        return ["fp32", "int8"]

    def families(self, precision: Precision) -> tuple[str, ...]:
        """Structure families that the target's kernels run fast."""
        return CORTEX_FAMILIES if self.target.machine.freestanding else HOST_FAMILIES

    def weight_bits(self, precision: Precision) -> tuple[int, ...]:
        """Bits of a stored weight, the usual first."""
        if precision == "fp32":
            return (32,)
        return (8, 4) if self.target.machine.freestanding else (8,)

    def price(
        self,
        graph: Graph,
        asked: Sequence[tuple[Op, str | None, int]],
        precision: Precision,
        progress: Progress,
    ) -> list[CostRow]:
        """Cost of layers of a graph, each alone, from the cost table."""
        signatures = [
            Signature.of(graph, op, structure=structure, precision=precision, weight_bits=bits)
            for op, structure, bits in asked
        ]
        self.table.fill(signatures, progress)
        return [self.table.row(signature) for signature in signatures]

    def cost(self, graph: Graph) -> Cost:
        """Cost of a whole program."""
        return self.target.cost(graph)

    def program(self, graph: Graph) -> Program:
        """The compiled, verified program."""
        return self.target.program(graph)


def device(name: str) -> Device:
    """A device by target name.

    Raises:
        UnknownNameError: no such target.
    """
    found = target(name)
    return Device(found, CostTable(found))
