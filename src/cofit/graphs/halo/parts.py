"""What each rank holds of a partitioned graph: its nodes, its halo, and what it sends to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from cofit.core import DataError
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.graph import Graph
from cofit.graphs.ordering import group_by, take_rows


@dataclass(frozen=True, eq=False)
class Part:
    """One rank's share. All lists of nodes ascend by their number in the whole graph.

    Attributes:
        rank: of `size`.
        inner: (m,) numbers of the nodes it owns.
        halo: per peer, the numbers of the peer's nodes with an edge into `inner`; empty for itself.
        send: per peer, the positions in `inner` of the nodes in the peer's halo.
        adjacency: edges into the inner nodes from [inner ; halo of peer 0 ; halo of peer 1 ; ...],
            with the degrees in the whole graph.
    """

    rank: int
    inner: torch.Tensor
    halo: tuple[torch.Tensor, ...]
    send: tuple[torch.Tensor, ...]
    adjacency: Adjacency

    @property
    def size(self) -> int:
        """Ranks."""
        return len(self.halo)

    @property
    def num_inner(self) -> int:
        """Nodes it owns."""
        return len(self.inner)

    @property
    def num_halo(self) -> int:
        """Nodes it needs from others."""
        return self.adjacency.num_src - self.num_inner

    def local(self, rows: Sequence[torch.Tensor | None]) -> Adjacency:
        """The edges from the inner nodes and from some of the halo.

        Args:
            rows: per peer, ascending positions in its halo; None is all of it.
        """
        if all(row is None for row in rows):
            return self.adjacency
        ends = torch.tensor([0, *map(len, self.halo)]).cumsum(0) + self.num_inner
        taken = [torch.arange(self.num_inner)]
        for first, last, row in zip(ends[:-1], ends[1:], rows, strict=True):
            taken.append(torch.arange(first, last) if row is None else first + row)
        sources = torch.cat(taken)
        whole = self.adjacency
        number = torch.full((whole.num_src,), -1)
        number[sources] = torch.arange(len(sources))
        indices = number[whole.indices]
        kept = indices >= 0
        before = torch.zeros(len(kept) + 1, dtype=torch.int64)
        torch.cumsum(kept, 0, out=before[1:])
        degree = None if whole.degree is None else whole.degree[sources]
        return Adjacency(before[whole.indptr], indices[kept], len(sources), None, degree)


@dataclass(frozen=True, eq=False)
class PartitionedGraph:
    """A graph and the shares of all ranks.

    Attributes:
        graph: the whole.
        part: (n,) rank of each node.
    """

    graph: Graph
    part: torch.Tensor

    @classmethod
    def build(cls, graph: Graph, part: torch.Tensor) -> PartitionedGraph:
        """Check an assignment; the shares are made when they are asked for.

        Args:
            graph: without self-loops; layers that want them add them. Nodes may be isolated.
            part: (n,) int64, ranks from 0 on, each owning at least one node.

        Raises:
            DataError: naming what does not fit.
        """
        if graph.has_self_loops:
            raise DataError(
                "a graph with self-loops cannot be shared among ranks: layers that need them add "
                "their own; call without_self_loops() first"
            )
        if part.dtype != torch.int64 or part.shape != (graph.num_nodes,):
            raise DataError(
                f"the partition is {part.dtype} of shape {tuple(part.shape)}; give int64 of shape "
                f"({graph.num_nodes},), one rank per node"
            )
        if int(part.min()) < 0 or int(part.max()) >= graph.num_nodes:
            raise DataError(
                f"ranks from {int(part.min())} to {int(part.max())} in the partition; number them "
                f"from 0, at most one per node ({graph.num_nodes})"
            )
        sizes = torch.bincount(part)
        if (sizes == 0).any():
            raise DataError(
                f"part {int(sizes.argmin())} of {len(sizes)} is empty; number the ranks without "
                "gaps and give each a node"
            )
        return cls(graph, part)

    @property
    def size(self) -> int:
        """Ranks."""
        return int(self.part.max()) + 1

    @cached_property
    def _needs(self) -> torch.Tensor:
        """(pairs, 3): needing rank, owner, node; sorted, once each."""
        adjacency, n = self.graph.adjacency, self.graph.num_nodes
        needing = self.part[adjacency.destinations]
        cross = needing != self.part[adjacency.indices]
        # one key that sorts by needing rank, then node; the owner follows from the node
        keys = torch.unique(needing[cross] * n + adjacency.indices[cross])
        ranks, nodes = keys // n, keys % n
        owners = self.part[nodes]
        _, order = group_by(ranks * self.size + owners, self.size * self.size)
        return torch.stack([ranks, owners, nodes], 1)[order]

    @property
    def halo_nodes(self) -> int:
        """The sum of all halos: rows that travel in an exact exchange, one way, per layer."""
        return len(self._needs)

    @cached_property
    def pairs(self) -> torch.Tensor:
        """(ranks, ranks) int64: how many nodes of the second rank are in the halo of the first."""
        needing, owner, _ = self._needs.unbind(1)
        counts = torch.bincount(needing * self.size + owner, minlength=self.size**2)
        return counts.view(self.size, self.size)

    @property
    def cross_edges(self) -> int:
        """Edges between nodes of different ranks."""
        edges = self.graph.edge_index
        return int((self.part[edges[0]] != self.part[edges[1]]).sum())

    @property
    def shares(self) -> tuple[Part, ...]:
        """Of all ranks."""
        return tuple(self.share(rank) for rank in range(self.size))

    def share(self, rank: int) -> Part:
        """What one rank holds.

        Raises:
            DataError: no such rank.
        """
        if not 0 <= rank < self.size:
            raise DataError(f"rank {rank} of {self.size}; choose from 0 to {self.size - 1}")
        graph = self.graph
        inner = torch.nonzero(self.part == rank).squeeze(1)
        needing, owner, nodes = self._needs.unbind(1)
        halo = [nodes[(needing == rank) & (owner == peer)] for peer in range(self.size)]
        number = torch.full((graph.num_nodes,), -1)
        number[inner] = torch.arange(len(inner))
        send = [number[nodes[(needing == peer) & (owner == rank)]] for peer in range(self.size)]
        sources = torch.cat([inner, *halo])
        number[sources] = torch.arange(len(sources))
        indptr, edges = take_rows(graph.indptr, inner)
        degree = graph.in_degree[sources].double()
        adjacency = Adjacency(indptr, number[graph.indices[edges]], len(sources), None, degree)
        return Part(rank, inner, tuple(halo), tuple(send), adjacency)
