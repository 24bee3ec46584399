"""The table of cells and memories (`cells.toml`): areas, leakage, capacitances, energies."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cofit.core.quantities import HardwareFile

FUNCTIONS = (
    "INV", "BUF", "NAND2", "NOR2", "AND2", "OR2", "XOR2", "XNOR2", "AOI21", "OAI21", "MUX2",
)  # fmt: skip
"""In the order of `simulate.c`; inputs are A, B, C, the output is Y."""

FLOP = "DFF"
CELL = {"area": "area", "leakage": "power", "capacitance": "capacitance", "energy": "energy"}
"""What each number of a cell measures."""

NUMBERS = {
    "supply": {"voltage": "voltage", "clock": "clock", "clock_pin": "capacitance"},
    "sram": {
        "bit_area": "area", "array_share": "share", "read_8kib": "energy per bit",
        "read_32kib": "energy per bit",
    },
}  # fmt: skip
"""By table, what each of its numbers measures."""

TOP: dict[str, type] = {
    "node_nm": int, "source": dict, "cells": dict, **dict.fromkeys(NUMBERS, dict),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A standard cell.

    Attributes:
        area_um2: of the layout.
        leakage_w: mean over states.
        input_f: capacitance of an input pin, in farad.
        energy_j: inside the cell, per edge of the output.
    """

    area_um2: float
    leakage_w: float
    input_f: float
    energy_j: float


@dataclass(frozen=True)
class Table:
    """What a design is priced with; SI units but for areas.

    Attributes:
        node_nm: process.
        cells: by name, those of `FUNCTIONS` and "DFF".
        functions: Boolean function of each but the flip-flop, as Liberty writes it.
        voltage_v, clock_hz: supply.
        clock_pin_f: capacitance of a flip-flop's clock pin.
        bit_um2: area of a stored bit with its share of the periphery.
        sram_8kib_j, sram_32kib_j: energy of reading a bit.
        sources: kind and text of each.
    """

    node_nm: int
    cells: dict[str, Cell]
    functions: dict[str, str]
    voltage_v: float
    clock_hz: float
    clock_pin_f: float
    bit_um2: float
    sram_8kib_j: float
    sram_32kib_j: float
    sources: dict[str, str]

    def sram_j(self, bits: int, width: int) -> float:
        """Energy of an access of `width` bits to a memory of `bits`, on the line in logarithms."""
        slope = math.log(self.sram_32kib_j / self.sram_8kib_j) / math.log(4)
        return width * self.sram_8kib_j * math.pow(bits / (8 * 1024 * 8), slope)

    def liberty(self) -> str:
        """The cells as a Liberty file for mapping."""
        lines = ["library (cofit) {"]
        for name, cell in self.cells.items():
            lines.append(f"  cell ({name}) {{ area : {cell.area_um2};")
            if name == "DFF":
                lines.append('    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }')
                lines += ["    pin (CK) { direction : input; clock : true; }", _pin("D", cell)]
                lines.append('    pin (Q) { direction : output; function : "IQ"; }')
            else:
                function = self.functions[name]
                lines += [_pin(pin, cell) for pin in "ABC" if pin in function]
                lines.append(f'    pin (Y) {{ direction : output; function : "{function}"; }}')
            lines.append("  }")
        return "\n".join([*lines, "}", ""])


def _pin(name: str, cell: Cell) -> str:
    return f"    pin ({name}) {{ direction : input; capacitance : {cell.input_f * 1e15:.4g}; }}"


@functools.cache
def default_table() -> Table:
    """The table that comes with cofit."""
    return read_table(Path(__file__).with_name("cells.toml"))


def read_table(path: Path) -> Table:
    """A table from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number is not positive or lacks its unit or
            source, a unit does not measure the quantity, or a source is of another node.
    """
    sheet = HardwareFile(path, "table", TOP, TOP)
    document = sheet.document
    found = {
        name: _positive(sheet, sheet.numbers(document[name], name, known), name)
        for name, known in NUMBERS.items()
    }
    cells = document["cells"]
    sheet.keys(cells, "cells", wanted := ("source", "units", *FUNCTIONS, FLOP), wanted)
    sheet.keys(cells["units"], "cells.units", CELL, CELL)
    supply, sram = found["supply"], found["sram"]
    return Table(
        node_nm=document["node_nm"],
        cells={name: _cell(sheet, cells, name) for name in (*FUNCTIONS, FLOP)},
        functions={name: cells[name]["function"] for name in FUNCTIONS},
        voltage_v=supply["voltage"],
        clock_hz=supply["clock"],
        clock_pin_f=supply["clock_pin"],
        bit_um2=sram["bit_area"] / sram["array_share"],
        sram_8kib_j=sram["read_8kib"] * 1e-12,
        sram_32kib_j=sram["read_32kib"] * 1e-12,
        sources={key: f"{source.kind}: {source.text}" for key, source in sheet.sources.items()},
    )


def _cell(sheet: HardwareFile, cells: Mapping[str, Any], name: str) -> Cell:
    """One cell; its numbers share the units and the source of all cells."""
    entry, where = cells[name], f"cells.{name}"
    keys = tuple(CELL) if name == FLOP else (*CELL, "function")
    sheet.keys(entry, where, keys, keys)
    stated = {
        key: {"value": entry[key], "unit": cells["units"][key], "source": cells["source"]}
        for key in CELL
    }
    found = _positive(sheet, sheet.numbers(stated, where, CELL), where)
    return Cell(found["area"], found["leakage"], found["capacitance"], found["energy"] * 1e-12)


def _positive(sheet: HardwareFile, numbers: dict[str, float], where: str) -> dict[str, float]:
    """The numbers; nothing here may be zero."""
    for key, value in numbers.items():
        if not value:
            raise sheet.fail(f"{where}.{key} is 0; it must be above zero")
    return numbers
