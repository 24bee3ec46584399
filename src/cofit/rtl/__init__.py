"""Floor 4: hardware as Verilog: generated, simulated bit for bit, synthesised and priced.

An `Engine` computes Bayesian layers in the standard flow or with decomposition and memorisation
(BNN-DM, Jia et al. 2021). `Engine.verilog` is the design; `sums` says in integers what it computes;
`synthesise` maps it to 45 nm cells with Yosys; `Simulator` runs the mapped netlist for many vectors
at once; `energy` prices the toggles. `mac` is a multiply-accumulate of an array, `stream_mac`
passes operands through it, `measured_energy` makes the table of `cofit.targets.datapath`.
"""

from cofit.rtl.cells import Cell, Table, default_table, read_table
from cofit.rtl.cxxrtl import VerilogSimulator
from cofit.rtl.design import Engine, source
from cofit.rtl.drive import Layer, compute, load, reset
from cofit.rtl.energy import Energy, edge_j, energy
from cofit.rtl.mac import Streamed, mac, stream_mac
from cofit.rtl.mac_energy import MacEnergy, measured_energy
from cofit.rtl.model import drawn, normals, sums
from cofit.rtl.netlist import Netlist, Ram, read_netlist, synthesise
from cofit.rtl.simulation import Simulator
from cofit.rtl.yosys import yosys

__all__ = [
    "Cell",
    "Energy",
    "Engine",
    "Layer",
    "MacEnergy",
    "Netlist",
    "Ram",
    "Simulator",
    "Streamed",
    "Table",
    "VerilogSimulator",
    "compute",
    "default_table",
    "drawn",
    "edge_j",
    "energy",
    "load",
    "mac",
    "measured_energy",
    "normals",
    "read_netlist",
    "read_table",
    "reset",
    "source",
    "stream_mac",
    "sums",
    "synthesise",
    "yosys",
]
