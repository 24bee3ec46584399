"""Numbers as people read them: ratios, signed changes, and one unit for a whole column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cofit.core.units import Dimension

ABSENT = "–"

_UNITS: dict[Dimension, tuple[tuple[str, float], ...]] = {
    "time": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)),
    "bytes": (("MB", 1e6), ("KB", 1e3), ("B", 1.0)),
    "energy": (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6), ("nJ", 1e-9)),
    "fraction": (("%", 1e-2),),
}

_UNIT_GAP = re.compile(r"(?<=[0-9]) (?=(?:[%BsJ]|[nµm][sJ]|[KMG]B|points)(?![a-z]))")


@dataclass(frozen=True)
class Scale:
    """One unit and one number of decimals, so that a column lines up.

    Attributes:
        unit: printed once, in the heading.
        size: of the unit, in SI base units.
        decimals: printed of every value.
    """

    unit: str
    size: float
    decimals: int

    @staticmethod
    def of(values: Iterable[float], dimension: Dimension) -> Scale:
        """The scale in which the largest magnitude has one to three digits before the point."""
        largest = max((abs(value) for value in values), default=0.0)
        units = _UNITS[dimension]
        unit, size = next((u for u in units if largest >= u[1]), units[-1])
        if unit == "B":
            return Scale(unit, size, 0)
        return Scale(unit, size, 3 if largest < 10 * size else 2)

    def text(self, value: float) -> str:
        """The number without its unit."""
        return minus(f"{value / self.size:,.{self.decimals}f}")


def minus(text: str) -> str:
    """With a true minus sign, and none before zero."""
    if not text.startswith("-"):
        return text
    return text[1:] if not text.strip("-+0., %×") else f"−{text[1:]}"


def glued(text: str) -> str:
    """The text with numbers and their units kept on one line."""
    return _UNIT_GAP.sub("\u00a0", text)


def ratio(before: float | None, after: float | None) -> str:
    """How many times `before` is `after`: '2.03×'; absent where one of them is zero or unknown."""
    if not before or not after:
        return ABSENT
    value = before / after
    return f"{value:,.0f}×" if value >= 100 else f"{value:.2f}×"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, signed: '−0.56 points'."""
    text = minus(f"{100 * difference:+.2f}")
    return f"{'±' + text.lstrip('+') if not text.strip('+0.') else text} points"


def error(predicted: float, found: float) -> float | None:
    """Relative error of a prediction; None where there is nothing to compare with."""
    return predicted / found - 1 if found else None


def signed_percent(value: float | None) -> str:
    """'+3.2 %', '−0.4 %'; a value that rounds to zero has no sign."""
    if value is None:
        return ABSENT
    text = minus(f"{100 * value:+.1f}")
    return f"{text.lstrip('+') if not text.strip('+0.') else text} %"


def count(value: int | None) -> str:
    """An exact count with thousands separated."""
    return ABSENT if value is None else f"{value:,}"


def duration(seconds: float) -> str:
    """Wall-clock time: '42 s', '10 min 53 s', '2 h 5 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) within [low, high], at most `most`."""
    if not high > low:
        return [low]
    exponent = math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        step = factor * 10.0**exponent
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(k * step, 3 - exponent) for k in range(first, last + 1)]
    return [low, high]
