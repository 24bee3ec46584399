"""Synthesis to standard cells, and the netlist as arrays in order of evaluation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.core import BuildError
from cofit.rtl.cells import FUNCTIONS, Table, default_table
from cofit.rtl.yosys import run_yosys

ZERO, ONE = 0, 1
"""Nets of the two constants."""

PINS = ("A", "B", "C")


@dataclass(frozen=True)
class Ram:
    """A memory that synthesis left as a macro; nets, lowest bit first (-1: unread output)."""

    name: str
    depth: int
    enable: int
    write: int
    address: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bits of a word."""
        return len(self.inputs)

    @property
    def bits(self) -> int:
        """Stored."""
        return self.width * self.depth


@dataclass(frozen=True, eq=False)
class Netlist:
    """A mapped design.

    Attributes:
        nets: their number, constants included.
        ports: nets by port, lowest bit first.
        gates: (G, 5) function, three inputs, output; each after what it reads.
        flops: (F, 2) input, output.
        rams: macros.
        depth: gates on the longest path between registers.
    """

    nets: int
    ports: dict[str, tuple[int, ...]]
    gates: NDArray[np.int32]
    flops: NDArray[np.int32]
    rams: tuple[Ram, ...]
    depth: int

    def cells(self) -> Counter[str]:
        """Number of each cell."""
        found = Counter({FUNCTIONS[f]: int(n) for f, n in _counted(self.gates[:, 0])})
        found["DFF"] = len(self.flops)
        return found

    def logic_um2(self, table: Table | None = None) -> float:
        """Area of all cells, without wires and memories."""
        chosen = default_table() if table is None else table
        return sum(chosen.cells[name].area_um2 * count for name, count in self.cells().items())

    def memory_um2(self, table: Table | None = None) -> float:
        """Area of all memories."""
        chosen = default_table() if table is None else table
        return sum(ram.bits for ram in self.rams) * chosen.bit_um2


def synthesise(verilog: str, macros: str, top: str, table: Table | None = None) -> Netlist:
    """Map a design to the table's cells.

    Args:
        verilog: all modules but the memories.
        macros: modules that stay as they are (the memories), or "".
        top: its top module.
        table: of cells; the default one if None.

    Raises:
        MissingDependencyError: Yosys is not installed.
        BuildError: Yosys refused the design, or a cell cannot be simulated.
    """
    chosen = default_table() if table is None else table
    files = {"design.v": verilog, "macros.v": macros, "cells.lib": chosen.liberty()}
    script = f"""\
read_liberty -lib cells.lib
read_verilog -lib macros.v
read_verilog design.v
synth -noabc -flatten -top {top}
dfflibmap -liberty cells.lib
abc -liberty cells.lib
opt_clean -purge
check -assert
write_json netlist.json
"""
    document = json.loads(run_yosys(files, script, "netlist.json"))
    return read_netlist(document["modules"][top])


def read_netlist(module: Mapping[str, Any]) -> Netlist:
    """A netlist from a module of Yosys' JSON.

    Raises:
        BuildError: it has a cell that is not in the table, or a loop without a register.
    """
    numbers: dict[int, int] = {}

    def net(bit: int | str) -> int:
        if isinstance(bit, str):  # an undefined constant is anything, zero too
            return ONE if bit == "1" else ZERO
        return numbers.setdefault(bit, len(numbers) + 2)

    ports = {
        name: tuple(net(bit) for bit in port["bits"]) for name, port in module["ports"].items()
    }
    gates, flops, rams = [], [], []
    for name, cell in module["cells"].items():
        kind, wires = cell["type"], cell["connections"]
        if kind == "DFF":
            flops.append((net(wires["D"][0]), net(wires["Q"][0])))
        elif kind in FUNCTIONS:
            inputs = [net(wires[pin][0]) if pin in wires else ZERO for pin in PINS]
            gates.append((FUNCTIONS.index(kind), *inputs, net(wires["Y"][0])))
        elif "ram" in kind:
            rams.append(_ram(name, cell, net))
        else:
            raise BuildError(f"cell {name} is a {kind}; known: {', '.join(FUNCTIONS)}, DFF, ram")
    ordered, depth = _levelled(np.array(gates, np.int32).reshape(-1, 5), len(numbers) + 2)
    return Netlist(
        nets=len(numbers) + 2, ports=ports, gates=ordered,
        flops=np.array(flops, np.int32).reshape(-1, 2), rams=tuple(rams), depth=depth,
    )  # fmt: skip


def _ram(name: str, cell: Mapping[str, Any], net: Any) -> Ram:
    wires = cell["connections"]
    return Ram(
        name=name.split(".")[-1],
        depth=int(cell["parameters"]["DEPTH"], 2),
        enable=net(wires["enable"][0]),
        write=net(wires["write"][0]),
        address=tuple(net(bit) for bit in wires["address"]),
        inputs=tuple(net(bit) for bit in wires["in"]),
        outputs=tuple(-1 if isinstance(bit, str) else net(bit) for bit in wires["out"]),
    )


def _levelled(gates: NDArray[np.int32], nets: int) -> tuple[NDArray[np.int32], int]:
    """Gates by level, so that each follows what it reads, and the number of levels."""
    level = np.zeros(nets, np.int64)
    for _ in range(len(gates) + 1):
        found = level[gates[:, 1:4]].max(axis=1, initial=0) + 1
        if (found == level[gates[:, 4]]).all():
            order = np.argsort(found, kind="stable")
            return np.ascontiguousarray(gates[order]), int(found.max(initial=0))
        level[gates[:, 4]] = found
    raise BuildError("the netlist has a loop without a register")


def _counted(values: NDArray[np.int32]) -> Sequence[tuple[int, int]]:
    found, counts = np.unique(values, return_counts=True)
    return list(zip(found.tolist(), counts.tolist(), strict=True))
