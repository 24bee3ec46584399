"""Published energies of operations, and of SRAM by its size (`energy.toml`)."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from cofit.core import UnknownNameError
from cofit.targets.dataflow.hardware import Hardware, Number


def operation_pj(name: str) -> float:
    """Energy of one operation at 45 nm, for example "int8_multiply".

    Raises:
        UnknownNameError: listing the known operations.
    """
    known: dict[str, float] = _table()["operations"]["pj"]
    if name not in known:
        raise UnknownNameError("operation", name, known)
    return known[name]


def sram_pj_per_bit(bits: Number) -> Number:
    """Energy of reading a bit of an SRAM at 45 nm, by its capacity.

    A straight line between the published sizes in the logarithms of both, and on beyond them.
    """
    sizes = np.log(np.array(_table()["sram"]["capacity_kib"]) * 8 * 1024.0)
    energies = np.log(np.array(_table()["sram"]["pj"]) / 64)
    at = np.log(bits)
    piece = np.clip(np.searchsorted(sizes, at) - 1, 0, len(sizes) - 2)
    slope = (energies[piece + 1] - energies[piece]) / (sizes[piece + 1] - sizes[piece])
    found = np.exp(energies[piece] + slope * (at - sizes[piece]))
    return found if isinstance(bits, np.ndarray) else float(found)


def dram_pj_per_bit() -> float:
    """Energy of a bit from or to DRAM: the middle of the published range."""
    low, high = _table()["dram"]["pj"]
    return float(low + high) / 2 / 64


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
def _table() -> dict[str, Any]:
    with Path(__file__).with_name("energy.toml").open("rb") as file:
        return tomllib.load(file)
