"""Which layers run in stripes: none while the arena fits, else those that cost least.

Every stage (how many layers from the input, how many rows of its output at a time) has an arena
and a halo, the multiply-accumulates that two stripes both compute. Of the stages whose arena is
within the limit the one with the least halo is taken.
"""

from __future__ import annotations

from cofit.codegen.emitter import Emitter
from cofit.codegen.steps import lay_out
from cofit.codegen.stripes import (
    Schedule,
    edges,
    halo_macs,
    row_bytes,
    rows_read,
    stage_ops,
    striped,
    whole,
)
from cofit.ir import Graph, Op

MOST_STRIPES = 32
"""More are not tried: the halo grows with each, and each is steps of its own."""


def schedule_within(graph: Graph, emitter: Emitter, arena_limit_bytes: int | None) -> Schedule:
    """The schedule of least halo whose arena is within a limit, else that of the least arena.

    Float graphs always run whole.

    Raises:
        UnsupportedOpError: no kernel takes an op.
    """
    plain = whole(graph)
    if arena_limit_bytes is None or not graph.is_integer:
        return plain
    best, least = plain, lay_out(plain, emitter).plan.arena_bytes
    if least <= arena_limit_bytes:
        return plain
    ops = stage_ops(graph)
    stages = [
        (count, height)
        for count in range(1, len(ops) + 1)
        for height in _heights(graph, ops[:count])
    ]
    stages.sort(key=lambda s: (halo_macs(graph, ops[: s[0]], s[1]), -s[1], s[0]))
    for count, height in stages:
        # what lies in the arena in any case: cheaper to know than the arena
        if _alive_bytes(graph, ops[:count], height) >= least:
            continue
        found = striped(graph, count, height)
        if found is None:
            continue
        arena_bytes = lay_out(found, emitter).plan.arena_bytes
        if arena_bytes < least:
            best, least = found, arena_bytes
        if least <= arena_limit_bytes:
            break
    return best


def _heights(graph: Graph, ops: tuple[Op, ...]) -> list[int]:
    """Rows of a stripe, the most first: two stripes, three, and so on."""
    rows = graph.tensors[ops[-1].output].shape[2]
    counts = range(2, min(rows, MOST_STRIPES) + 1)
    return list(dict.fromkeys(-(-rows // count) for count in counts))


def _alive_bytes(graph: Graph, ops: tuple[Op, ...], height: int) -> int:
    """Bytes of activations that some step of a stage finds alive; no arena can be smaller.

    Input and output of the stage meet whatever the stripes are, and what a stripe hands from op to
    op meets both if a stripe came before it and one comes after. An op may work in place.
    """
    stripes = edges(graph, ops, height)
    inner = 0
    for rows in stripes[1:-1]:
        for op, (first, end) in zip(ops, rows_read(graph, ops, rows)[1:-1], strict=False):
            inner = max(inner, row_bytes(graph.tensors[op.output]) * (end - first))
    ends = graph.tensors[graph.inputs[0]].nbytes + graph.tensors[ops[-1].output].nbytes
    return ends + inner
