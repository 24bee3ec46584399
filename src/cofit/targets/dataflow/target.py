"""An accelerator as a target: every layer by its best mapping, the rest on its vector lanes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cofit.core import Basis, Cost, CostRow
from cofit.ir import Graph, Op
from cofit.targets.contract import Limits
from cofit.targets.dataflow.hardware import Hardware
from cofit.targets.dataflow.layer import Layer
from cofit.targets.dataflow.mapped import Mapped
from cofit.targets.dataflow.network import layers_of
from cofit.targets.dataflow.row_stationary import map_rows
from cofit.targets.dataflow.search import search

VIEWS = ("reshape",)


@dataclass(frozen=True)
class Accelerator:
    """A modelled accelerator.

    Layers run one after another; each reads its tensors from DRAM and writes them back. Ops
    without multiply-accumulates run on the vector lanes, limited by those or by DRAM; activation
    functions that are fused into a layer are free. Flash counts weights, RAM the activations of an
    op: both lie in DRAM, which is not limited.

    Attributes:
        hardware: what it is made of.
        objective: of the search for mappings: "edp", "energy" or "cycles".
    """

    hardware: Hardware
    objective: str = "edp"

    @property
    def name(self) -> str:
        """For example "eyeriss"."""
        return self.hardware.name

    @property
    def limits(self) -> Limits:
        """None: tensors lie in DRAM."""
        return Limits()

    @property
    def metrics(self) -> tuple[str, ...]:
        """No bytes: tensors lie in DRAM."""
        return ("latency", "energy")

    def facts(self) -> dict[str, str]:
        """What reports say about this hardware: node, and sources of its numbers by kind."""
        return dict(self.hardware.facts)

    def best(self, layer: Layer) -> Mapped:
        """The layer's best mapping.

        Raises:
            TargetError: none fits.
        """
        find = map_rows if self.hardware.stationary == "row" else search
        return find(layer, self.hardware, self.objective)

    def cost(self, graph: Graph) -> Cost:
        """A row per op.

        Raises:
            TargetError: a layer has no mapping that fits.
        """
        seen: dict[Layer, Mapped] = {}
        rows = []
        for op in graph.ops:
            layers = layers_of(graph, op, self.hardware.mac_bits, self.hardware.psum_bits)
            for layer in layers:
                shape = replace(layer, name="")
                if shape not in seen:
                    seen[shape] = self.best(layer)
            found = [seen[replace(layer, name="")] for layer in layers]
            rows.append(
                self._mapped_row(graph, op, found) if found else self._vector_row(graph, op)
            )
        return Cost(self.name, tuple(rows))

    def _mapped_row(self, graph: Graph, op: Op, found: list[Mapped]) -> CostRow:
        cycles = sum(mapped.cycles for mapped in found)
        macs = sum(mapped.layer.macs for mapped in found)
        share = macs / (cycles * self.hardware.units)
        note = f"{share:.0%} of the array, {found[0].bound} binds; {found[0].text}"
        return CostRow(
            op=op.output,
            kind=op.kind,
            latency_s=cycles / self.hardware.clock_hz,
            flash_bytes=self._weight_bytes(graph, op),
            ram_bytes=self._activation_bytes(graph, op),
            basis=Basis.MODELLED,
            macs=macs,
            energy_j=sum(mapped.energy_pj for mapped in found) * 1e-12,
            note=note,
        )

    def _vector_row(self, graph: Graph, op: Op) -> CostRow:
        """An op that reads and writes every element once."""
        if op.kind in VIEWS:
            return CostRow(op.output, op.kind, 0.0, 0, 0, Basis.MODELLED, energy_j=0.0, note="view")
        dram = self.hardware.dram
        read = 8 * (self._activation_bytes(graph, op, inputs_only=True))
        write = 8 * self._activation_bytes(graph, op) - read
        lanes = (
            max(graph.tensors[n].size for n in (op.output, *op.inputs)) / self.hardware.simd_lanes
        )
        link = 0.0
        if dram.read_bits_per_cycle is not None and dram.write_bits_per_cycle is not None:
            link = float(read / dram.read_bits_per_cycle + write / dram.write_bits_per_cycle)
        energy = float(read * dram.read_pj_per_bit + write * dram.write_pj_per_bit)
        return CostRow(
            op=op.output,
            kind=op.kind,
            latency_s=max(lanes, link) / self.hardware.clock_hz,
            flash_bytes=self._weight_bytes(graph, op),
            ram_bytes=self._activation_bytes(graph, op),
            basis=Basis.MODELLED,
            energy_j=energy * 1e-12,
            note="vector lanes" if lanes >= link else "vector lanes, dram binds",
        )

    def _weight_bytes(self, graph: Graph, op: Op) -> int:
        constants = (graph.tensors[name] for name in op.inputs)
        return sum(tensor.nbytes for tensor in constants if tensor.data is not None)

    def _activation_bytes(self, graph: Graph, op: Op, inputs_only: bool = False) -> int:
        names = dict.fromkeys(op.inputs if inputs_only else (*op.inputs, op.output))
        tensors = (graph.tensors[name] for name in names)
        return sum(tensor.nbytes for tensor in tensors if tensor.data is None)
