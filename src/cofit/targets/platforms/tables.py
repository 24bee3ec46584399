"""Boards and phones from TOML files in which every number has a unit and a tag of provenance."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cofit.core import ConfigError, UnknownNameError
from cofit.core.quantities import KINDS as TAGS
from cofit.core.quantities import HardwareFile
from cofit.targets.dataflow import (
    dram_pj_per_bit,
    operation_pj,
    published_energies,
    sram_pj_per_bit,
)

PRESETS = Path(__file__).with_name("presets")
PRECISIONS = ("fp32", "fp16", "int8", "int4", "ternary", "binary")
KINDS = ("conv3x3", "conv1x1", "depthwise", "dense")
"""Kinds of layers that a processor reaches different shares of its peak on."""

_SHARED = {
    "bandwidth": "rate", "board_power": "power", "static_power": "power", "launch": "time",
    "node_scale": "share", "overhead": "share",
}  # fmt: skip
_FABRIC = {
    "dsp": "count", "dsp_share": "share", "lut": "count", "lut_share": "share", "bram": "capacity",
    "clock": "clock",
}  # fmt: skip
_DSP = {"fp32": "share", "fp16": "share", "int8": "share", "int4": "share"}
_LUTS = {"int8": "share", "int4": "share", "ternary": "share", "binary": "share"}
_PEAK = {"fp32": "operations", "fp16": "operations", "int8": "operations"}
_TOP: dict[str, type] = {
    "name": str, "about": str, "kind": str, "source": dict, "board": dict, "fabric": dict,
    "macs_per_dsp": dict, "luts_per_mac": dict, "peak": dict, "share": dict,
}  # fmt: skip
_TOP_NEEDS = ("name", "about", "kind", "source", "board")
_PARTS = {
    "fpga": ("fabric", "macs_per_dsp", "luts_per_mac"),
    "processor": ("peak", "share"),
}


@dataclass(frozen=True)
class Parameters:
    """Numbers of one platform, in SI units but for energies, which are in picojoules.

    Attributes:
        name: of the platform.
        about: what it is.
        kind: "fpga" or "processor".
        values: by "table.key", for example "board.bandwidth".
        tags: provenance by the same names.
        facts: what a report says of where the numbers come from.
    """

    name: str
    about: str
    kind: str
    values: Mapping[str, float]
    tags: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def having(self, **changed: float) -> Parameters:
        """The same with other values: `having(board__bandwidth=1e9)` for "board.bandwidth".

        Raises:
            ConfigError: no such value, or one that no hardware has.
        """
        named = {key.replace("__", "."): value for key, value in changed.items()}
        for key in named:
            if key not in self.values:
                raise ConfigError(
                    f"{self.name} has no value {key!r}; it has {', '.join(self.values)}"
                )
        found = replace(self, values={**self.values, **named})
        check(found)
        return found


def known_platforms() -> tuple[str, ...]:
    """Names of the platforms that come with cofit."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


@functools.cache
def parameters(name: str) -> Parameters:
    """The numbers of a platform by its name.

    Raises:
        UnknownNameError: listing the known ones.
    """
    if name not in known_platforms():
        raise UnknownNameError("platform", name, known_platforms())
    return read_parameters(PRESETS / f"{name}.toml")


def read_parameters(path: Path) -> Parameters:
    """The numbers of a platform from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks its unit or source, or it is one
            that no hardware has.
    """
    file = HardwareFile(path, "platform", _TOP, _TOP_NEEDS)
    top = file.document
    if top["kind"] not in _PARTS:
        raise file.fail(f"kind is {top['kind']!r}; known: {', '.join(_PARTS)}")
    wanted: dict[str, tuple[Mapping[str, str], bool]] = {
        "board": (_SHARED, True), "fabric": (_FABRIC, True), "macs_per_dsp": (_DSP, True),
        "luts_per_mac": (_LUTS, True), "peak": (_PEAK, False),
        "share": (dict.fromkeys(KINDS, "share"), True),
    }  # fmt: skip
    parts = ("board", *_PARTS[top["kind"]])
    for part in wanted:
        if part in top and part not in parts:
            raise file.fail(f"a {top['kind']} has no table {part}; remove it")
    values: dict[str, float] = {}
    tags: dict[str, str] = {}
    for part in parts:
        if part not in top:
            raise file.fail(f"{part} is missing; add it")
        known, every = wanted[part]
        for key, value in file.numbers(top[part], part, known, known if every else ()).items():
            values[f"{part}.{key}"] = value
            tags[f"{part}.{key}"] = file.sources[top[part][key]["source"]].kind
    energies = operation_energies()
    found = Parameters(
        top["name"],
        top["about"],
        top["kind"],
        {**values, **energies},
        {**tags, **dict.fromkeys(energies, "recalled")},
        {"platform": top["about"], **file.facts(), "operations": _operation_sources()},
    )
    try:
        check(found)
    except ConfigError as error:
        raise file.fail(str(error)) from error
    return found


def operation_energies() -> dict[str, float]:
    """Picojoules at 45 nm that all platforms share: per MAC by precision, and per byte moved.

    int4 products take a quarter of int8's; a ternary weight selects an addition; a binary MAC is
    an XNOR and its share of a popcount, an eighth of an 8-bit addition each.
    """
    add8, add32 = operation_pj("int8_add"), operation_pj("int32_add")
    return {
        "energy.fp32": operation_pj("fp32_multiply") + operation_pj("fp32_add"),
        "energy.fp16": operation_pj("fp16_multiply") + operation_pj("fp16_add"),
        "energy.int8": operation_pj("int8_multiply") + add32,
        "energy.int4": operation_pj("int8_multiply") / 4 + add32 / 2,
        "energy.ternary": add8,
        "energy.binary": 2 * add8 / 8,
        "energy.sram_byte": 8 * float(sram_pj_per_bit(8 * 32 * 1024.0)),
        "energy.dram_byte": 8 * dram_pj_per_bit(),
    }


def _operation_sources() -> str:
    """Of the energies that all platforms share, where they come from by kind."""
    facts = published_energies().facts
    texts = [f"{kind}: {facts[kind]}" for kind in TAGS if kind in facts]
    return f"energies at {facts['node']}; {'; '.join(texts)}"


def check(found: Parameters) -> None:
    """Refuse what no hardware has.

    Raises:
        ConfigError: naming the value.
    """
    for key in ("board.bandwidth", "board.board_power", "board.node_scale", "board.overhead"):
        if not found[key] > 0:
            raise ConfigError(f"{key} is {found[key]:g}; it must be above zero")
    for key, value in found.values.items():
        if (
            key.startswith(("share.", "fabric.dsp_share", "fabric.lut_share"))
            and not 0 < value <= 1
        ):
            raise ConfigError(f"{key} is {value:g}; it must be above 0 and at most 1")
        if value < 0 or (key.startswith(("peak.", "fabric.clock")) and value == 0):
            raise ConfigError(f"{key} is {value:g}; it must be above zero")
    if found.kind == "processor" and not any(key.startswith("peak.") for key in found.values):
        raise ConfigError("peak has no precision; add peak.fp32, peak.fp16 or peak.int8")


def describe(found: Parameters) -> dict[str, int]:
    """How many numbers have which tag."""
    kinds = list(found.tags.values())
    return {kind: kinds.count(kind) for kind in dict.fromkeys(sorted(kinds))}
