"""The table of cells and memories (`cells.toml`): areas, leakage, capacitances, energies."""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cofit.core import ConfigError, FileError

FUNCTIONS = (
    "INV", "BUF", "NAND2", "NOR2", "AND2", "OR2", "XOR2", "XNOR2", "AOI21", "OAI21", "MUX2",
)  # fmt: skip
"""In the order of `simulate.c`; inputs are A, B, C, the output is Y."""

KINDS = ("published", "derived", "chosen")
CELL_UNITS = {"area": "um2", "leakage": "nW", "capacitance": "fF", "energy": "fJ"}
NUMBERS = {
    "supply": {"voltage": "V", "clock": "MHz", "clock_pin": "fF"},
    "sram": {
        "bit_area": "um2", "array_share": "1", "read_8kib": "pJ/64 bit", "read_32kib": "pJ/64 bit",
    },
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
        ConfigError: a key is unknown or absent, a number is negative or not one, a unit is not the
            expected one, a source is not described or is of another node.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read the cells {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from error
    return _Reader(path.name, document).table()


class _Reader:
    """One file; every error names it and the key."""

    def __init__(self, file: str, document: dict[str, Any]) -> None:
        self._file, self._document = file, document

    def table(self) -> Table:
        """What the file says."""
        top = self._document
        self._keys(top, "", ("node_nm", "source", "cells", *NUMBERS))
        numbers = {
            key: self._number(top[part], part, key, unit)
            for part, units in NUMBERS.items()
            for key, unit in units.items()
        }
        for part, units in NUMBERS.items():
            self._keys(top[part], part, tuple(units))
        cells = top["cells"]
        self._keys(cells, "cells", ("source", "units", "DFF", *FUNCTIONS))
        self._source(cells["source"], "cells")
        if cells["units"] != CELL_UNITS:
            raise self._fail(f"cells.units is {cells['units']}; it must be {CELL_UNITS}")
        return Table(
            node_nm=top["node_nm"],
            cells={name: self._cell(name, cells[name]) for name in (*FUNCTIONS, "DFF")},
            functions={name: cells[name]["function"] for name in FUNCTIONS},
            voltage_v=numbers["voltage"],
            clock_hz=numbers["clock"] * 1e6,
            clock_pin_f=numbers["clock_pin"] * 1e-15,
            bit_um2=numbers["bit_area"] / numbers["array_share"],
            sram_8kib_j=numbers["read_8kib"] * 1e-12 / 64,
            sram_32kib_j=numbers["read_32kib"] * 1e-12 / 64,
            sources={
                key: f"{entry['kind']}: {entry['text']}" for key, entry in top["source"].items()
            },
        )

    def _fail(self, text: str) -> ConfigError:
        return ConfigError(f"{self._file}: {text}")

    def _keys(self, entry: dict[str, Any], where: str, known: tuple[str, ...]) -> None:
        prefix = f"{where}." if where else ""
        for key in entry:
            if key not in known:
                raise self._fail(f"unknown key {prefix}{key}; known: {', '.join(sorted(known))}")
        for key in known:
            if key not in entry:
                raise self._fail(f"{prefix}{key} is missing; add it")

    def _source(self, key: Any, where: str) -> None:
        sources = self._document["source"]
        if key not in sources:
            raise self._fail(f"{where}.source is {key!r}; known: {', '.join(sorted(sources))}")
        self._keys(sources[key], f"source.{key}", ("kind", "text", "node_nm"))
        if sources[key]["kind"] not in KINDS:
            raise self._fail(
                f"source.{key}.kind is {sources[key]['kind']!r}; known: {', '.join(KINDS)}"
            )
        if sources[key]["node_nm"] != self._document["node_nm"]:
            raise self._fail(
                f"{where} comes from {key!r} at {sources[key]['node_nm']} nm, the table is at "
                f"{self._document['node_nm']} nm; scale it and name a source of kind derived"
            )

    def _number(self, part: dict[str, Any], where: str, key: str, unit: str) -> float:
        name = f"{where}.{key}"
        if key not in part:
            raise self._fail(f"{name} is missing; add it")
        entry = part[key]
        if not isinstance(entry, dict):
            raise self._fail(
                f"{name} is {entry!r}; write {{ value = ..., unit = ..., source = ... }}"
            )
        self._keys(entry, name, ("value", "unit", "source"))
        if entry["unit"] != unit:
            raise self._fail(f"{name}.unit is {entry['unit']!r}; it must be {unit!r}")
        self._source(entry["source"], name)
        return self._positive(entry["value"], name)

    def _positive(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self._fail(f"{where} is {value!r}; it must be a positive number")
        return float(value)

    def _cell(self, name: str, entry: dict[str, Any]) -> Cell:
        keys = tuple(CELL_UNITS) if name == "DFF" else (*CELL_UNITS, "function")
        self._keys(entry, f"cells.{name}", keys)
        area, leakage, capacitance, energy = (
            self._positive(entry[key], f"cells.{name}.{key}") for key in CELL_UNITS
        )
        return Cell(area, leakage * 1e-9, capacitance * 1e-15, energy * 1e-15)
