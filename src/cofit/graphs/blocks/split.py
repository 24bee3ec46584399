"""An order of nodes in blocks: classes of like degree, cut by METIS, spread over groups.

Rows of a block have like numbers of edges, and blocks of a class like numbers of edges in them, so
that engines with a block each end together.

Source: H. You et al., "GCoD", HPCA 2022, arXiv 2112.11594, and its public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from cofit.core import ConfigError, DataError
from cofit.graphs.graph import Graph
from cofit.graphs.metis import metis_parts

LARGEST = 2**31 - 1
"""Nodes and edges that METIS and the kernels number."""


@dataclass(frozen=True, eq=False)
class Split:
    """Blocks of nodes, one after the other.

    Attributes:
        order: (n,) the node at each place.
        sizes: nodes of each block.
        classes: degree class of each block.
        groups: group of each block.
    """

    order: torch.Tensor
    sizes: tuple[int, ...]
    classes: tuple[int, ...]
    groups: tuple[int, ...]

    @cached_property
    def block_of(self) -> torch.Tensor:
        """(n,) block at each place."""
        return torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))

    def apply(self, graph: Graph) -> Graph:
        """The graph with its nodes in this order; place i is node i."""
        return graph.permute(self.order)

    def restore(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (n, ...) in this order, brought back to the order of the graph."""
        return rows[self.order.argsort()]


def split_by_degree(
    graph: Graph,
    thresholds: Sequence[float],
    *,
    subgraphs: int = 12,
    groups: int = 2,
    seed: int = 0,
) -> Split:
    """Blocks of like degree; without thresholds there is one class, and METIS alone decides.

    Args:
        graph: undirected; self-loops do not count.
        thresholds: rising; class c has the degrees from its threshold up to the next one.
        subgraphs: blocks altogether.
        groups: over which the blocks of every class are dealt.
        seed: of METIS.

    Raises:
        DataError: the graph is not symmetric, or too large for 32 bits.
        ConfigError: subgraphs no multiple of groups, thresholds that do not rise, or a class with
            fewer nodes than subgraphs or with too few edges for one.
    """
    if not graph.is_symmetric:
        raise DataError("a split needs an undirected graph; use graph.symmetrised()")
    if max(graph.num_nodes, graph.num_edges) > LARGEST:
        raise DataError(f"{graph.num_edges} edges are more than 32 bits number; split a part")
    if groups < 1 or subgraphs < groups or subgraphs % groups:
        raise ConfigError(f"{subgraphs} subgraphs in {groups} groups; give a multiple of groups")
    if list(thresholds) != sorted(set(thresholds)):
        raise ConfigError(f"thresholds {list(thresholds)}; give rising ones")
    plain = graph.without_self_loops()
    degree = plain.in_degree
    kind = torch.bucketize(degree.double(), torch.tensor(thresholds).double(), right=True)
    edges = [int(degree[kind == c].sum()) for c in range(len(thresholds) + 1)]
    counts = allocate(edges, subgraphs // groups)
    parts: dict[tuple[int, int], list[torch.Tensor]] = {}
    for c, count in enumerate(counts):
        nodes = torch.nonzero(kind == c).squeeze(1)
        if not len(nodes):
            continue
        if not 0 < count * groups <= len(nodes):
            raise ConfigError(
                f"class {c} has {len(nodes)} nodes with {edges[c]} edges and gets "
                f"{count * groups} subgraphs; choose other thresholds or another number"
            )
        inside = plain.subgraph(nodes)
        found, _ = metis_parts(inside, count * groups, weights=inside.in_degree + 1, seed=seed)
        for part in range(count * groups):
            parts.setdefault((part % groups, c), []).append(nodes[found == part])
    keys = [key for key in sorted(parts) for _ in parts[key]]
    blocks = [block for key in sorted(parts) for block in parts[key]]
    return Split(
        torch.cat(blocks),
        tuple(map(len, blocks)),
        tuple(c for _, c in keys),
        tuple(group for group, _ in keys),
    )


def allocate(edges: Sequence[int], subgraphs: int) -> list[int]:
    """Subgraphs of each class in proportion to its edges, by largest remainder."""
    total = sum(edges)
    if total == 0:
        raise ConfigError("a graph without edges has no blocks")
    shares = np.array([subgraphs * count / total for count in edges])
    counts = np.floor(shares).astype(int)
    largest = np.argsort(-(shares - counts), kind="stable")
    counts[largest[: subgraphs - counts.sum()]] += 1
    return [int(count) for count in counts]
