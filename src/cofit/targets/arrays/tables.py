"""Arrays from TOML files in which every number has a unit, a node and a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cofit.core import ConfigError
from cofit.core.quantities import HardwareFile, read_document
from cofit.targets.arrays.charge_chip import ChargeChip
from cofit.targets.arrays.crossbar_chip import CrossbarChip
from cofit.targets.arrays.digital_macro import MODES, DigitalChip, Macro
from cofit.targets.arrays.spec import ArraySpec

Chip = CrossbarChip | ChargeChip | DigitalChip

Sections = Mapping[str, Mapping[str, str]]
"""By table, what each of its numbers measures."""

SIZES = ("rows", "columns", "group", "cell_bits", "dac_bits", "input_bits", "weight_bits")
PART = {"energy": "energy", "area": "area"}
LINK = {"energy": "energy per bit", "area": "area"}
CROSSBARS: Sections = {
    "array": {
        **dict.fromkeys(SIZES, "count"), "read_time": "time", "read_energy": "energy",
        "area": "area",
    },
    "converter": {"bits": "count", "rate": "clock", **PART},
    "driver": PART, "shift_add": PART, "buffer": LINK, "bus": {**LINK, "width": "count"},
    "router": LINK,
    "unit": {
        "arrays": "count", "converters": "count", "per_tile": "count", "lanes": "count",
        "clock": "clock",
    },
}  # fmt: skip
CHARGE: Sections = {
    "macro": {
        "rows": "count", "columns": "count", "share": "count", "input_bits": "count",
        "converter_bits": "count", "clock": "clock", "op_energy": "energy",
        "converter_share": "share", "area": "area", "lanes": "count",
    }
}  # fmt: skip
DIGITAL: Sections = {
    "macro": {
        "rows": "count", "filters": "count", "load": "bandwidth", "parts": "count",
        "clock": "clock", "lanes": "count", "weight_bits": "count", "bit_energy": "energy",
    }
}  # fmt: skip
NAMED: dict[str, type] = {
    "name": str, "about": str, "kind": str, "node_nm": int, "source": dict,
}  # fmt: skip
CODED: dict[str, type] = {"scheme": str, "flip": bool, "skipping": bool}
UNKNOWN = ("bit_energy",)
"""Numbers that may be absent, since nobody has published them."""


def read_chip(path: Path) -> Chip:
    """A chip from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks unit or source, a unit does not
            measure the quantity, or a source is of another node than the file.
    """
    document = read_document(path, "accelerator")
    kind = document.get("kind")
    if kind not in _CHIPS:
        raise ConfigError(f"{path.name}: kind is {kind!r}; known: {', '.join(_CHIPS)}")
    sections, make = _CHIPS[kind]
    types = NAMED | (CODED if kind == "crossbars" else {}) | dict.fromkeys(sections, dict)
    sheet = HardwareFile(path, "accelerator", types, types)
    found = {
        name: sheet.numbers(document[name], name, known, [k for k in known if k not in UNKNOWN])
        for name, known in sections.items()
    }
    try:
        about = {"accelerator": document["about"], "node": f"{document['node_nm']} nm"}
        return make(document, found, about | sheet.facts())
    except ConfigError as error:
        raise sheet.fail(str(error)) from error


def _crossbars(
    document: Mapping[str, Any], found: Mapping[str, dict[str, float]], facts: dict[str, str]
) -> CrossbarChip:
    array, converter, bus, unit = (found[n] for n in ("array", "converter", "bus", "unit"))
    spec = ArraySpec(
        scheme=document["scheme"],
        flip=document["flip"],
        skipping=document["skipping"],
        **dict(zip(SIZES, (int(array[key]) for key in SIZES), strict=True)),  # type: ignore[arg-type]
    )
    return CrossbarChip(
        name=document["name"],
        spec=spec,
        converter_bits=int(converter["bits"]),
        arrays=int(unit["arrays"]),
        converters=int(unit["converters"]),
        units=int(unit["per_tile"]),
        read_s=array["read_time"],
        conversion_hz=converter["rate"],
        read_pj=array["read_energy"],
        conversion_pj=converter["energy"],
        drive_pj=found["driver"]["energy"],
        shift_add_pj=found["shift_add"]["energy"],
        buffer_pj=found["buffer"]["energy"],
        bus_pj=bus["energy"],
        router_pj=found["router"]["energy"],
        array_um2=array["area"],
        converter_um2=converter["area"],
        driver_um2=found["driver"]["area"],
        shift_add_um2=found["shift_add"]["area"],
        buffer_um2=found["buffer"]["area"],
        bus_um2=bus["area"] * bus["width"],
        router_um2=found["router"]["area"],
        lanes=int(unit["lanes"]),
        clock_hz=unit["clock"],
        node_nm=document["node_nm"],
        facts=facts,
    )


def _charge(
    document: Mapping[str, Any], found: Mapping[str, dict[str, float]], facts: dict[str, str]
) -> ChargeChip:
    macro = found["macro"]
    share = int(macro["share"])
    if macro["rows"] % share:
        raise ConfigError(
            f"macro.share is {share}, which does not divide macro.rows {macro['rows']:g}"
        )
    rows = int(macro["rows"]) // share
    spec = ArraySpec(
        rows=rows,
        columns=int(macro["columns"]),
        group=rows,
        cell_bits=1,
        dac_bits=int(macro["input_bits"]),
        input_bits=int(macro["input_bits"]),
        weight_bits=1,
        scheme="differential",
    )
    return ChargeChip(
        name=document["name"],
        spec=spec,
        share=share,
        converter_bits=int(macro["converter_bits"]),
        clock_hz=macro["clock"],
        op_pj=macro["op_energy"],
        converter_share=macro["converter_share"],
        area_um2=macro["area"],
        lanes=int(macro["lanes"]),
        node_nm=document["node_nm"],
        facts=facts,
    )


def _digital(
    document: Mapping[str, Any], found: Mapping[str, dict[str, float]], facts: dict[str, str]
) -> DigitalChip:
    macro = found["macro"]
    geometry = Macro(
        rows=int(macro["rows"]),
        filters=int(macro["filters"]),
        weight_bits=int(macro["weight_bits"]),
        load_bits=int(macro["load"]),
        parts=int(macro["parts"]),
    )
    return DigitalChip(
        name=document["name"],
        macro=geometry,
        mode=MODES[0],
        clock_hz=macro["clock"],
        bit_pj=macro.get("bit_energy"),
        lanes=int(macro["lanes"]),
        node_nm=document["node_nm"],
        facts=facts,
    )


_Make = Callable[[Mapping[str, Any], Mapping[str, dict[str, float]], dict[str, str]], Chip]

_CHIPS: dict[str, tuple[Sections, _Make]] = {
    "crossbars": (CROSSBARS, _crossbars),
    "charge": (CHARGE, _charge),
    "digital": (DIGITAL, _digital),
}
