"""A board or a phone as a target: rows per layer, modelled."""

from __future__ import annotations

from dataclasses import dataclass

from cofit.core import Basis, Cost, CostRow
from cofit.ir import Graph
from cofit.targets.contract import Limits
from cofit.targets.platforms.model import estimate
from cofit.targets.platforms.tables import Parameters
from cofit.targets.platforms.tiles import Tile, utilisation
from cofit.targets.platforms.work import LayerWork, works_of


@dataclass(frozen=True)
class Platform:
    """A modelled board or phone, batch 1.

    Layers run one after another; ops that do not multiply are fused into them. The energy of a row
    is that of its work and of static power while it runs.

    Attributes:
        found: its numbers.
    """

    found: Parameters

    @property
    def name(self) -> str:
        """For example "zcu102"."""
        return self.found.name

    @property
    def limits(self) -> Limits:
        """None: tensors lie in DRAM."""
        return Limits()

    @property
    def metrics(self) -> tuple[str, ...]:
        """No bytes: tensors lie in DRAM."""
        return ("latency", "energy")

    def facts(self) -> dict[str, str]:
        """What reports say of where the numbers come from."""
        return dict(self.found.facts)

    def cost(self, graph: Graph) -> Cost:
        """A row per layer; integer graphs are int8, others fp32.

        Raises:
            TargetError: no array fits the FPGA.
            ConfigError: nothing multiplies.
        """
        works = works_of(graph, "int8" if graph.is_integer else "fp32")
        result = estimate(self.found, works)
        static = self.found["board.static_power"]
        rows = []
        for work, layer in zip(works, result.layers, strict=True):
            latency = float(layer.latency_s[0])
            rows.append(
                CostRow(
                    op=work.name,
                    kind=work.kind,
                    latency_s=latency,
                    flash_bytes=int(work.weight_bytes),
                    ram_bytes=int(work.activation_bytes),
                    basis=Basis.MODELLED,
                    macs=work.macs,
                    energy_j=float(layer.energy_j[0]) + static * latency,
                    note=f"{layer.bound} binds{_occupied(work, result.tiles.get(work.precision))}",
                )
            )
        return Cost(self.name, tuple(rows))


def _occupied(work: LayerWork, tile: Tile | None) -> str:
    if tile is None:
        return ""
    share = utilisation(work.filters, work.channels, tile)
    return f"; {share:.0%} of {tile.filters} x {tile.channels} multipliers"
