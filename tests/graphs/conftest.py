"""Graphs of the tests."""

import pytest
import torch

from cofit.core import torch_generator
from cofit.graphs import Adjacency, Graph


@pytest.fixture
def graph() -> Graph:
    """40 nodes, directed, with self-loops, parallel edges and isolated nodes (the last three)."""
    n, edges = 40, 300
    generator = torch_generator(0, "graph")
    return Graph.from_edges(
        torch.randint(0, n - 3, (2, edges), generator=generator),
        n,
        x=torch.randn(n, 5, generator=generator),
        y=torch.randint(0, 3, (n,), generator=generator),
        edge_attr=torch.randn(edges, 2, generator=generator),
    )


@pytest.fixture
def block(graph: Graph) -> Adjacency:
    """A bipartite part: the first ten nodes as destinations, all as sources, weighted edges."""
    edges = int(graph.indptr[10])
    weight = torch.rand(edges, generator=torch_generator(0, "weight"), dtype=torch.float64) + 0.5
    return Adjacency(
        graph.indptr[:11], graph.indices[:edges], graph.num_nodes, weight, graph.in_degree
    )
