"""The chips that come with cofit, by name: isaac, puma, forms, capram, ddc, digital."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from cofit.core import ConfigError, UnknownNameError
from cofit.core.quantities import HardwareFile
from cofit.targets.arrays.charge_chip import ChargeChip
from cofit.targets.arrays.crossbar_chip import CrossbarChip
from cofit.targets.arrays.digital_macro import DigitalChip, Mode
from cofit.targets.arrays.spec import Scheme
from cofit.targets.arrays.tables import Chip, read_chip

PRESETS = Path(__file__).with_name("presets")
CONVERTERS = Path(__file__).with_name("converters.toml")

PRECISIONS: dict[str, tuple[Scheme, int]] = {
    "1": ("bipolar", 1), "1.5": ("differential", 1), "2": ("bipolar", 2), "3": ("bipolar", 3),
    "4": ("bipolar", 4), "5": ("bipolar", 5),
}  # fmt: skip
"""Encoding and digits by bits of a weight; 1.5 is ternary."""

BROADCASTS: dict[str, Mode] = {
    "baseline": "baseline", "fcc": "fcc", "dual": "fcc+dual", "reconf": "fcc+dual+split",
}  # fmt: skip

VARIANTS: dict[str, tuple[str, ...]] = {
    "isaac": (), "puma": (), "forms": ("4", "8", "16"), "capram": tuple(PRECISIONS),
    "ddc": tuple(BROADCASTS), "digital": (),
}  # fmt: skip


def known_chips() -> tuple[str, ...]:
    """Every name that `chip` takes."""
    varied = tuple(f"{name}:{text}" for name, texts in VARIANTS.items() for text in texts)
    return (*VARIANTS, *varied)


def chip(name: str) -> Chip:
    """A chip by name, for example "isaac", "forms:16", "capram:1.5", "ddc:dual".

    Without a variant "forms" has groups of 8 rows, "capram" ternary weights, and "ddc" all of its
    mechanisms.

    Raises:
        UnknownNameError: listing the known ones.
    """
    kind, _, variant = name.partition(":")
    if name not in known_chips():
        raise UnknownNameError("array", name, known_chips())
    match kind:
        case "forms":
            return forms(int(variant or 8))
        case "capram":
            return capram(variant or "1.5")
        case "ddc":
            return ddc(variant or "reconf")
    return _preset(kind)


def crossbar_chip(name: str) -> CrossbarChip:
    """A chip of crossbars by name: "isaac", "puma" or "forms"."""
    found = chip(name)
    assert isinstance(found, CrossbarChip)
    return found


def forms(m: int = 8) -> CrossbarChip:
    """FORMS with groups of `m` rows, its converters as wide as they must be.

    Energy and area of a conversion follow those of one design at several resolutions, the rate its
    bits.

    Raises:
        ConfigError: `m` does not divide the rows, or its sums need converters that are not known.
    """
    base = _preset("forms")
    assert isinstance(base, CrossbarChip)
    if m == base.spec.group:
        return base
    spec = replace(base.spec, group=m)
    bits = spec.lossless_bits()
    energy, area = converter_ratio(bits, base.converter_bits)
    rate = base.conversion_hz * base.converter_bits / bits
    return replace(
        base,
        name=f"{base.name}:{m}",
        spec=spec,
        converter_bits=bits,
        conversion_hz=rate,
        conversion_pj=base.conversion_pj * energy,
        converter_um2=base.converter_um2 * area,
        read_s=spec.columns / (rate * base.converters / base.arrays),
        facts={**base.facts, "groups": f"{m} rows; {bits}-bit converters by {CONVERTERS.name}"},
    )


def capram(precision: str = "1.5") -> ChargeChip:
    """CAP-RAM with weights of one of its precisions.

    Raises:
        UnknownNameError: no such precision.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError("precision of capram", precision, PRECISIONS)
    base = _preset("capram")
    assert isinstance(base, ChargeChip)
    scheme, digits = PRECISIONS[precision]
    spec = replace(base.spec, scheme=scheme, weight_bits=digits)
    return replace(base, name=f"capram:{precision}", spec=spec)


def ddc(broadcast: str = "reconf") -> DigitalChip:
    """DDC-PIM with some of its mechanisms: "baseline", "fcc", "dual" or "reconf".

    Raises:
        UnknownNameError: no such mechanism.
    """
    if broadcast not in BROADCASTS:
        raise UnknownNameError("mechanism of ddc", broadcast, BROADCASTS)
    base = _preset("ddc")
    assert isinstance(base, DigitalChip)
    return replace(base, name=f"ddc:{broadcast}", mode=BROADCASTS[broadcast])


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
def _preset(name: str) -> Chip:
    return read_chip(PRESETS / f"{name}.toml")


@functools.cache
def _converters() -> tuple[dict[int, float], dict[int, float]]:
    return read_converters(CONVERTERS)


def read_converters(path: Path) -> tuple[dict[int, float], dict[int, float]]:
    """Energy (pJ) and area (um2) of a conversion by its bits, from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks unit or source, or a source is of
            another node.
    """
    types: dict[str, type] = {
        "about": str, "node_nm": int, "source": dict, "energy": dict, "area": dict,
    }  # fmt: skip
    sheet = HardwareFile(path, "table", types, types)

    def column(name: str) -> dict[int, float]:
        entries = sheet.document[name]
        known = dict.fromkeys((key for key in entries if key.isdecimal()), name)
        return {int(k): v for k, v in sheet.numbers(entries, name, known).items()}

    return column("energy"), column("area")
