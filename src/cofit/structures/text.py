"""Structures as text: "block16x1@8", "pattern8g4@9", "nm2:4", "block16x1@4+int8"."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from cofit.core import StructureError, UnknownNameError
from cofit.structures.block import Block, Stripe
from cofit.structures.block_columns import BlockColumns
from cofit.structures.channel import Channel
from cofit.structures.complementary import Complementary
from cofit.structures.composition import Composition
from cofit.structures.connectivity import Connectivity
from cofit.structures.contract import Structure
from cofit.structures.counting import rate_text
from cofit.structures.fixed_point import FixedPoint
from cofit.structures.formats.matrix import Order
from cofit.structures.library import LIBRARIES, POSITIONS, PatternLibrary
from cofit.structures.nm import NM
from cofit.structures.pattern import Pattern
from cofit.structures.polarised import Polarised, Rows
from cofit.structures.unify import Unify
from cofit.structures.unstructured import Unstructured

_BLOCKS = ("32x4", "16x4", "32x1", "16x1", "8x1", "4x4", "2x4", "1x4", "2x2", "1x2")
_STRIPES = (64, 32, 16, 8)
_COLUMN_BLOCKS = ("64x128", "32x128", "16x128")
_GROUPS = (8, 4, 1)
_FRAGMENTS = (4, 8, 16)
_ROW_ORDERS: dict[str, Order] = {"": "c", "h": "h", "w": "w"}
_UNIFIED = ("1x4", "1x8", "1x16", "4x4")


@dataclass(frozen=True)
class Family:
    """A form without its rate; call it with a rate to get the structure.

    Attributes:
        name: canonical text without rates, for example "block16x1" or "pattern8g4+int8".
        least_rate: smallest rate it takes: 1, or 2.25 for four-entry patterns.
        fixed: whether that is the only rate it takes ("nm2:4", "int8").
    """

    name: str
    least_rate: float
    fixed: bool
    _make: Callable[[float], Structure]

    def __call__(self, rate: float) -> Structure:
        """The structure of this form at a pruning rate.

        Raises:
            StructureError: the form does not reach the rate.
        """
        if self.fixed and rate != self.least_rate:
            raise StructureError(f"{self.name} has rate {rate_text(self.least_rate)}, not {rate}")
        return self._make(rate)


def parse(text: str) -> Structure:
    """Read a structure from its text; inverse of `structure.text`.

    Raises:
        UnknownNameError: no such form.
        StructureError: the rate or another parameter is not possible.
    """
    parts = [_parse_part(part.strip()) for part in text.split("+")]
    return parts[0] if len(parts) == 1 else Composition(tuple(parts))


def family(name: str) -> Family:
    """Read a form without its rate, for example "block16x1", "pattern8g4", "block16x1+int8".

    In a sum the rate goes to the part that takes one.

    Raises:
        UnknownNameError: no such form.
        StructureError: a parameter is not possible, or the parts cannot be joined.
    """
    parts = [_family_part(part.strip()) for part in name.split("+")]
    if len(parts) == 1:
        return parts[0]
    rated = [part for part in parts if not part.fixed]
    if len(rated) > 1:
        raise StructureError(f"{name!r} has {len(rated)} rates; give them, as in {_EXAMPLE!r}")
    least = max(part.least_rate for part in parts)

    def make(rate: float) -> Structure:
        return Composition(tuple(part(part.least_rate if part.fixed else rate) for part in parts))

    make(least)  # parts that cannot be joined are refused here
    return Family("+".join(part.name for part in parts), least, not rated, make)


def known_families() -> tuple[str, ...]:
    """Names that `family` takes; blocks and stripes of any other size are taken too."""
    return (
        *(f"block{sides}" for sides in _BLOCKS),
        *(f"stripe{rows}" for rows in _STRIPES),
        *(f"bsp{sides}" for sides in _COLUMN_BLOCKS),
        *(f"{library}g{group}" for library in LIBRARIES for group in _GROUPS),
        "connectivity",
        "connectivity-filter",
        "channel",
        "unstructured",
        *(f"unify{sides}" for sides in _UNIFIED),
        "nm2:4",
        "nm1:4",
        "int8",
        "int4",
        *(f"polarised{m}" for m in _FRAGMENTS),
        *(f"rows{m}" for m in _FRAGMENTS),
        "complementary",
    )


_EXAMPLE = "connectivity@3.6+pattern8g1@2.25"


def _parse_part(text: str) -> Structure:
    name, at, number = text.partition("@")
    form = _family_part(name)
    if not at:
        if form.fixed:
            return form(form.least_rate)
        raise StructureError(f"{text!r} has no pruning rate; write for example '{text}@4'")
    try:
        rate = float(number)
    except ValueError:
        raise StructureError(
            f"{number!r} in {text!r} is not a pruning rate; write for example '{name}@4'"
        ) from None
    return form(rate)


def _family_part(name: str) -> Family:
    match name:
        case "unstructured":
            return Family(name, 1.0, False, Unstructured)
        case "channel":
            return Family(name, 1.0, False, Channel)
        case "connectivity":
            return Family(name, 1.0, False, Connectivity)
        case "connectivity-filter":
            return Family(name, 1.0, False, _balanced)
        case "complementary":
            return Family(name, 1.0, True, lambda _: Complementary())
    if match := re.fullmatch(r"block(\d+)x(\d+)", name):
        out, in_ = int(match[1]), int(match[2])
        return _checked(name, 1.0, lambda rate: Block(out, in_, rate))
    if match := re.fullmatch(r"stripe(\d+)", name):
        rows = int(match[1])
        return _checked(name, 1.0, lambda rate: Stripe(rows, rate))
    if match := re.fullmatch(r"bsp(\d+)x(\d+)(?:r(\d+(?:\.\d+)?))?", name):
        return _block_columns(int(match[1]), int(match[2]), float(match[3] or 1))
    if match := re.fullmatch(r"unify(\d+)x(\d+)(?:u([\d.e-]+))?", name):
        return _unify_family(name, int(match[1]), int(match[2]), match[3])
    if match := re.fullmatch(r"nm(\d+):(\d+)", name):
        structure = NM(int(match[1]), int(match[2]))
        return Family(name, structure.rate, True, lambda _: structure)
    if match := re.fullmatch(r"polarised(\d+)([hw]?)", name):
        polarised = Polarised(int(match[1]), _ROW_ORDERS[match[2]])
        return Family(name, 1.0, True, lambda _: polarised)
    if match := re.fullmatch(r"rows(\d+)([hw]?)", name):
        lines, order = int(match[1]), _ROW_ORDERS[match[2]]
        return _checked(name, 1.0, lambda rate: Rows(lines, rate, order))
    if match := re.fullmatch(r"int(\d+)", name):
        fixed = FixedPoint(int(match[1]))
        return Family(name, 1.0, True, lambda _: fixed)
    if match := re.fullmatch(r"(.+)g(\d+)", name):
        library, group = PatternLibrary.named(match[1]), int(match[2])
        if library is not None:
            return _pattern_family(library, group)
    raise UnknownNameError("structure", name, known_families())


def _unify_family(name: str, out: int, in_: int, share: str | None) -> Family:
    try:
        part = 1.0 if share is None else float(share)
    except ValueError:
        raise StructureError(
            f"{share!r} in {name!r} is not a share of unified blocks; write for example "
            f"'unify{out}x{in_}u0.75'"
        ) from None
    return _checked(name, 1.0, lambda rate: Unify(out, in_, rate, part))


def _checked(name: str, least: float, make: Callable[[float], Structure]) -> Family:
    make(least)  # impossible parameters are refused before a rate is asked for
    return Family(name, least, False, make)


def _block_columns(stripe: int, width: int, row_rate: float) -> Family:
    form = BlockColumns(stripe, width, row_rate, row_rate).text.partition("@")[0]
    return _checked(form, row_rate, lambda rate: BlockColumns(stripe, width, rate, row_rate))


def _balanced(rate: float) -> Structure:
    return Connectivity(rate, "filter")


def _pattern_family(library: PatternLibrary, group: int) -> Family:
    def make(rate: float) -> Structure:
        return Pattern(library, group, rate)

    least = float(Fraction(POSITIONS, library.entries))
    return _checked(f"{library.name}g{group}", least, make)
