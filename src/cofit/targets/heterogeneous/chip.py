"""Budgets of units, bandwidth and buffer that sub-accelerators share (`chips.toml`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cofit.core import ConfigError, UnknownNameError
from cofit.core.quantities import HardwareFile
from cofit.targets.dataflow import TENSORS, Axis, Hardware, Memory

FILE = Path(__file__).with_name("chips.toml")
_TOP: dict[str, type] = {
    "name": str, "about": str, "node_nm": int, "source": dict, "parts": dict, "dram": dict,
    "class": dict,
}  # fmt: skip
_PARTS = {
    "clock": "clock", "psum_bits": "count", "unit_size": "capacity", "mac_energy": "energy",
    "unit_energy": "energy per bit", "buffer_energy": "energy per bit", "mac_area": "area",
    "bit_area": "area",
}  # fmt: skip
_CLASS = {"units": "count", "bandwidth": "bandwidth", "buffer": "capacity"}


@dataclass(frozen=True)
class Chip:
    """What sub-accelerators share.

    Attributes:
        name: of the class, for example "edge".
        units: multipliers, all together.
        bandwidth: bits per cycle between the buffer and all arrays; the link to DRAM has the same.
        buffer_bits: of the shared buffer.
        unit_bits: of the memory of one unit.
        psum_bits: width of a sum that is not finished.
        clock_hz: cycles per second.
        mac_pj: energy of a multiply-accumulate.
        unit_pj_per_bit: energy of the memory of a unit.
        buffer_pj_per_bit: energy of the buffer.
        dram_pj_per_bit: energy of DRAM.
        mac_um2: area of a multiplier.
        bit_um2: area of a bit of memory.
        facts: sources of the numbers by kind.

    Raises:
        ConfigError: a budget is not positive.
    """

    name: str
    units: int
    bandwidth: float
    buffer_bits: float
    unit_bits: float
    psum_bits: int
    clock_hz: float
    mac_pj: float
    unit_pj_per_bit: float
    buffer_pj_per_bit: float
    dram_pj_per_bit: float
    mac_um2: float
    bit_um2: float
    facts: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name in ("units", "bandwidth", "buffer_bits"):
            if getattr(self, name) <= 0:
                raise ConfigError(
                    f"chip {self.name!r}: {name} is {getattr(self, name)}; it must be positive"
                )

    def area_mm2(self, units: float | None = None) -> float:
        """Area of some units (all, if None) with their memories, and of the buffer."""
        each = self.mac_um2 + self.unit_bits * self.bit_um2
        count = self.units if units is None else units
        return (count * each + self.buffer_bits * self.bit_um2) * 1e-6

    def hardware(self) -> Hardware:
        """An array of all units without limits of bandwidth, as `evaluate` takes it."""
        unit = Memory(
            "unit", 0, TENSORS, self.unit_bits, self.unit_pj_per_bit, self.unit_pj_per_bit,
            double_buffered=True, latched=True,
        )  # fmt: skip
        buffer = Memory(
            "buffer", 1, TENSORS, self.buffer_bits, self.buffer_pj_per_bit, self.buffer_pj_per_bit,
            double_buffered=True,
        )  # fmt: skip
        energy = self.dram_pj_per_bit
        dram = Memory("dram", 2, TENSORS, float("inf"), energy, energy)
        return Hardware(
            self.name,
            (Axis(self.units, ()),),
            (unit, buffer, dram),
            self.clock_hz,
            self.mac_pj,
            psum_bits=self.psum_bits,
        )

    def scaled(self, units: int, bandwidth: float, buffer_bits: float) -> Chip:
        """The same parts in another budget (units, bits per cycle, bits)."""
        return replace(self, units=units, bandwidth=bandwidth, buffer_bits=buffer_bits)


def known_chips() -> tuple[str, ...]:
    """Names of the classes."""
    return tuple(_chips())


def chip(name: str) -> Chip:
    """A class by name: "edge", "mobile" or "cloud".

    Raises:
        UnknownNameError: listing the known ones.
    """
    if name not in _chips():
        raise UnknownNameError("chip", name, _chips())
    return _chips()[name]


@functools.cache
def _chips() -> dict[str, Chip]:
    return read_chips(FILE)


def read_chips(path: Path) -> dict[str, Chip]:
    """Classes by name from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks unit or source, a source is of
            another node, or a budget is not positive.
    """
    file = HardwareFile(path, "chip", _TOP, _TOP)
    top = file.document
    parts = file.numbers(top["parts"], "parts", _PARTS)
    dram = file.numbers(top["dram"], "dram", {"energy": "energy per bit"}, off_chip=True)
    classes = {
        name: file.numbers(entry, f"class.{name}", _CLASS) for name, entry in top["class"].items()
    }
    facts = {"node": f"{top['node_nm']} nm", **file.facts()}
    return {
        name: Chip(
            name=name,
            units=int(budget["units"]),
            bandwidth=budget["bandwidth"],
            buffer_bits=budget["buffer"],
            unit_bits=parts["unit_size"],
            psum_bits=int(parts["psum_bits"]),
            clock_hz=parts["clock"],
            mac_pj=parts["mac_energy"],
            unit_pj_per_bit=parts["unit_energy"],
            buffer_pj_per_bit=parts["buffer_energy"],
            dram_pj_per_bit=dram["energy"],
            mac_um2=parts["mac_area"],
            bit_um2=parts["bit_area"],
            facts=facts,
        )
        for name, budget in classes.items()
    }
