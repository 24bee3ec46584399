"""Accelerators from TOML files in which every number has a unit, a node and a source."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cofit.core import ConfigError, FileError, UnknownNameError
from cofit.targets.dataflow.hardware import SPARSE_USES, Axis, Hardware, Memory
from cofit.targets.dataflow.layer import DIMS

PRESETS = Path(__file__).with_name("presets")

KINDS = ("published", "derived", "chosen")
"""Numbers are someone's, follow from someone's by the arithmetic given, or are ours."""

SCALES: dict[str, dict[str, float]] = {
    "count": {"units": 1, "op/cycle": 1, "bit": 1},
    "capacity": {"bit": 1, "B": 8, "KiB": 8 * 1024, "MiB": 8 * 1024**2},
    "energy": {"pJ": 1},
    "energy per bit": {"pJ": 1},
    "bandwidth": {"bit/cycle": 1, "B/cycle": 8},
    "clock": {"Hz": 1, "MHz": 1e6, "GHz": 1e9},
    "power": {"W": 1, "mW": 1e-3},
    "area": {"um2": 1, "mm2": 1e6},
}
NODE_MATTERS = ("energy", "energy per bit", "power", "area")

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


@dataclass(frozen=True)
class Source:
    """Where numbers come from.

    Attributes:
        key: by which numbers name it.
        text: publication, program or reason.
        kind: one of `KINDS`.
        node_nm: process of its energies, powers and areas.
    """

    key: str
    text: str
    kind: str
    node_nm: int


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
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read the accelerator {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from error
    return _Reader(path.name, document).hardware()


class _Reader:
    """One file; every error names it and the key."""

    def __init__(self, file: str, document: dict[str, Any]) -> None:
        self._file, self._document = file, document
        self._plain(document, "", TOP, TOP_NEEDS)
        self._sources = {key: self._source(key, entry) for key, entry in document["source"].items()}
        self._used: dict[str, list[str]] = {}

    def hardware(self) -> Hardware:
        """What the file says."""
        top = self._document
        array = self._numbers(top["array"], "array", ARRAY, ARRAY_NEEDS)
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
                facts=self._facts(),
            )
        except ConfigError as error:
            raise ConfigError(f"{self._file}: {error}") from error

    def _fail(self, text: str) -> ConfigError:
        return ConfigError(f"{self._file}: {text}")

    def _keys(
        self, entry: Mapping[str, Any], where: str, known: Iterable[str], needs: Iterable[str]
    ) -> None:
        prefix = f"{where}." if where else ""
        for key in entry:
            if key not in known:
                raise self._fail(f"unknown key {prefix}{key}; known: {', '.join(sorted(known))}")
        for key in needs:
            if key not in entry:
                raise self._fail(f"{prefix}{key} is missing; add it")

    def _plain(
        self, entry: Mapping[str, Any], where: str, types: Mapping[str, type], needs: Iterable[str]
    ) -> None:
        self._keys(entry, where, types, needs)
        for key, value in entry.items():
            if type(value) is not types[key]:
                raise self._fail(
                    f"{where + '.' if where else ''}{key} is {value!r}; it must be a "
                    f"{types[key].__name__}"
                )

    def _source(self, key: str, entry: Mapping[str, Any]) -> Source:
        where = f"source.{key}"
        self._plain(entry, where, {"text": str, "kind": str, "node_nm": int}, ("text", "kind"))
        if entry["kind"] not in KINDS:
            raise self._fail(f"{where}.kind is {entry['kind']!r}; known: {', '.join(KINDS)}")
        return Source(
            key, entry["text"], entry["kind"], entry.get("node_nm", self._document["node_nm"])
        )

    def _numbers(
        self,
        entry: Mapping[str, Any],
        where: str,
        known: Mapping[str, str],
        needs: Iterable[str],
        off_chip: bool = False,
    ) -> dict[str, float]:
        self._keys(entry, where, known, needs)
        return {
            key: self._number(value, f"{where}.{key}", known[key], off_chip)
            for key, value in entry.items()
        }

    def _number(self, entry: Any, where: str, quantity: str, off_chip: bool = False) -> float:
        """A number in the unit that `Hardware` counts in.

        Args:
            entry: its table.
            where: it stands, for errors.
            quantity: what it measures, a key of `SCALES`.
            off_chip: the node of a DRAM is not that of the accelerator.
        """
        if not isinstance(entry, dict):
            raise self._fail(
                f"{where} is {entry!r}; write {{ value = ..., unit = ..., source = ... }}"
            )
        self._keys(entry, where, ("value", "unit", "source"), ("value", "unit", "source"))
        value, unit, source = entry["value"], entry["unit"], entry["source"]
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self._fail(f"{where}.value is {value!r}; it must be a number, not negative")
        if source not in self._sources:
            raise self._fail(
                f"{where}.source is {source!r}; known: {', '.join(sorted(self._sources))}"
            )
        found = self._sources[source]
        if quantity in NODE_MATTERS and not off_chip:
            node = self._document["node_nm"]
            if found.node_nm != node:
                raise self._fail(
                    f"{where} comes from {source!r} at {found.node_nm} nm, the accelerator is at "
                    f"{node} nm; scale it and name a source of kind derived"
                )
        self._used.setdefault(found.key, []).append(where)
        return float(value) * self._scale(unit, where, quantity)

    def _scale(self, unit: Any, where: str, quantity: str) -> float:
        scales = SCALES[quantity]
        if quantity == "energy per bit":
            match = re.fullmatch(r"pJ/(?:(\d+) )?bit", str(unit))
            if match:
                return 1 / int(match[1] or 1)
            raise self._fail(f"{where}.unit is {unit!r}; known: pJ/bit, pJ/16 bit and so on")
        if unit not in scales:
            raise self._fail(f"{where}.unit is {unit!r}; known: {', '.join(scales)}")
        return scales[unit]

    def _axis(self, entry: Mapping[str, Any], where: str) -> Axis:
        self._keys(entry, where, ("dims", "size"), ("dims", "size"))
        size = self._number(entry["size"], f"{where}.size", "count")
        if size < 1:
            raise self._fail(f"{where}.size is {size:g}; it must be at least 1")
        return Axis(int(size), self._dims(entry["dims"], f"{where}.dims"))

    def _dims(self, names: Any, where: str) -> tuple[int, ...]:
        for name in names:
            if name not in DIMS:
                raise self._fail(f"{where} has {name!r}; known: {', '.join(DIMS)}")
        return tuple(DIMS.index(name) for name in names)

    def _memory(self, entry: Mapping[str, Any], index: int) -> Memory:
        where = f"memory {entry.get('name', index)}"
        self._keys(entry, where, (*MEMORY, *MEMORY_PLAIN), ("name", "level", "tensors"))
        plain = {key: value for key, value in entry.items() if key in MEMORY_PLAIN}
        self._plain(plain, where, MEMORY_PLAIN, ())
        last = index == len(self._document["memory"])
        needs = MEMORY_NEEDS[1:] if last else MEMORY_NEEDS
        numbers = self._numbers(
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
        self._keys(entry, "sparse", ("weight", "input", "output"), ())
        for tensor, uses in entry.items():
            for use in uses:
                if use not in SPARSE_USES:
                    raise self._fail(
                        f"sparse.{tensor} has {use!r}; known: {', '.join(SPARSE_USES)}"
                    )
        return {tensor: tuple(uses) for tensor, uses in entry.items()}

    def _facts(self) -> dict[str, str]:
        """What the accelerator is, and its sources by kind with the numbers they give."""
        top = self._document
        facts = {"accelerator": top["about"], "node": f"{top['node_nm']} nm"}
        for kind in KINDS:
            used = [s for s in self._sources.values() if s.kind == kind and s.key in self._used]
            if used:
                facts[kind] = "; ".join(f"{', '.join(self._used[s.key])}: {s.text}" for s in used)
        return facts
