"""Which tensors share a buffer, and how long each buffer lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cofit.codegen.planner import Buffer
from cofit.ir import Graph

SCRATCH = "(scratch {})"


@dataclass(frozen=True)
class Access:
    """What one step does to memory.

    Attributes:
        reads: tensors read.
        writes: tensor written.
        scratch_bytes: bytes needed during the step only.
        in_place: tensors among `reads` whose buffer `writes` may take over, once for each time that
            they stand there: one read twice may be needed longer.
    """

    reads: tuple[str, ...]
    writes: str
    scratch_bytes: int = 0
    in_place: tuple[str, ...] = ()


@dataclass(frozen=True)
class Storage:
    """Buffers, and of each tensor its buffer and the byte there at which it begins."""

    buffers: tuple[Buffer, ...]
    buffer_of: dict[str, str]
    start_of: dict[str, int]


def assign(
    sizes: dict[str, int],
    views: Mapping[str, tuple[str, int]],
    accesses: Sequence[Access],
    entry: str,
    exit_: str,
) -> Storage:
    """Give every tensor a buffer.

    Args:
        sizes: bytes by tensor name.
        views: tensors that are bytes of another (layout-identical reshapes, stripes of rows): its
            name and the byte at which they begin.
        accesses: the steps in order.
        entry: the tensor that the caller writes before the first step.
        exit_: the tensor that the caller reads after the last step.
    """

    def place(name: str) -> tuple[str, int]:
        start = 0
        while name in views:
            name, further = views[name]
            start += further
        return name, start

    def root(name: str) -> str:
        return place(name)[0]

    def is_whole(name: str) -> bool:
        return sizes[root(name)] == sizes[name]

    last: dict[str, int] = {root(entry): 0}
    for index, access in enumerate(accesses):
        for name in (*access.reads, access.writes):
            last[root(name)] = index
    last[root(exit_)] = max(len(accesses) - 1, 0)

    home = {name: root(name) for name in sizes}  # tensor -> root; roots merge when in place
    first: dict[str, int] = {root(entry): 0}
    merged: dict[str, str] = {}

    def owner(name: str) -> str:
        name = home[name]
        while name in merged:
            name = merged[name]
        return name

    scratch: list[Buffer] = []
    for index, access in enumerate(accesses):
        target = root(access.writes)
        read = Counter(owner(name) for name in access.reads)
        free = Counter(owner(name) for name in access.in_place)
        donors = (
            owner(name)
            for name in access.in_place
            if sizes[name] == sizes[access.writes]
            and last[owner(name)] == index
            and read[owner(name)] <= free[owner(name)]
            and is_whole(name)
            and is_whole(access.writes)
        )
        donor = next(donors, None)
        if donor is not None:
            merged[target] = donor
            last[donor] = last[target]
        else:
            first.setdefault(target, index)
        if access.scratch_bytes:
            scratch.append(Buffer(SCRATCH.format(index), access.scratch_bytes, index, index))
    buffers = [Buffer(name, sizes[name], first[name], last[name]) for name in first]
    starts = {name: place(name)[1] for name in sizes}
    return Storage((*buffers, *scratch), {name: owner(name) for name in sizes}, starts)


def activation_sizes(graph: Graph) -> dict[str, int]:
    """Bytes of every tensor that is not a constant."""
    return {name: t.nbytes for name, t in graph.tensors.items() if t.data is None}
