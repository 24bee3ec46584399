"""Published energies of operations, and of SRAM by its size (`energy.toml`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from cofit.core import UnknownNameError
from cofit.core.quantities import HardwareFile
from cofit.targets.dataflow.hardware import Hardware, Number

FILE = Path(__file__).with_name("energy.toml")
OPERATIONS = (
    "fp32_multiply", "fp32_add", "fp32_shift", "fp16_multiply", "fp16_add", "int32_multiply",
    "int32_add", "int16_add", "int8_multiply", "int8_add", "int8_shift",
)  # fmt: skip
_TOP: dict[str, type] = {
    "about": str, "node_nm": int, "source": dict, "operation": dict, "sram": list, "dram": dict,
}  # fmt: skip
_SRAM = {"size": "capacity", "read": "energy per bit"}
_DRAM = {"least": "energy per bit", "most": "energy per bit"}


@dataclass(frozen=True)
class Energies:
    """What is published of one node.

    Attributes:
        operation_pj: by name, for example "int8_multiply".
        sram: (capacity in bits, pJ to read a bit), smallest first.
        dram_pj_per_bit: least and most.
        node_nm: process.
        facts: sources of the numbers by kind.
    """

    operation_pj: Mapping[str, float]
    sram: tuple[tuple[float, float], ...]
    dram_pj_per_bit: tuple[float, float]
    node_nm: int
    facts: Mapping[str, str]


def operation_pj(name: str) -> float:
    """Energy of one operation at 45 nm, for example "int8_multiply".

    Raises:
        UnknownNameError: listing the known operations.
    """
    known = published_energies().operation_pj
    if name not in known:
        raise UnknownNameError("operation", name, known)
    return known[name]


def sram_pj_per_bit(bits: Number) -> Number:
    """Energy of reading a bit of an SRAM at 45 nm, by its capacity.

    A straight line between the published sizes in the logarithms of both, and on beyond them.
    """
    sizes, reads = np.log(np.array(published_energies().sram)).T
    at = np.log(bits)
    piece = np.clip(np.searchsorted(sizes, at) - 1, 0, len(sizes) - 2)
    slope = (reads[piece + 1] - reads[piece]) / (sizes[piece + 1] - sizes[piece])
    found = np.exp(reads[piece] + slope * (at - sizes[piece]))
    return found if isinstance(bits, np.ndarray) else float(found)


def dram_pj_per_bit() -> float:
    """Energy of a bit from or to DRAM: the middle of the published range."""
    return sum(published_energies().dram_pj_per_bit) / 2


def resized(hardware: Hardware, memory: str, bits: float) -> Hardware:
    """The accelerator with another capacity of a memory, its energies scaled as those of SRAM.

    The accelerator keeps its node: only the ratio of the two sizes is taken from the table.

    Raises:
        ConfigError: no memory has this name.
    """
    found = hardware.memory(memory)
    ratio = sram_pj_per_bit(bits) / sram_pj_per_bit(found.bits)
    return hardware.with_memory(
        memory,
        bits=bits,
        read_pj_per_bit=found.read_pj_per_bit * ratio,
        write_pj_per_bit=found.write_pj_per_bit * ratio,
        area_um2=None if found.area_um2 is None else found.area_um2 * bits / found.bits,
    )


@functools.cache
def published_energies() -> Energies:
    """The energies that come with cofit."""
    return read_energies(FILE)


def read_energies(path: Path) -> Energies:
    """Energies from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks unit or source, a source is of
            another node, sizes of SRAM do not rise, or the range of DRAM is none.
    """
    sheet = HardwareFile(path, "table", _TOP, _TOP)
    top = sheet.document
    operations = sheet.numbers(top["operation"], "operation", dict.fromkeys(OPERATIONS, "energy"))
    sizes = [
        sheet.numbers(entry, f"sram {index}", _SRAM) for index, entry in enumerate(top["sram"], 1)
    ]
    if len(sizes) < 2 or any(a["size"] >= b["size"] for a, b in pairwise(sizes)):
        raise sheet.fail("sram needs two sizes or more, the smallest first")
    if min(min(entry.values()) for entry in sizes) <= 0:
        raise sheet.fail("sizes and energies of sram must be above zero")
    dram = sheet.numbers(top["dram"], "dram", _DRAM, off_chip=True)
    if dram["least"] > dram["most"]:
        raise sheet.fail("dram.least is above dram.most")
    return Energies(
        operation_pj=operations,
        sram=tuple((entry["size"], entry["read"]) for entry in sizes),
        dram_pj_per_bit=(dram["least"], dram["most"]),
        node_nm=top["node_nm"],
        facts={"table": top["about"], "node": f"{top['node_nm']} nm", **sheet.facts()},
    )
