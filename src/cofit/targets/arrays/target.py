"""A chip of arrays as a target: layers on its arrays, the rest on a few lanes beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cofit.core import Basis, Cost, CostRow
from cofit.ir import Graph, Op
from cofit.targets.arrays.activity import Activity
from cofit.targets.arrays.charge_chip import ChargeChip, check_capacity
from cofit.targets.arrays.crossbar_chip import CrossbarChip
from cofit.targets.arrays.matrix import Matrix, MatrixCost, matrices_of
from cofit.targets.arrays.tables import Chip
from cofit.targets.contract import Limits

VIEWS = ("reshape",)


@dataclass(frozen=True)
class ArrayTarget:
    """A modelled chip of in-memory arrays.

    Layers run one after another, one image at a time. Weights of crossbars are written beforehand;
    a digital macro loads them each time. The chip is taken to be as large as the network needs,
    except a single macro in which all must fit. Row groups that a structure leaves empty are not
    stored. Where groups hold one sign (FORMS), a layer whose structure does not say so takes twice
    the cells, its signs apart; where words serve pairs of filters (DDC-PIM), one without pairs
    takes twice the words. On CAP-RAM networks are costed as if trained to its weights. Notes say
    so.

    Attributes:
        chip: what it is made of.
        activity: of the inputs of layers, by op name; what is absent counts as every input plane
            read and every row driven.
    """

    chip: Chip
    activity: Mapping[str, Activity] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For example "forms"."""
        return self.chip.name

    @property
    def limits(self) -> Limits:
        """None in bytes; whether weights fit a single macro is checked with the graph."""
        return Limits()

    @property
    def metrics(self) -> tuple[str, ...]:
        """No bytes; no energy where none is known."""
        return ("latency", "energy") if self.chip.states_energy else ("latency",)

    @property
    def assumed(self) -> str | None:
        """What every network is taken to have been trained to, None where it is costed as it is."""
        return self.chip.assumed

    def facts(self) -> dict[str, str]:
        """What reports say about this hardware: node, and sources of its numbers by kind."""
        count = len(self.activity)
        rest = "every plane is read and every row driven"
        text = f"recorded for {count} layers, for others {rest}" if count else rest
        return {**self.chip.facts, "inputs": text}

    def cost(self, graph: Graph) -> Cost:
        """A row per op.

        Raises:
            TargetError: a layer multiplies activations, or the weights do not fit the macro.
        """
        group = self.chip.sign_group
        layers = {op.output: matrices_of(graph, op, sign_group=group) for op in graph.ops}
        if isinstance(self.chip, ChargeChip):
            named = {
                f"{name} {i}": matrix
                for name, found in layers.items()
                for i, matrix in enumerate(found)
            }
            check_capacity(self.chip, named)
        rows = [
            self._layer_row(graph, op, layers[op.output])
            if layers[op.output]
            else self._lane_row(graph, op)
            for op in graph.ops
        ]
        return Cost(self.name, tuple(rows))

    def _layer_row(self, graph: Graph, op: Op, matrices: tuple[Matrix, ...]) -> CostRow:
        found = [self.chip.cost(matrix, self.activity.get(op.output)) for matrix in matrices]
        energies = [cost.total_pj for cost in found if cost.total_pj is not None]
        return CostRow(
            op=op.output,
            kind=op.kind,
            latency_s=sum(cost.latency_s for cost in found),
            flash_bytes=self._bytes(graph, op, constants=True),
            ram_bytes=self._bytes(graph, op, constants=False),
            basis=Basis.MODELLED,
            macs=sum(matrix.macs for matrix in matrices),
            energy_j=sum(energies) * 1e-12 if energies else None,
            note=self._note(matrices[0], found[0], len(found)),
        )

    def _note(self, matrix: Matrix, cost: MatrixCost, count: int) -> str:
        several = f", first of {count} products" if count > 1 else ""
        parts = dict(cost.energy_pj or {})
        largest = max(parts, key=lambda name: parts[name]) if parts else None
        share = (
            f", {largest} {parts[largest] / sum(parts.values()):.0%} of energy" if largest else ""
        )
        match self.chip:
            case CrossbarChip():
                where = f"{cost.arrays} arrays, {cost.used:.0%} of their cells"
                group = self.chip.sign_group
                held = "positive and negative parts apart" if matrix.mixed else "one sign each"
                taken = "" if group is None else f"; groups of {group}: {held}"
            case ChargeChip():
                where = f"{cost.used:.0%} of the macro's sums"
                taken = f"; taken as {self.chip.assumed}"
            case _:
                where = f"{cost.used:.0%} of the macro"
                held = "filters in pairs" if matrix.paired else "filters apart"
                taken = f"; {held}" if self.chip.pairs else ""
        return f"{where}{share}{taken}{several}"

    def _lane_row(self, graph: Graph, op: Op) -> CostRow:
        """An op that reads and writes every element once."""
        if op.kind in VIEWS:
            return CostRow(op.output, op.kind, 0.0, 0, 0, Basis.MODELLED, note="view")
        elements = max(graph.tensors[n].size for n in (op.output, *op.inputs))
        energy = None
        if isinstance(self.chip, CrossbarChip):
            bits = 8 * self._bytes(graph, op, constants=False)
            energy = bits * (self.chip.buffer_pj + self.chip.bus_pj) * 1e-12
        return CostRow(
            op=op.output,
            kind=op.kind,
            latency_s=elements / self.chip.lanes / self.chip.clock_hz,
            flash_bytes=self._bytes(graph, op, constants=True),
            ram_bytes=self._bytes(graph, op, constants=False),
            basis=Basis.MODELLED,
            energy_j=energy,
            note="lanes",
        )

    def _bytes(self, graph: Graph, op: Op, constants: bool) -> int:
        names = dict.fromkeys((*op.inputs, op.output))
        tensors = (graph.tensors[name] for name in names)
        return sum(tensor.nbytes for tensor in tensors if (tensor.data is not None) == constants)
