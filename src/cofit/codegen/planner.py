"""Where every buffer lies in the arena: lifetimes in, offsets out.

A buffer is alive from the step that writes it to the last step that reads it, both included; two
buffers alive at the same step never overlap. Packing is greedy best-fit under several orders; each
is improved by moving the buffer that reaches the top of the arena to the front of the order. The
plan states the lower bound (most bytes alive at one step), so a gap is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

ROUNDS = 64  # improvements tried when no order reaches the lower bound


@dataclass(frozen=True)
class Buffer:
    """Bytes wanted from step `first` to step `last`, both included."""

    name: str
    nbytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets of buffers in an arena.

    Attributes:
        buffers: the buffers with their lifetimes, in the order given; sizes as asked.
        offsets: byte offset per buffer name, a multiple of the alignment.
        arena_bytes: bytes of the arena: the end of the highest buffer, rounded to the alignment.
        lower_bound_bytes: most (aligned) bytes alive at one step; no plan can be smaller.
    """

    buffers: tuple[Buffer, ...]
    offsets: Mapping[str, int]
    arena_bytes: int
    lower_bound_bytes: int


def plan_memory(buffers: Iterable[Buffer], alignment_bytes: int) -> MemoryPlan:
    """Pack buffers into the smallest arena found.

    Buffers of zero bytes get offset 0. Deterministic: the same buffers give the same plan.
    """
    asked = tuple(buffers)
    units = [
        Buffer(b.name, _align(b.nbytes, alignment_bytes), b.first, b.last)
        for b in asked
        if b.nbytes
    ]
    bound = max((sum(b.nbytes for b in live) for live in _live_sets(units)), default=0)
    keys: tuple[Callable[[Buffer], tuple[int, ...]], ...] = (
        lambda b: (-b.nbytes, b.first),
        lambda b: (b.first - b.last, -b.nbytes),
        lambda b: (-b.nbytes * (b.last - b.first + 1), b.first),
        lambda b: (b.first, -b.nbytes),
        lambda b: (-b.last, -b.nbytes),
    )
    best: dict[str, int] = {}
    best_bytes = -1
    for key in keys:
        offsets, size = _improved(sorted(units, key=key), bound)
        if best_bytes < 0 or size < best_bytes:
            best, best_bytes = offsets, size
        if best_bytes == bound:
            break
    complete = {b.name: best.get(b.name, 0) for b in asked}
    return MemoryPlan(asked, complete, max(best_bytes, 0), bound)


def _improved(order: Sequence[Buffer], bound: int) -> tuple[dict[str, int], int]:
    """Pack, then move what reaches the top to the front while that does not make it worse."""
    best, best_bytes = _pack(order)
    for _ in range(ROUNDS if order else 0):
        if best_bytes == bound:
            break
        top = max(order, key=lambda b: best[b.name] + b.nbytes)
        changed = [top, *(b for b in order if b is not top)]
        offsets, size = _pack(changed)
        if size > best_bytes or changed == order:
            break
        best, best_bytes, order = offsets, size, changed
    return best, best_bytes


def _pack(order: Sequence[Buffer]) -> tuple[dict[str, int], int]:
    """Place in order, each into the tightest gap among buffers it meets that holds it."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in order:
        others = sorted(
            ((o, o + b.nbytes) for o, b in placed if b.meets(buffer)), key=lambda span: span[0]
        )
        cursor, slack, where = 0, -1, -1
        for start, end in others:
            gap = start - cursor - buffer.nbytes
            if gap >= 0 and (slack < 0 or gap < slack):
                slack, where = gap, cursor
            cursor = max(cursor, end)
        placed.append((cursor if where < 0 else where, buffer))
    size = max((offset + b.nbytes for offset, b in placed), default=0)
    return {b.name: offset for offset, b in placed}, size


def _live_sets(buffers: Sequence[Buffer]) -> list[list[Buffer]]:
    """Buffers alive at each step where one begins (the maximum is reached at one of them)."""
    starts = sorted({b.first for b in buffers})
    return [[b for b in buffers if b.first <= step <= b.last] for step in starts]


def _align(nbytes: int, alignment_bytes: int) -> int:
    return -(-nbytes // alignment_bytes) * alignment_bytes
