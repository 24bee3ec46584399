"""Accelerators from TOML files in which every number has a unit, a node and a source."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cofit.core import ConfigError, UnknownNameError
from cofit.core.quantities import HardwareFile
from cofit.targets.dataflow.hardware import SPARSE_USES, Axis, Hardware, Memory
from cofit.targets.dataflow.layer import DIMS

PRESETS = Path(__file__).with_name("presets")

ARRAY = {
    "clock": "clock", "mac_energy": "energy", "mac_bits": "count", "psum_bits": "count",
    "simd_lanes": "count", "noc_energy": "energy per bit", "psum_energy": "energy per bit",
    "noc_bandwidth": "bandwidth", "leakage": "power", "mac_area": "area", "index_bits": "count",
}  # fmt: skip
ARRAY_NEEDS = ("clock", "mac_energy", "mac_bits", "psum_bits", "simd_lanes")
MEMORY = {
    "size": "capacity", "read_energy": "energy per bit", "write_energy": "energy per bit",
    "read_bandwidth": "bandwidth", "write_bandwidth": "bandwidth", "area": "area",
}  # fmt: skip
MEMORY_NEEDS = ("size", "read_energy", "write_energy")
MEMORY_PLAIN: dict[str, type] = {
    "name": str, "level": int, "tensors": list, "one_port": bool, "double_buffered": bool,
    "latched": bool, "shared_over": list,
}  # fmt: skip
TOP: dict[str, type] = {
    "name": str, "about": str, "node_nm": int, "stationary": str, "multicast": bool,
    "reduces": bool, "systolic": bool, "source": dict, "array": dict, "axis": list, "memory": list,
    "sparse": dict,
}  # fmt: skip
TOP_NEEDS = ("name", "about", "node_nm", "stationary", "source", "array", "axis", "memory")


def known_accelerators() -> tuple[str, ...]:
    """Names of the accelerators that come with cofit."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


@functools.cache
def accelerator(name: str) -> Hardware:
    """An accelerator by name.

    Raises:
        UnknownNameError: listing the known ones.
    """
    if name not in known_accelerators():
        raise UnknownNameError("accelerator", name, known_accelerators())
    return read_accelerator(PRESETS / f"{name}.toml")


def read_accelerator(path: Path) -> Hardware:
    """An accelerator from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks unit or source, a unit does not
            measure the quantity, or a source is of another node than the file.
    """
    return _Reader(path).hardware()


class _Reader(HardwareFile):
    """One accelerator."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "accelerator", TOP, TOP_NEEDS)

    def hardware(self) -> Hardware:
        """What the file says."""
        top = self.document
        array = self.numbers(top["array"], "array", ARRAY, ARRAY_NEEDS)
        axes = tuple(self._axis(entry, f"axis {i}") for i, entry in enumerate(top["axis"], 1))
        memories = tuple(self._memory(entry, i) for i, entry in enumerate(top["memory"], 1))
        try:
            return Hardware(
                name=top["name"],
                axes=axes,
                memories=memories,
                clock_hz=array["clock"],
                mac_pj=array["mac_energy"],
                mac_bits=int(array["mac_bits"]),
                stationary=top["stationary"],
                multicast=top.get("multicast", True),
                reduces=top.get("reduces", True),
                systolic=top.get("systolic", False),
                simd_lanes=int(array["simd_lanes"]),
                noc_pj_per_bit=array.get("noc_energy", 0.0),
                psum_pj_per_bit=array.get("psum_energy", 0.0),
                psum_bits=int(array["psum_bits"]),
                noc_bits_per_cycle=array.get("noc_bandwidth"),
                leakage_w=array.get("leakage", 0.0),
                sparse=self._sparse(top.get("sparse", {})),
                index_bits=array.get("index_bits", 0.0),
                mac_um2=array.get("mac_area"),
                node_nm=top["node_nm"],
                facts={"accelerator": top["about"], "node": f"{top['node_nm']} nm", **self.facts()},
            )
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}") from error

    def _axis(self, entry: Mapping[str, Any], where: str) -> Axis:
        self.keys(entry, where, ("dims", "size"), ("dims", "size"))
        size = self.number(entry["size"], f"{where}.size", "count")
        if size < 1:
            raise self.fail(f"{where}.size is {size:g}; it must be at least 1")
        return Axis(int(size), self._dims(entry["dims"], f"{where}.dims"))

    def _dims(self, names: Any, where: str) -> tuple[int, ...]:
        for name in names:
            if name not in DIMS:
                raise self.fail(f"{where} has {name!r}; known: {', '.join(DIMS)}")
        return tuple(DIMS.index(name) for name in names)

    def _memory(self, entry: Mapping[str, Any], index: int) -> Memory:
        where = f"memory {entry.get('name', index)}"
        self.keys(entry, where, (*MEMORY, *MEMORY_PLAIN), ("name", "level", "tensors"))
        plain = {key: value for key, value in entry.items() if key in MEMORY_PLAIN}
        self.plain(plain, where, MEMORY_PLAIN, ())
        last = index == len(self.document["memory"])
        needs = MEMORY_NEEDS[1:] if last else MEMORY_NEEDS
        numbers = self.numbers(
            {key: value for key, value in entry.items() if key in MEMORY},
            where,
            MEMORY,
            needs,
            off_chip=last,
        )
        return Memory(
            name=entry["name"],
            level=entry["level"],
            tensors=tuple(entry["tensors"]),
            bits=numbers.get("size", float("inf")),
            read_pj_per_bit=numbers["read_energy"],
            write_pj_per_bit=numbers["write_energy"],
            read_bits_per_cycle=numbers.get("read_bandwidth"),
            write_bits_per_cycle=numbers.get("write_bandwidth"),
            one_port=entry.get("one_port", False),
            double_buffered=entry.get("double_buffered", False),
            latched=entry.get("latched", False),
            shared_over=self._dims(entry.get("shared_over", ()), f"{where}.shared_over"),
            area_um2=numbers.get("area"),
        )

    def _sparse(self, entry: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        self.keys(entry, "sparse", ("weight", "input", "output"), ())
        for tensor, uses in entry.items():
            for use in uses:
                if use not in SPARSE_USES:
                    raise self.fail(f"sparse.{tensor} has {use!r}; known: {', '.join(SPARSE_USES)}")
        return {tensor: tuple(uses) for tensor, uses in entry.items()}
