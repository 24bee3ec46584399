"""Which tensors share a buffer, and how long each buffer lives."""

from __future__ import annotations

from collections.abc import Sequence
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
        in_place: tensors among `reads` whose buffer `writes` may take over.
    """

    reads: tuple[str, ...]
    writes: str
    scratch_bytes: int = 0
    in_place: tuple[str, ...] = ()


@dataclass(frozen=True)
class Storage:
    """Buffers, and the buffer of each tensor."""

    buffers: tuple[Buffer, ...]
    buffer_of: dict[str, str]


def assign(
    sizes: dict[str, int],
    aliases: dict[str, str],
    accesses: Sequence[Access],
    entry: str,
    exit_: str,
) -> Storage:
    """Give every tensor a buffer.

    Args:
        sizes: bytes by tensor name.
        aliases: tensors that are the same bytes as another (layout-identical reshapes).
        accesses: the steps in order.
        entry: the tensor that the caller writes before the first step.
        exit_: the tensor that the caller reads after the last step.
    """

    def root(name: str) -> str:
        while name in aliases:
            name = aliases[name]
        return name

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
        donors = (
            owner(name)
            for name in access.in_place
            if sizes[name] == sizes[access.writes] and last[owner(name)] == index
        )
        donor = next(donors, None)
        if donor is not None:
            merged[target] = donor
            last[donor] = last[target]
        else:
            first[target] = index
        if access.scratch_bytes:
            scratch.append(Buffer(SCRATCH.format(index), access.scratch_bytes, index, index))
    buffers = [Buffer(name, sizes[name], first[name], last[name]) for name in first]
    return Storage((*buffers, *scratch), {name: owner(name) for name in sizes})


def activation_sizes(graph: Graph) -> dict[str, int]:
    """Bytes of every tensor that is not a constant."""
    return {name: t.nbytes for name, t in graph.tensors.items() if t.data is None}
