"""Energy of what a netlist did: toggles times what an edge costs, clock, leakage, memories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.rtl.cells import FUNCTIONS, Table, default_table
from cofit.rtl.netlist import Netlist
from cofit.rtl.simulation import Simulator


@dataclass(frozen=True)
class Energy:
    """Joules per vector since the simulator began to count.

    Attributes:
        logic_j: edges of nets: inside the driving cell, and charging the input pins it drives.
            Without wires and glitches.
        clock_j: the flip-flops' clock pins, each cycle, without a clock tree.
        leakage_j: of all cells at the table's clock.
        memory_j: accesses by memory.
    """

    logic_j: float
    clock_j: float
    leakage_j: float
    memory_j: dict[str, float]

    def __add__(self, other: Energy) -> Energy:
        names = {**self.memory_j, **other.memory_j}
        return Energy(
            self.logic_j + other.logic_j,
            self.clock_j + other.clock_j,
            self.leakage_j + other.leakage_j,
            {n: self.memory_j.get(n, 0.0) + other.memory_j.get(n, 0.0) for n in names},
        )

    @property
    def cells_j(self) -> float:
        """Without memories."""
        return self.logic_j + self.clock_j + self.leakage_j

    @property
    def total_j(self) -> float:
        """With them."""
        return self.cells_j + sum(self.memory_j.values())


def energy(simulator: Simulator, table: Table | None = None) -> Energy:
    """What the counted cycles cost, per vector."""
    chosen = default_table() if table is None else table
    netlist = simulator.netlist
    edges = simulator.toggles @ edge_j(netlist, chosen) / simulator.vectors
    period_s = 1 / chosen.clock_hz
    leakage_w = sum(chosen.cells[name].leakage_w * n for name, n in netlist.cells().items())
    clock_j = len(netlist.flops) * chosen.clock_pin_f * chosen.voltage_v**2
    accesses = simulator.reads + simulator.writes
    return Energy(
        logic_j=float(edges),
        clock_j=simulator.cycles * clock_j,
        leakage_j=simulator.cycles * period_s * leakage_w,
        memory_j={
            ram.name: int(count) * chosen.sram_j(ram.bits, ram.width)
            for ram, count in zip(netlist.rams, accesses, strict=True)
        },
    )


def edge_j(netlist: Netlist, table: Table) -> NDArray[np.float64]:
    """Energy of one edge of each net: inside its driver, and 1/2 C V^2 of the pins it drives."""
    inside = np.zeros(netlist.nets)
    load_f = np.zeros(netlist.nets)
    for number, name in enumerate(FUNCTIONS):
        cell = table.cells[name]
        gates = netlist.gates[netlist.gates[:, 0] == number]
        inside[gates[:, 4]] = cell.energy_j
        pins = sum(letter in table.functions[name] for letter in "ABC")
        np.add.at(load_f, gates[:, 1 : 1 + pins], cell.input_f)
    inside[netlist.flops[:, 1]] = table.cells["DFF"].energy_j
    np.add.at(load_f, netlist.flops[:, 0], table.cells["DFF"].input_f)
    return inside + 0.5 * load_f * table.voltage_v**2
