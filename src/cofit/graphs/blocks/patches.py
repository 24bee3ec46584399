"""What lies in the patches between blocks, and clearing those that are nearly empty."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.graphs.blocks.split import Split
from cofit.graphs.graph import Graph
from cofit.graphs.operations import Operations

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How the edges of a graph lie in a split; self-loops do not count.

    Attributes:
        diagonal: share of edges inside blocks.
        area: share of the matrix that these blocks cover.
        distance: mean |i - j| over edges.
        balance: by class, the largest over the mean number of edges inside blocks.
        empty: patches between blocks without any edge.
        patches: all of them.
    """

    diagonal: float
    area: float
    distance: float
    balance: tuple[float, ...]
    empty: int
    patches: int


def keep_edges(graph: Graph, kept: torch.Tensor) -> Graph:
    """The graph with the edges (E,) bool; nodes stay."""
    before = torch.zeros(graph.num_edges + 1, dtype=torch.int64)
    torch.cumsum(kept, 0, out=before[1:])
    attributes = None if graph.edge_attr is None else graph.edge_attr[kept]
    return replace(
        graph, indptr=before[graph.indptr], indices=graph.indices[kept], edge_attr=attributes
    )


def patch_edges(graph: Graph, split: Split) -> Ints:
    """(blocks, blocks) edges without self-loops; rows are destinations. `graph` is in order."""
    count = len(split.sizes)
    source, target = graph.edge_index
    key = split.block_of[target] * count + split.block_of[source]
    found: Ints = np.bincount(key[source != target].numpy(), minlength=count**2)
    return found.reshape(count, count)


def clear_patches(graph: Graph, split: Split, least: int = 40) -> Graph:
    """The graph, in the order of the split, without the edges of patches of fewer than `least`.

    Blocks on the diagonal are patches too. Self-loops stay and do not count.

    Raises:
        ConfigError: `least` is below 0.
    """
    if least < 0:
        raise ConfigError(f"patches of fewer than {least} edges; give 0 or more")
    full = torch.from_numpy(patch_edges(graph, split) >= least)
    source, target = graph.edge_index
    return keep_edges(
        graph, full[split.block_of[target], split.block_of[source]] | (source == target)
    )


def layout(graph: Graph, split: Split) -> Layout:
    """How the edges of a graph in the order of the split lie."""
    patches = patch_edges(graph, split)
    inside = np.diag(patches)
    source, target = graph.edge_index
    edges = max(1, int(patches.sum()))
    kinds = np.array(split.classes)
    return Layout(
        diagonal=float(inside.sum() / edges),
        area=float(np.square(split.sizes).sum() / graph.num_nodes**2),
        distance=float((source - target).abs().sum()) / edges,
        balance=tuple(
            float(inside[kinds == c].max() / max(inside[kinds == c].mean(), 1e-12))
            for c in np.unique(kinds)
        ),
        empty=int((patches == 0).sum() - (inside == 0).sum()),
        patches=patches.size - len(inside),
    )


def two_branches(graph: Graph, split: Split) -> tuple[Operations, Operations]:
    """The sums of A + I as the denser branch does them, block by block, and the sparser one.

    The denser branch has what lies in blocks, self-loops with it; the sparser one all other edges,
    by the block they end in. Both go row by row within a block, and a piece is a block.
    """
    source, target = (ends.numpy() for ends in graph.edge_index)
    n, block = graph.num_nodes, split.block_of.numpy()
    proper = source != target
    loops = np.arange(n)
    source = np.concatenate([source[proper], loops])
    target = np.concatenate([target[proper], loops])
    order = np.lexsort((source, target, block[target]))
    source, target = source[order], target[order]
    inside = block[source] == block[target]
    found = []
    for part in (inside, ~inside):
        ends = np.cumsum(np.bincount(block[target[part]], minlength=len(split.sizes)))
        found.append(Operations(
            n, target[part], source[part], np.ones(int(part.sum()), np.int8), 0, ends
        ))  # fmt: skip
    return found[0], found[1]


def interleaved(dense: Operations, sparse: Operations) -> Ints:
    """Rows as both branches read them, block by block: first the denser one, then the sparser.

    They share a buffer, so that the sparser branch finds what the denser one has just read.
    """
    starts = [np.concatenate([[0], ops.ends[:-1]]) for ops in (dense, sparse)]
    rows = []
    for a, b, c, d in zip(starts[0], dense.ends, starts[1], sparse.ends, strict=True):
        rows += [dense.source[a:b], sparse.source[c:d]]
    return np.concatenate(rows)
