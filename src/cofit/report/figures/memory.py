"""The arena over time: which bytes hold what, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from cofit.core import format_quantity
from cofit.fit.summary import Memory, MemoryBlock
from cofit.report.numbers import Scale, ticks
from cofit.report.svg import CHARACTER_PX, NARROW_PX, TEXT_PX, drawing, element, shorten, text

NAMED_STEPS = 28
"""Up to so many steps a wide drawing names each; beyond, or on a narrow one, they are numbered."""


def live_bytes(memory: Memory) -> list[int]:
    """Bytes that hold something, per step; the arena can never be smaller than the largest."""
    return [
        sum(block.nbytes for block in memory.blocks if block.first <= step <= block.last)
        for step in range(len(memory.steps))
    ]


def memory_map(memory: Memory, width: float) -> Markup:
    """Buffers as rectangles: steps on x, bytes of the arena on y."""
    steps = len(memory.steps)
    named = width >= NARROW_PX and 0 < steps <= NAMED_STEPS
    longest = max((len(name) for name in memory.steps), default=0)
    foot = min(0.62 * CHARACTER_PX * min(longest, 22) + 20, 120.0) if named else 40.0
    left, right, top, height = 58.0, width - 4.0, 30.0, 300.0
    bottom = top + height
    pitch = (right - left) / max(steps, 1)
    reach = 1.04 * memory.arena_bytes or 1.0
    per_byte = height / reach
    scale = Scale.of([memory.arena_bytes], "bytes")
    marks = [text(0, 12, f"arena, {scale.unit}", "quiet")]
    for value in ticks(0.0, memory.arena_bytes, 6):
        y = bottom - value * per_byte
        marks.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        marks.append(text(left - 8, y + 4, f"{value / scale.size:g}", "quiet", "end"))
    for block in memory.blocks:
        marks.append(_block(block, left, bottom, pitch, per_byte))
    peak = bottom - memory.arena_bytes * per_byte
    marks.append(element("line", x1=left, x2=right, y1=peak, y2=peak, class_="limit"))
    words = f"arena {format_quantity(memory.arena_bytes, 'bytes')}"
    marks.append(text(right, peak - 7, words, "limit-label", "end"))
    marks += _step_labels(memory.steps, left, bottom, pitch, named)
    if not named:
        marks.append(text(right, bottom + 36, "step", "quiet", "end"))
    return drawing(
        width,
        bottom + foot,
        f"{len(memory.blocks)} buffers in an arena of {memory.arena_bytes} bytes "
        f"over {steps} steps",
        *marks,
    )


def _block(block: MemoryBlock, left: float, bottom: float, pitch: float, per_byte: float) -> Markup:
    x, wide = left + block.first * pitch, (block.last - block.first + 1) * pitch
    high = block.nbytes * per_byte
    y = bottom - block.offset_bytes * per_byte - high
    size = format_quantity(block.nbytes, "bytes")
    scratch = block.name.startswith("(")
    inside = [
        element(
            "title",
            f"{block.name}: {size} at {block.offset_bytes}, steps {block.first} to {block.last}",
        ),
        element(
            "rect",
            x=x + 1,
            y=y + 0.5,
            width=max(wide - 2, 0.5),
            height=max(high - 1, 0.5),
            rx=min(2.0, high / 4),
            class_="scratch" if scratch else "buffer",
        ),
    ]
    room, line = wide - 10, TEXT_PX + 3
    if high >= line + 2 and room >= min(len(block.name), 9) * CHARACTER_PX and not scratch:
        both = high >= 2 * line + 4 and room >= len(size) * CHARACTER_PX
        middle = y + high / 2 + 4 - (line / 2 if both else 0)
        inside.append(text(x + 6, middle, shorten(block.name, room)))
        if both:
            inside.append(text(x + 6, middle + line, size, "quiet"))
    return element("g", *inside)


def _step_labels(
    steps: Sequence[str], left: float, bottom: float, pitch: float, named: bool
) -> list[Markup]:
    if not named:
        every = next((n for n in (1, 2, 5, 10, 20, 50, 100) if n * pitch >= 22), 200)
        return [
            text(left + (index + 0.5) * pitch, bottom + 18, str(index), "quiet", "middle")
            for index in range(0, len(steps), every)
        ]
    return [
        element(
            "text",
            shorten(name, 22 * CHARACTER_PX),
            transform=f"translate({left + (index + 0.5) * pitch + 4:.1f} {bottom + 14:.1f}) "
            "rotate(-38)",
            class_="quiet",
            text_anchor="end",
        )
        for index, name in enumerate(steps)
    ]
