"""TOML files of hardware in which every number has a value, a unit and a source."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cofit.core.errors import ConfigError, FileError

KINDS = ("published", "derived", "recalled", "chosen")
"""Numbers are someone's, follow from someone's by the arithmetic given, are someone's as we
remember them without the text at hand, or are ours."""

SCALES: dict[str, dict[str, float]] = {
    "count": {"units": 1, "op/cycle": 1, "bit": 1},
    "cycles": {"cycle": 1},
    "bytes": {"B": 1, "KiB": 1024, "MiB": 1024**2},
    "share": {"1": 1, "ratio": 1},
    "capacity": {"bit": 1, "B": 8, "KiB": 8 * 1024, "MiB": 8 * 1024**2},
    "energy": {"fJ": 1e-3, "pJ": 1, "nJ": 1e3},
    "energy per bit": {},
    "bandwidth": {"bit/cycle": 1, "B/cycle": 8},
    "rate": {"B/s": 1, "GB/s": 1e9},
    "operations": {"GMAC/s": 1e9},
    "clock": {"Hz": 1, "MHz": 1e6, "GHz": 1e9},
    "time": {"us": 1e-6, "ns": 1e-9},
    "power": {"W": 1, "mW": 1e-3, "nW": 1e-9},
    "capacitance": {"fF": 1e-15},
    "current": {"mA": 1e-3},
    "voltage": {"V": 1},
    "area": {"um2": 1, "mm2": 1e6},
}
"""Units by quantity, and what one of each is in the unit that the code counts in."""

NODE_MATTERS = ("energy", "energy per bit", "power", "capacitance", "area")


@dataclass(frozen=True)
class Source:
    """Where numbers come from.

    Attributes:
        key: by which numbers name it.
        text: publication, program or reason.
        kind: one of `KINDS`.
        node_nm: process of its energies, powers, capacitances and areas; None where the file
            states none.
    """

    key: str
    text: str
    kind: str
    node_nm: int | None


def read_document(path: Path, what: str) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        FileError: it cannot be read.
        ConfigError: it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read the {what} {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from error


class HardwareFile:
    """One file; every error names it and the key."""

    def __init__(
        self, path: Path, what: str, types: Mapping[str, type], needs: Iterable[str]
    ) -> None:
        """Read a file and its sources.

        Args:
            path: of the file.
            what: it describes, for errors.
            types: of the keys at the top, "source" among them.
            needs: keys that must be there.

        Raises:
            FileError: the file cannot be read.
            ConfigError: it is no TOML, a key is unknown or absent, a source is malformed.
        """
        self.name, self._what = path.name, what
        self.document = read_document(path, what)
        self.plain(self.document, "", types, needs)
        self.sources = {key: self._source(key, e) for key, e in self.document["source"].items()}
        self._used: dict[str, list[str]] = {}

    def fail(self, text: str) -> ConfigError:
        """An error about this file."""
        return ConfigError(f"{self.name}: {text}")

    def keys(
        self, entry: Mapping[str, Any], where: str, known: Iterable[str], needs: Iterable[str]
    ) -> None:
        """Refuse unknown and absent keys of a table that stands at `where`."""
        if not isinstance(entry, dict):
            raise self.fail(f"{where} is {entry!r}; it must be a table")
        prefix = f"{where}." if where else ""
        for key in entry:
            if key not in known:
                raise self.fail(f"unknown key {prefix}{key}; known: {', '.join(sorted(known))}")
        for key in needs:
            if key not in entry:
                raise self.fail(f"{prefix}{key} is missing; add it")

    def plain(
        self, entry: Mapping[str, Any], where: str, types: Mapping[str, type], needs: Iterable[str]
    ) -> None:
        """Refuse keys as `keys` does, and values of another type."""
        self.keys(entry, where, types, needs)
        for key, value in entry.items():
            if type(value) is not types[key]:
                raise self.fail(
                    f"{where + '.' if where else ''}{key} is {value!r}; it must be a "
                    f"{types[key].__name__}"
                )

    def numbers(
        self,
        entry: Mapping[str, Any],
        where: str,
        known: Mapping[str, str],
        needs: Iterable[str] | None = None,
        off_chip: bool = False,
    ) -> dict[str, float]:
        """Numbers of a table in the units that the code counts in.

        Args:
            entry: the table.
            where: it stands, for errors.
            known: quantity (a key of `SCALES`) by key.
            needs: keys that must be there; all by default.
            off_chip: the node of a DRAM is not that of the accelerator.
        """
        self.keys(entry, where, known, known if needs is None else needs)
        return {
            key: self.number(value, f"{where}.{key}", known[key], off_chip)
            for key, value in entry.items()
        }

    def number(self, entry: Any, where: str, quantity: str, off_chip: bool = False) -> float:
        """A number in the unit that the code counts in; see `numbers`."""
        if not isinstance(entry, dict):
            raise self.fail(
                f"{where} is {entry!r}; write {{ value = ..., unit = ..., source = ... }}"
            )
        self.keys(entry, where, ("value", "unit", "source"), ("value", "unit", "source"))
        value, unit, source = entry["value"], entry["unit"], entry["source"]
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self.fail(f"{where}.value is {value!r}; it must be a number, not negative")
        if source not in self.sources:
            raise self.fail(
                f"{where}.source is {source!r}; known: {', '.join(sorted(self.sources))}"
            )
        found, node = self.sources[source], self.document.get("node_nm")
        if quantity in NODE_MATTERS and not off_chip and found.node_nm != node:
            stated = "states no node_nm" if node is None else f"is at {node} nm"
            raise self.fail(
                f"{where} comes from {source!r} at {found.node_nm} nm, the {self._what} {stated}; "
                "scale it and name a source of kind derived"
            )
        self._used.setdefault(found.key, []).append(where)
        return float(value) * self._scale(unit, where, quantity)

    def facts(self) -> dict[str, str]:
        """Sources by kind, with the numbers they give."""
        facts = {}
        for kind in KINDS:
            used = [s for s in self.sources.values() if s.kind == kind and s.key in self._used]
            if used:
                facts[kind] = "; ".join(f"{_listed(self._used[s.key])}: {s.text}" for s in used)
        return facts

    def _source(self, key: str, entry: Mapping[str, Any]) -> Source:
        where = f"source.{key}"
        self.plain(entry, where, {"text": str, "kind": str, "node_nm": int}, ("text", "kind"))
        if entry["kind"] not in KINDS:
            raise self.fail(f"{where}.kind is {entry['kind']!r}; known: {', '.join(KINDS)}")
        node = entry.get("node_nm", self.document.get("node_nm"))
        return Source(key, entry["text"], entry["kind"], node)

    def _scale(self, unit: Any, where: str, quantity: str) -> float:
        scales = SCALES[quantity]
        if quantity == "energy per bit":
            match = re.fullmatch(r"pJ/(?:(\d+) )?bit", str(unit))
            if match:
                return 1 / int(match[1] or 1)
            raise self.fail(f"{where}.unit is {unit!r}; known: pJ/bit, pJ/16 bit and so on")
        if unit not in scales:
            raise self.fail(f"{where}.unit is {unit!r}; known: {', '.join(scales)}")
        return scales[unit]


def _listed(places: Iterable[str]) -> str:
    """Places of numbers, whole runs of rows by the first and the last: "weight.1 to 8, top"."""
    runs: list[list[str]] = []
    for place in places:
        table, _, row = place.rpartition(".")
        if runs and row.isdecimal() and runs[-1][-1] == f"{table}.{int(row) - 1}":
            runs[-1].append(place)
        else:
            runs.append([place])
    return ", ".join(
        f"{run[0]} to {run[-1].rpartition('.')[2]}" if len(run) > 2 else ", ".join(run)
        for run in runs
    )
