"""Arrays from TOML files in which every number has a unit, a node and a source."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cofit.core import ConfigError, UnknownNameError
from cofit.targets.arrays.crossbar_chip import CrossbarChip
from cofit.targets.arrays.spec import ArraySpec
from cofit.targets.sheet import Sheet, read_document

PRESETS = Path(__file__).with_name("presets")
CONVERTERS = Path(__file__).with_name("converters.toml")

TOP: dict[str, type] = {
    "name": str, "about": str, "node_nm": int, "scheme": str, "flip": bool, "skipping": bool,
    "source": dict, "array": dict, "converter": dict, "driver": dict, "shift_add": dict,
    "buffer": dict, "bus": dict, "router": dict, "unit": dict,
}  # fmt: skip
SIZES = ("rows", "columns", "group", "cell_bits", "dac_bits", "input_bits", "weight_bits")
PART = {"energy": "energy", "area": "area"}
LINK = {"energy": "energy per bit", "area": "area"}
SECTIONS: dict[str, Mapping[str, str]] = {
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


def read_crossbar_chip(path: Path) -> CrossbarChip:
    """A chip from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks unit or source, a unit does not
            measure the quantity, or a source is of another node than the file.
    """
    document = read_document(path, "accelerator")
    sheet = Sheet(path.name, document, "accelerator", TOP, TOP)
    found = {name: sheet.numbers(document[name], name, SECTIONS[name], SECTIONS[name])
             for name in SECTIONS}  # fmt: skip
    array, converter, bus, unit = (found[n] for n in ("array", "converter", "bus", "unit"))
    try:
        spec = ArraySpec(
            scheme=document["scheme"],
            flip=document["flip"],
            skipping=document["skipping"],
            **{key: int(array[key]) for key in SIZES},
        )
    except ConfigError as error:
        raise sheet.fail(str(error)) from error
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
        facts=sheet.facts(),
    )


@functools.cache
def crossbar_chip(name: str) -> CrossbarChip:
    """A chip that comes with cofit: "isaac", "puma" or "forms".

    Raises:
        UnknownNameError: listing the known ones.
    """
    known = tuple(path.stem for path in PRESETS.glob("*.toml"))
    if name not in known:
        raise UnknownNameError("array", name, known)
    return read_crossbar_chip(PRESETS / f"{name}.toml")


def forms(m: int = 8) -> CrossbarChip:
    """FORMS with groups of `m` rows, its converters as wide as they must be.

    Energy and area of a conversion follow those of one design at several resolutions, the rate its
    bits.

    Raises:
        ConfigError: `m` does not divide the rows, or its sums need converters that are not known.
    """
    chip = crossbar_chip("forms")
    if m == chip.spec.group:
        return chip
    spec = replace(chip.spec, group=m)
    bits = spec.lossless_bits()
    energy, area = converter_ratio(bits, chip.converter_bits)
    rate = chip.conversion_hz * chip.converter_bits / bits
    per_array = chip.converters / chip.arrays
    return replace(
        chip,
        name=f"{chip.name}:{m}",
        spec=spec,
        converter_bits=bits,
        conversion_hz=rate,
        conversion_pj=chip.conversion_pj * energy,
        converter_um2=chip.converter_um2 * area,
        read_s=spec.columns / (rate * per_array),
        facts={**chip.facts, "groups": f"{m} rows; {bits}-bit converters by converters.toml"},
    )


def converter_ratio(bits: int, than: int) -> tuple[float, float]:
    """Energy and area of a conversion at `bits` over those at `than` bits.

    Raises:
        ConfigError: the table has no such converter.
    """
    energy, area = _converters()
    for width in (bits, than):
        if width not in energy:
            raise ConfigError(
                f"converters of {width} bits are not known; known: "
                f"{', '.join(map(str, sorted(energy)))} bits"
            )
    return energy[bits] / energy[than], area[bits] / area[than]


@functools.cache
def _converters() -> tuple[dict[int, float], dict[int, float]]:
    document = read_document(CONVERTERS, "table")
    types: dict[str, type] = {
        "about": str, "node_nm": int, "source": dict, "energy": dict, "area": dict,
    }  # fmt: skip
    sheet = Sheet(CONVERTERS.name, document, "table", types, types)

    def column(name: str) -> dict[int, float]:
        known: dict[str, Any] = dict.fromkeys(document[name], name)
        return {int(k): v for k, v in sheet.numbers(document[name], name, known, known).items()}

    return column("energy"), column("area")
