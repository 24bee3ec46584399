"""The graph type of the room: CSR by destination, with features, labels and masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from cofit.core import DataError
from cofit.graphs.adjacency import Adjacency, Transpose
from cofit.graphs.ordering import group_by, take_rows

MASKS = ("train_mask", "val_mask", "test_mask")


@dataclass(frozen=True, eq=False)
class Graph:
    """A directed graph; an undirected one holds every edge in both directions.

    Isolated nodes, self-loops and parallel edges are allowed. The neighbours of a node keep the
    order they are given in, so that sums over them have one result. Derived graphs are new
    graphs; tensors are shared where they are equal and must not be written to.

    Args:
        indptr: (n + 1,) int64; the edges into node v are indptr[v] to indptr[v + 1].
        indices: (E,) int64, the source of each edge.
        x: (n, d) float features.
        y: (n,) int64 classes, -1 where unknown; or (n, labels) float of a multi-label task.
        train_mask: (n,) bool; the three masks share no node.
        val_mask: (n,) bool.
        test_mask: (n,) bool.
        edge_attr: (E, ...), in the order of `indices`.

    Raises:
        DataError: naming what does not fit, its value and what would.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    x: torch.Tensor | None = None
    y: torch.Tensor | None = None
    train_mask: torch.Tensor | None = None
    val_mask: torch.Tensor | None = None
    test_mask: torch.Tensor | None = None
    edge_attr: torch.Tensor | None = None

    def __post_init__(self) -> None:
        _check_edges(self.indptr, self.indices)
        _check_attributes(self)
        _check_masks(self)

    @classmethod
    def from_edges(
        cls,
        edge_index: torch.Tensor,
        num_nodes: int,
        *,
        x: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
        edge_attr: torch.Tensor | None = None,
    ) -> Graph:
        """A graph of edges in any order; neighbours are sorted by number, parallel edges stay.

        Args:
            edge_index: (2, E) int64, sources above destinations.
            num_nodes: n.
            x: (n, d).
            y: (n,) or (n, labels).
            edge_attr: (E, ...), in the order of `edge_index`.

        Raises:
            DataError: an edge names a node that is not there, or see the class.
        """
        if num_nodes < 1:
            raise DataError(f"a graph of {num_nodes} nodes; it needs at least one")
        if edge_index.dim() != 2 or len(edge_index) != 2 or edge_index.dtype != torch.int64:
            raise DataError(
                f"edge_index is {edge_index.dtype} of shape {tuple(edge_index.shape)}; "
                "give int64 of shape (2, E), sources above destinations"
            )
        if edge_attr is not None and len(edge_attr) != edge_index.shape[1]:
            raise DataError(
                f"{len(edge_attr)} rows of edge_attr for {edge_index.shape[1]} edges; "
                "give one per edge"
            )
        _check_range("source", edge_index[0], num_nodes)
        _check_range("destination", edge_index[1], num_nodes)
        _, by_source = group_by(edge_index[0], num_nodes)
        indptr, order = group_by(edge_index[1][by_source], num_nodes)
        order = by_source[order]
        attributes = None if edge_attr is None else edge_attr[order]
        return cls(indptr, edge_index[0][order], x=x, y=y, edge_attr=attributes)

    @property
    def num_nodes(self) -> int:
        """Number of nodes, n."""
        return len(self.indptr) - 1

    @property
    def num_edges(self) -> int:
        """Number of directed edges, E; an undirected edge counts twice."""
        return len(self.indices)

    @property
    def num_classes(self) -> int:
        """Classes or labels of the task.

        Raises:
            DataError: there are no labels.
        """
        if self.y is None:
            raise DataError("the graph has no labels; give y")
        return self.y.shape[1] if self.y.dim() == 2 else int(self.y.max()) + 1

    @cached_property
    def adjacency(self) -> Adjacency:
        """The edges alone, made once; what layers take."""
        return Adjacency(self.indptr, self.indices, self.num_nodes)

    @property
    def csc(self) -> Transpose:
        """The edges grouped by source, made once."""
        return self.adjacency.transpose

    @property
    def in_degree(self) -> torch.Tensor:
        """(n,) int64: edges into each node, self-loops and parallel ones included."""
        return self.adjacency.counts

    @property
    def out_degree(self) -> torch.Tensor:
        """(n,) int64: edges out of each node."""
        return self.csc.indptr.diff()

    @property
    def edge_index(self) -> torch.Tensor:
        """(2, E) int64, sources above destinations, in the order of `indices`."""
        return torch.stack([self.indices, self.adjacency.destinations])

    @cached_property
    def is_symmetric(self) -> bool:
        """Whether every edge has its reverse, parallel edges counted."""
        destinations = self.adjacency.destinations
        ways = torch.stack([destinations * self.num_nodes + self.indices,
                            self.indices * self.num_nodes + destinations])  # fmt: skip
        there, back = ways.sort(dim=1).values
        return bool(torch.equal(there, back))

    @cached_property
    def has_self_loops(self) -> bool:
        """Whether any node is its own neighbour."""
        return bool((self.indices == self.adjacency.destinations).any())

    def without_self_loops(self) -> Graph:
        """The graph without edges from a node to itself."""
        return self._keep(self.indices != self.adjacency.destinations)

    def symmetrised(self) -> Graph:
        """Each edge in both directions and once; neighbours sorted by number.

        Of parallel edges the first keeps its attributes; an added reverse edge takes those of the
        edge it reverses.
        """
        there = self.edge_index
        edges = torch.cat([there, there.flip(0)], dim=1)
        numbers = torch.arange(edges.shape[1])
        both = Graph.from_edges(edges, self.num_nodes, edge_attr=numbers)
        assert both.edge_attr is not None
        sources, targets = both.edge_index
        first = torch.ones(both.num_edges, dtype=torch.bool)
        first[1:] = (sources[1:] != sources[:-1]) | (targets[1:] != targets[:-1])
        single = both._keep(first)
        assert single.edge_attr is not None
        attributes = None if self.edge_attr is None else self.edge_attr[
            single.edge_attr % max(self.num_edges, 1)
        ]  # fmt: skip
        return replace(self, indptr=single.indptr, indices=single.indices, edge_attr=attributes)

    def subgraph(self, nodes: torch.Tensor) -> Graph:
        """The graph induced by some nodes: node `nodes[i]` becomes node i.

        Neighbours keep their order.

        Args:
            nodes: (m,) distinct node numbers, int64.

        Raises:
            DataError: none, a repeated or an absent node.
        """
        _check_range("node", nodes, self.num_nodes)
        new = torch.full((self.num_nodes,), -1)
        new[nodes] = torch.arange(len(nodes))
        if len(nodes) == 0 or not torch.equal(new[nodes], torch.arange(len(nodes))):
            raise DataError(f"{len(nodes)} nodes of a subgraph; give distinct ones, at least one")
        indptr, edges = take_rows(self.indptr, nodes)
        sources = new[self.indices[edges]]
        kept = sources >= 0
        before = torch.zeros(len(kept) + 1, dtype=torch.int64)
        torch.cumsum(kept, 0, out=before[1:])

        def rows(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[nodes]

        return Graph(
            before[indptr],
            sources[kept],
            rows(self.x),
            rows(self.y),
            rows(self.train_mask),
            rows(self.val_mask),
            rows(self.test_mask),
            None if self.edge_attr is None else self.edge_attr[edges[kept]],
        )

    def permute(self, order: torch.Tensor) -> Graph:
        """The same graph with node `order[i]` as node i.

        Neighbours keep their order, so that sums over them are the same bit for bit.

        Raises:
            DataError: not every node occurs once.
        """
        if len(order) != self.num_nodes:
            raise DataError(
                f"an order of {len(order)} nodes for a graph of {self.num_nodes}; "
                "name every node once"
            )
        return self.subgraph(order)

    def _keep(self, edges: torch.Tensor) -> Graph:
        """The graph with the edges (E,) bool."""
        before = torch.zeros(self.num_edges + 1, dtype=torch.int64)
        torch.cumsum(edges, 0, out=before[1:])
        attributes = None if self.edge_attr is None else self.edge_attr[edges]
        return replace(
            self,
            indptr=before[self.indptr],
            indices=self.indices[edges],
            edge_attr=attributes,
        )


def _check_range(what: str, nodes: torch.Tensor, num_nodes: int) -> None:
    outside = (nodes < 0) | (nodes >= num_nodes)
    if outside.any():
        place = int(torch.nonzero(outside)[0])
        raise DataError(
            f"{what} {int(nodes[place])} at position {place} is not a node; "
            f"nodes are numbered from 0 to {num_nodes - 1}"
        )


def _check_edges(indptr: torch.Tensor, indices: torch.Tensor) -> None:
    for name, tensor in (("indptr", indptr), ("indices", indices)):
        if tensor.dtype != torch.int64 or tensor.dim() != 1:
            raise DataError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; give int64 of one axis"
            )
    if len(indptr) < 2:
        raise DataError(f"indptr of length {len(indptr)}: the graph is empty; give at least a node")
    if int(indptr[0]) != 0 or int(indptr[-1]) != len(indices) or (indptr.diff() < 0).any():
        raise DataError(
            f"indptr goes from {int(indptr[0])} to {int(indptr[-1])} for {len(indices)} edges; "
            f"it must rise from 0 to {len(indices)} without falling"
        )
    _check_range("source", indices, len(indptr) - 1)


