"""Graphs on engines: rows and cycles of one aggregation, two branches or one engine.

Only the aggregation is counted, out of the rows after the combination: the latter is the same for
all. Balance, misses and additions are those of the very graph that is run.
"""

from __future__ import annotations

import numpy as np

from cofit.graphs import Graph, RowStream, pull_stream
from cofit.graphs.blocks import Split, interleaved, two_branches
from cofit.targets.graph_engines import (
    Work,
    balance,
    branch_cycles,
    dealt,
    graph_engine,
    single_cycles,
)

ELEMENT_BYTES, INDEX_BYTES = 4, 4


def rows_of_blocks(graph: Graph, split: Split) -> RowStream:
    """Feature rows as both branches read them."""
    return RowStream(interleaved(*two_branches(graph, split)))


def branch_report(graph: Graph, split: Split, width: int, lines: int) -> dict[str, float]:
    """Cycles of the two-branch accelerator with a buffer of `lines` rows.

    A chunk per degree class has the class's blocks, one unit each, and is as busy as these are
    alike. The sparser branch deals rows to its units in turn.
    """
    engine = graph_engine("gcod")
    dense, sparse = two_branches(graph, split)
    row, classes = width * ELEMENT_BYTES, np.array(split.classes)
    blocks, sizes = dense.piecewise, np.array(split.sizes)
    chunks = []
    for kind in np.unique(classes):
        mine = classes == kind
        moved = 2 * int(sizes[mine].sum()) * row + int(blocks[mine].sum()) * INDEX_BYTES
        chunks.append(Work(int(blocks[mine].sum()) * width, moved, balance(blocks[mine])))
    additions = sparse.additions
    if additions:
        more = rows_of_blocks(graph, split).misses(lines) - graph.num_nodes
        share = additions / (additions + dense.additions)
        units = max(1, int(engine.processing_elements * share / width))
        rows = np.bincount(sparse.to, minlength=graph.num_nodes)
        moved = more * row + additions * INDEX_BYTES
        chunks.append(Work(additions * width, moved, dealt(rows[rows > 0], units)))
    found = branch_cycles(chunks, engine)
    return {
        "total": max(branch.total for branch in found),
        "compute": max(branch.compute for branch in found),
        "memory": max(branch.memory for branch in found),
        "sparser": additions / (additions + dense.additions),
    }


def engine_reports(graph: Graph, width: int, lines: int) -> dict[str, float]:
    """Cycles of one engine on the graph as it is stored: rows dealt in turn, and rebalanced."""
    engine = graph_engine("gcod")
    stream = pull_stream(graph.adjacency.looped)
    row = width * ELEMENT_BYTES
    moved = (stream.misses(lines) + graph.num_nodes) * row + graph.num_edges * INDEX_BYTES
    units = max(1, engine.processing_elements // width)
    additions = stream.accesses * width
    used = dealt((graph.in_degree + 1).numpy(), units)
    return {
        "row-wise": single_cycles(Work(additions, moved, used), engine).total,
        "rebalanced": single_cycles(Work(additions, moved), engine).total,
        "rebalanced compute": single_cycles(Work(additions, moved), engine).compute,
    }
