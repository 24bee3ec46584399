"""TOML files of hardware in which every number has a unit, a node and a source."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cofit.core import ConfigError, FileError

KINDS = ("published", "derived", "chosen")
"""Numbers are someone's, follow from someone's by the arithmetic given, or are ours."""

SCALES: dict[str, dict[str, float]] = {
    "count": {"units": 1, "op/cycle": 1, "bit": 1},
    "share": {"ratio": 1},
    "capacity": {"bit": 1, "B": 8, "KiB": 8 * 1024, "MiB": 8 * 1024**2},
    "energy": {"pJ": 1, "fJ": 1e-3},
    "energy per bit": {"pJ": 1},
    "bandwidth": {"bit/cycle": 1, "B/cycle": 8},
    "clock": {"Hz": 1, "MHz": 1e6, "GHz": 1e9},
    "time": {"ns": 1e-9},
    "power": {"W": 1, "mW": 1e-3},
    "area": {"um2": 1, "mm2": 1e6},
}
NODE_MATTERS = ("energy", "energy per bit", "power", "area")


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


def read_document(path: Path, what: str) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        FileError: it cannot be read.
        ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read the {what} {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from error


class Sheet:
    """One file; every error names it and the key.

    Args:
        file: its name.
        document: its tables; "node_nm", "about" and "source" are among them.
        what: it describes, for example "accelerator".
        types: of the keys at its top.
        needs: those that must be there.

    Raises:
        ConfigError: a key is unknown or absent, or a source is not acceptable.
    """

    def __init__(
        self,
        file: str,
        document: dict[str, Any],
        what: str,
        types: Mapping[str, type],
        needs: Iterable[str],
    ) -> None:
        self._file, self._document, self._what = file, document, what
        self.plain(document, "", types, needs)
        self._sources = {key: self._source(key, entry) for key, entry in document["source"].items()}
        self._used: dict[str, list[str]] = {}

    def fail(self, text: str) -> ConfigError:
        """An error of this file."""
        return ConfigError(f"{self._file}: {text}")

    def keys(
        self, entry: Mapping[str, Any], where: str, known: Iterable[str], needs: Iterable[str]
    ) -> None:
        """Refuse keys that are not known, and the lack of those that are needed."""
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
        """Check values that are no numbers with units."""
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
        needs: Iterable[str],
        off_chip: bool = False,
    ) -> dict[str, float]:
        """Numbers of a table, each in the unit of its quantity.

        Args:
            entry: the table.
            where: it stands, for errors.
            known: quantity of each key, one of `SCALES`.
            needs: keys that must be there.
            off_chip: as in `number`.
        """
        self.keys(entry, where, known, needs)
        return {
            key: self.number(value, f"{where}.{key}", known[key], off_chip)
            for key, value in entry.items()
        }

    def _source(self, key: str, entry: Mapping[str, Any]) -> Source:
        where = f"source.{key}"
        self.plain(entry, where, {"text": str, "kind": str, "node_nm": int}, ("text", "kind"))
        if entry["kind"] not in KINDS:
            raise self.fail(f"{where}.kind is {entry['kind']!r}; known: {', '.join(KINDS)}")
        return Source(
            key, entry["text"], entry["kind"], entry.get("node_nm", self._document["node_nm"])
        )

    def number(self, entry: Any, where: str, quantity: str, off_chip: bool = False) -> float:
        """A number in the unit of its quantity.

        Args:
            entry: its table.
            where: it stands, for errors.
            quantity: what it measures, a key of `SCALES`.
            off_chip: the node of a DRAM is not that of the chip.
        """
        if not isinstance(entry, dict):
            raise self.fail(
                f"{where} is {entry!r}; write {{ value = ..., unit = ..., source = ... }}"
            )
        self.keys(entry, where, ("value", "unit", "source"), ("value", "unit", "source"))
        value, unit, source = entry["value"], entry["unit"], entry["source"]
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self.fail(f"{where}.value is {value!r}; it must be a number, not negative")
        if source not in self._sources:
            raise self.fail(
                f"{where}.source is {source!r}; known: {', '.join(sorted(self._sources))}"
            )
        found = self._sources[source]
        if quantity in NODE_MATTERS and not off_chip:
            node = self._document["node_nm"]
            if found.node_nm != node:
                raise self.fail(
                    f"{where} comes from {source!r} at {found.node_nm} nm, the {self._what} is at "
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
            raise self.fail(f"{where}.unit is {unit!r}; known: pJ/bit, pJ/16 bit and so on")
        if unit not in scales:
            raise self.fail(f"{where}.unit is {unit!r}; known: {', '.join(scales)}")
        return scales[unit]

    def facts(self) -> dict[str, str]:
        """What the hardware is, and its sources by kind with the numbers they give."""
        top = self._document
        facts = {self._what: top["about"], "node": f"{top['node_nm']} nm"}
        for kind in KINDS:
            used = [s for s in self._sources.values() if s.kind == kind and s.key in self._used]
            if used:
                facts[kind] = "; ".join(f"{', '.join(self._used[s.key])}: {s.text}" for s in used)
        return facts