def _check_attributes(graph: Graph) -> None:
    n = graph.num_nodes
    x, y = graph.x, graph.y
    if x is not None and (x.dim() != 2 or len(x) != n or not x.is_floating_point()):
        raise DataError(
            f"features x are {x.dtype} of shape {tuple(x.shape)}; give floats of shape ({n}, d), "
            "one row per node"
        )
    if x is not None and not torch.isfinite(x).all():
        bad = int(torch.nonzero(~torch.isfinite(x).all(1))[0])
        raise DataError(f"features of node {bad} contain NaN or infinity; clean them first")
    if y is not None:
        classes = y.dtype == torch.int64 and y.shape == (n,)
        labels = y.is_floating_point() and y.dim() == 2 and len(y) == n
        if not classes and not labels:
            raise DataError(
                f"labels y are {y.dtype} of shape {tuple(y.shape)}; give int64 ({n},) classes or "
                f"float ({n}, labels)"
            )
        if classes and int(y.min()) < -1:
            raise DataError(f"class {int(y.min())} in y; number from 0, and use -1 for unknown")
    if graph.edge_attr is not None and len(graph.edge_attr) != graph.num_edges:
        raise DataError(
            f"{len(graph.edge_attr)} rows of edge_attr for {graph.num_edges} edges; "
            "give one per edge"
        )


def _check_masks(graph: Graph) -> None:
    given = {name: mask for name in MASKS if (mask := getattr(graph, name)) is not None}
    for name, mask in given.items():
        if mask.dtype != torch.bool or mask.shape != (graph.num_nodes,):
            raise DataError(
                f"{name} is {mask.dtype} of shape {tuple(mask.shape)}; "
                f"give bool of shape ({graph.num_nodes},)"
            )
    if len(given) > 1:
        shared = torch.stack(list(given.values())).sum(0) > 1
        if shared.any():
            raise DataError(
                f"node {int(torch.nonzero(shared)[0])} is in two of {', '.join(given)}; "
                "the masks must not overlap"
            )
    if graph.y is not None and graph.y.dim() == 1:
        for name, mask in given.items():
            if (graph.y[mask] < 0).any():
                raise DataError(f"{name} holds nodes without a label; leave them out")
