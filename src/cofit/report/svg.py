"""Just enough SVG: escaped elements, and labels that avoid each other.

Marks carry classes only; the style sheet gives them colours, so that they follow light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup, escape

TEXT_PX = 12
"""Size of text in figures; `report.css` sets the same."""

CHARACTER_PX = 6.9
"""Width of a character to reckon with: a little above the mean of system fonts at TEXT_PX."""

NARROW_PX = 560
"""Drawings below this width put row labels above their marks instead of beside them."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element; texts are escaped, `Markup` is taken as it is.

    Attribute names lose a trailing underscore (`class_`), others become hyphens; None is left out.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(
        child if isinstance(child, Markup) else escape(clean(child)) for child in children
    )
    return Markup(f"<{name}{pairs}>{inside}</{name}>")


def clean(text: str) -> str:
    """Text without the control characters that XML forbids."""
    return _NOT_XML.sub("\ufffd", text)


def drawing(width: float, height: float, label: str, *children: Markup) -> Markup:
    """The root element; `label` is what a screen reader says."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    """Words with their baseline at y."""
    return element("text", words, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def shorten(words: str, room_px: float) -> str:
    """The words, or their beginning and end around an ellipsis, to fit the room."""
    most = max(int(room_px / CHARACTER_PX), 1)
    if len(words) <= most:
        return words
    tail = (most - 1) // 2
    return f"{words[: most - 1 - tail]}…{words[len(words) - tail :]}"


def distinct(names: Sequence[str], room_px: float) -> list[str]:
    """Names that fit the room; if not all do, without the dotted parts that all of them share."""
    if all(len(name) * CHARACTER_PX <= room_px for name in names):
        return list(names)
    parts = [name.split(".") for name in names]
    shortest = min(map(len, parts)) - 1
    first = next((i for i in range(shortest) if len({p[i] for p in parts}) > 1), shortest)
    last = next(
        (i for i in range(shortest - first) if len({p[-1 - i] for p in parts}) > 1),
        shortest - first,
    )
    return [shorten(".".join(p[first : len(p) - last]), room_px) for p in parts]


class Box(NamedTuple):
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether they overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether all of this lies inside the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def text_box(x: float, y: float, words: str, anchor: str = "start") -> Box:
    """What a text is reckoned to cover."""
    wide = len(words) * CHARACTER_PX
    left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
    return Box(left, y - TEXT_PX, left + wide, y + 3)


@dataclass
class Labels:
    """Labels placed one after the other, each where it hits nothing that is there already."""

    frame: Box
    taken: list[Box] = field(default_factory=list)

    def block(self, boxes: Iterable[Box]) -> None:
        """Keep these free of labels."""
        self.taken.extend(boxes)

    def beside(self, x: float, y: float, words: str, class_: str, gap: float = 9) -> Markup:
        """A label around a point, on its right if possible; nothing if no place is free."""
        places = (
            (x + gap, y + 4, "start"),
            (x - gap, y + 4, "end"),
            (x, y - gap - 2, "middle"),
            (x, y + gap + 11, "middle"),
            (x + gap - 3, y - gap - 2, "start"),
            (x + gap - 3, y + gap + 11, "start"),
            (x - gap + 3, y - gap - 2, "end"),
            (x - gap + 3, y + gap + 11, "end"),
        )
        return self.first_free([(*place, words) for place in places], class_)

    def first_free(self, places: Iterable[tuple[float, float, str, str]], class_: str) -> Markup:
        """The first of (x, baseline y, anchor, words) that is free; nothing if none is."""
        for x, y, anchor, words in places:
            box = text_box(x, y, words, anchor)
            if box.within(self.frame) and not any(box.meets(other) for other in self.taken):
                self.taken.append(box)
                return text(x, y, words, class_, anchor)
        return Markup()


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
    return clean(str(value))
