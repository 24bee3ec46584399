"""Physical quantities: reading "20ms" or "256KB", printing SI values for people.

Inside cofit every quantity is in SI base units (seconds, joules, bytes); only presentation scales
them. KB = 1000 bytes, KiB = 1024 bytes.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from cofit.core.errors import ConfigError

_TIME = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "ps": 1e-12}
_BYTES = {
    "B": 1.0, "KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9,
    "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3,
}  # fmt: skip
_ENERGY = {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12}
_FRACTION = {"%": 1e-2, "": 1.0}

Dimension = Literal["time", "bytes", "energy", "fraction"]

DIMENSIONS: dict[Dimension, dict[str, float]] = {
    "time": _TIME,
    "bytes": _BYTES,
    "energy": _ENERGY,
    "fraction": _FRACTION,
}

_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(\S*)\s*")


def parse_quantity(text: str, dimension: Dimension) -> float:
    """Read a non-negative number with a unit and return it in SI base units.

    Args:
        text: for example "20ms", "256KB", "1.5%".
        dimension: one of "time" (s), "bytes" (B), "energy" (J), "fraction" (1).

    Raises:
        ConfigError: the number or the unit is not readable.
    """
    units = DIMENSIONS[dimension]
    match = _NUMBER.fullmatch(text)
    allowed = ", ".join(u for u in units if u)
    if match is None:
        raise ConfigError(
            f"cannot read {text!r} as a {dimension} value; write a number and one of {allowed}"
        )
    number, unit = float(match[1]), match[2]
    if unit not in units:
        raise ConfigError(
            f"unit {unit!r} in {text!r} is not a {dimension} unit; use one of {allowed}"
        )
    if not math.isfinite(number):
        raise ConfigError(f"{text!r} is not a finite number")
    return number * units[unit]


def format_quantity(value: float | None, dimension: Dimension) -> str:
    """Print an SI value with a readable unit: 0.0204 s -> '20.4 ms'; None -> '–'."""
    if value is None:
        return "–"
    if dimension == "fraction":
        return f"{100 * value:.2f} %"
    if dimension == "bytes":
        for unit, size in (("MB", 1e6), ("KB", 1e3)):
            if abs(value) >= size:
                return f"{value / size:.2f} {unit}"
        return f"{int(value)} B"
    base = "s" if dimension == "time" else "J"
    if value == 0:
        return f"0 {base}"
    for prefix, size in (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9), ("p", 1e-12)):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{base}"
    return f"{value:.3g} {base}"
