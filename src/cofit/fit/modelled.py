"""Fits to hardware that is modelled: prices are the target's own costs of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from cofit.core import ConfigError, Cost, CostRow
from cofit.fit.candidates import REMOVAL
from cofit.fit.precision import Precision
from cofit.fit.products import Product, signature
from cofit.fit.progress import Progress
from cofit.ir import Graph
from cofit.structures import Complementary
from cofit.targets import Accelerator, ArrayTarget, Platform, one_op_graph
from cofit.targets.arrays import DigitalChip

PAIRS = Complementary().text

ROWS = 8
"""Rows that leave an array together where it does not say how many are summed with one sign."""


@dataclass(frozen=True)
class ModelledDevice:
    """An accelerator, a chip of arrays, or a platform: its costs are exact, and nothing runs."""

    target: Accelerator | ArrayTarget | Platform
    _rows: dict[str, CostRow] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Of the target."""
        return self.target.name

    @property
    def measured(self) -> bool:
        """No: a model says the same every time."""
        return False

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the target states, bytes aside: nothing limits them."""
        return self.target.metrics

    def precisions(self, wanted: str) -> list[Precision]:
        """int8; platforms compute in fp32 too.

        Raises:
            ConfigError: the target computes in integers.
        """
        if isinstance(self.target, Platform) and wanted != "int8":
            return ["fp32"] if wanted == "fp32" else ["fp32", "int8"]
        if wanted == "fp32":
            raise ConfigError(
                f"target {self.name!r} computes in integers; use precision int8 or auto"
            )
        return ["int8"]

    def families(self, precision: Precision, kind: str = "conv2d") -> tuple[str, ...]:
        """Fewer channels, and what else the model counts.

        Arrays are spared whole groups of rows, and where a group holds one sign, the second half of
        its cells; macros that read words and their complements store half of the filters that are
        pairs; accelerators that skip, gate or compress zeros of weights take them anywhere.
        """
        match self.target:
            case ArrayTarget(chip=chip) if (m := chip.sign_group) is not None:
                return (f"polarised{m}", f"rows{m}+polarised{m}", REMOVAL)
            case ArrayTarget(chip=DigitalChip(pairs=True)) if kind not in ("gru", "lstm"):
                return (PAIRS, f"rows{ROWS}", REMOVAL)
            case ArrayTarget():
                return (f"rows{ROWS}", REMOVAL)
            case Accelerator(hardware=hardware) if hardware.sparse.get("weight"):
                return ("unstructured", REMOVAL)
        return (REMOVAL,)

    def weight_bits(self, precision: Precision) -> tuple[int, ...]:
        """Bits of a stored weight, the usual first; platforms do not count narrower ones."""
        if precision == "fp32":
            return (32,)
        return (8,) if isinstance(self.target, Platform) else (8, 4)

    @property
    def narrows_structures(self) -> bool:
        """Models count bits and places apart."""
        return True

    def price(
        self,
        graph: Graph,
        asked: Sequence[tuple[Product, str | None, int]],
        precision: Precision,
        progress: Progress,
    ) -> list[CostRow]:
        """Cost of the ops of products, each alone, with random weights in their structures.

        Raises:
            TargetError: the hardware cannot carry one.
        """
        found = []
        for index, (product, structure, bits) in enumerate(asked):
            progress("cost model", index, len(asked))
            wanted = signature(graph, product, structure, bits, precision)
            if wanted.text not in self._rows:
                rows = self.target.cost(one_op_graph(wanted, "layer")).rows
                self._rows[wanted.text] = next(row for row in rows if row.op == "y")
            found.append(self._rows[wanted.text])
        progress("cost model", len(asked), len(asked))
        return found

    def cost(self, graph: Graph) -> Cost:
        """The model's cost of a whole network."""
        return self.target.cost(graph)

    def cost_beside(self, graph: Graph, reference: Graph, known: Cost) -> Cost:
        """As `cost`."""
        return self.target.cost(graph)

    def memory(self) -> dict[str, float]:
        """Nothing is limited."""
        return {}

    def ready(self) -> None:
        """Nothing is compiled."""

    def check(self, graph: Graph) -> None:
        """Check that the target can carry every op.

        Raises:
            TargetError: naming what the hardware cannot do.
        """
        self.target.cost(graph)

    def within(self, ram_bytes: float, graph: Graph, cost: Cost) -> Self:
        """The same: activations lie where there is room for them."""
        return self

    def describe(self) -> dict[str, str]:
        """Facts about the hardware for the report."""
        return {"target": self.name, **self.target.facts()}


def modelled(target: Accelerator | ArrayTarget | Platform) -> ModelledDevice:
    """The device of a modelled target.

    Raises:
        ConfigError: its costs are those of networks trained in a way that fit does not know.
    """
    if isinstance(target, ArrayTarget) and target.assumed is not None:
        raise ConfigError(
            f"target {target.name!r} takes networks to have {target.assumed} and sums that its "
            "converters round, to which fit does not train; cofit reproduce cap-ram does, cofit "
            "cost says what a network would cost, and fit takes forms, isaac, puma, ddc or digital"
        )
    return ModelledDevice(target)
