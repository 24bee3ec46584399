"""The CSR graph: what it refuses, and that its derived graphs are the same edges."""

from dataclasses import replace

import pytest
import torch
from tests.graphs.dense import dense

from cofit.core import DataError, torch_generator
from cofit.graphs import Adjacency, Graph

N, E = 40, 300


def test_from_edges_sorts_by_destination_then_source_and_keeps_attributes_with_their_edge() -> None:
    index = torch.randint(0, N, (2, E), generator=torch_generator(1))
    graph = Graph.from_edges(index, N, edge_attr=torch.arange(E))
    assert graph.edge_attr is not None
    assert torch.equal(graph.edge_index, index[:, graph.edge_attr])
    keys = graph.edge_index[1] * N + graph.edge_index[0]
    assert (keys.diff() >= 0).all()
    parallel = keys.diff() == 0
    assert (graph.edge_attr.diff()[parallel] > 0).all()  # parallel edges keep their order


def test_degrees_and_transpose_against_the_dense_matrix(graph: Graph) -> None:
    matrix = dense(graph.adjacency)
    assert torch.equal(graph.in_degree.double(), matrix.sum(1))
    assert torch.equal(graph.out_degree.double(), matrix.sum(0))
    twin = graph.csc
    back = Adjacency(twin.indptr, twin.indices, graph.num_nodes)
    assert torch.equal(dense(back), matrix.T)
    assert torch.equal(graph.edge_index[1][twin.edges], twin.indices)
    assert graph.csc is twin
    assert (graph.in_degree[-3:] == 0).all()  # isolated nodes are there


def test_symmetrised_is_the_union_with_the_reverse_each_edge_once(graph: Graph) -> None:
    both = graph.symmetrised()
    matrix = dense(graph.adjacency)
    assert torch.equal(dense(both.adjacency), ((matrix + matrix.T) > 0).double())
    assert both.is_symmetric and not graph.is_symmetric
    assert both.edge_attr is not None and graph.edge_attr is not None
    known = {
        (int(s), int(d)): attr
        for (s, d), attr in reversed(list(zip(graph.edge_index.T, graph.edge_attr, strict=True)))
    }
    for (s, d), attr in zip(both.edge_index.T.tolist(), both.edge_attr, strict=True):
        assert torch.equal(attr, known.get((s, d), known.get((d, s))))


def test_symmetry_counts_parallel_edges() -> None:
    assert not Graph.from_edges(torch.tensor([[0, 0, 1], [1, 1, 0]]), 2).is_symmetric
    assert Graph.from_edges(torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]), 2).is_symmetric


def test_without_self_loops(graph: Graph) -> None:
    matrix = dense(graph.adjacency)
    assert graph.has_self_loops
    bare = graph.without_self_loops()
    assert torch.equal(dense(bare.adjacency), matrix - matrix.diag().diag())
    assert not bare.has_self_loops
    assert bare.edge_attr is not None and len(bare.edge_attr) == bare.num_edges


def test_subgraph_is_the_block_of_the_matrix(graph: Graph) -> None:
    nodes = torch.tensor([7, 39, 3, 21, 0, 11, 12, 13])
    part = graph.subgraph(nodes)
    assert torch.equal(dense(part.adjacency), dense(graph.adjacency)[nodes][:, nodes])
    assert graph.x is not None and part.x is not None and torch.equal(part.x, graph.x[nodes])
    weighted = replace(graph, edge_attr=torch.arange(E)).subgraph(nodes)
    assert weighted.edge_attr is not None
    assert torch.equal(nodes[weighted.edge_index], graph.edge_index[:, weighted.edge_attr])


def test_permuting_there_and_back_is_bit_exact(graph: Graph) -> None:
    order = torch.randperm(N, generator=torch_generator(2))
    there = graph.permute(order)
    back = there.permute(order.argsort())
    for name in ("indptr", "indices", "x", "y", "edge_attr"):
        assert torch.equal(getattr(back, name), getattr(graph, name)), name
    # neighbours keep their order, so a sum in edge order is the same number
    assert graph.x is not None and there.x is not None
    first = torch.zeros(N, 5).index_add_(0, graph.adjacency.destinations, graph.x[graph.indices])
    second = torch.zeros(N, 5).index_add_(0, there.adjacency.destinations, there.x[there.indices])
    assert torch.equal(first[order], second)


def test_normalised_is_the_formula(graph: Graph) -> None:
    matrix = dense(graph.adjacency)
    matrix = matrix - matrix.diag().diag() + torch.eye(N, dtype=torch.float64)
    scale = matrix.sum(1).rsqrt()
    expected = scale[:, None] * matrix * scale
    torch.testing.assert_close(dense(graph.adjacency.normalised), expected, rtol=1e-12, atol=0)


def test_normalised_takes_the_degrees_of_the_whole_graph(graph: Graph) -> None:
    graph = graph.without_self_loops()
    whole = dense(graph.adjacency.normalised)
    m = 10  # rows 0 to 9 as the destinations of a part whose sources are all nodes
    part = Adjacency(
        graph.indptr[: m + 1],
        graph.indices[: int(graph.indptr[m])],
        N,
        degree=graph.in_degree,
    )
    assert torch.equal(dense(part.normalised), whole[:m])
    with pytest.raises(DataError, match="no degrees"):
        _ = replace(part, degree=None).normalised


def test_one_node_without_edges_is_a_graph() -> None:
    graph = Graph.from_edges(torch.zeros(2, 0, dtype=torch.int64), 1)
    assert graph.num_edges == 0 and graph.is_symmetric and not graph.has_self_loops
    assert graph.symmetrised().num_edges == 0
    assert torch.equal(dense(graph.adjacency.normalised), torch.ones(1, 1, dtype=torch.float64))


EDGES = torch.tensor([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Graph.from_edges(torch.tensor([[0, 3], [1, 2]]), 3), "source 3 at position 1"),
        (lambda: Graph.from_edges(torch.tensor([[0, 1], [-1, 2]]), 3), "destination -1"),
        (lambda: Graph.from_edges(EDGES.float(), 3), "int64"),
        (lambda: Graph.from_edges(EDGES[0], 3), "shape"),
        (lambda: Graph.from_edges(EDGES[:, :0], 0), "at least one"),
        (lambda: Graph.from_edges(EDGES, 3, edge_attr=torch.ones(3)), "one per edge"),
        (lambda: Graph(torch.tensor([0]), torch.tensor([], dtype=torch.int64)), "is empty"),
        (lambda: Graph(torch.tensor([0, 2, 1]), torch.tensor([0])), "without falling"),
        (lambda: Graph(torch.tensor([0, 1, 1]), torch.tensor([2])), "source 2"),
        (lambda: Graph(torch.tensor([0, 1]).int(), torch.tensor([0])), "indptr is torch.int32"),
        (lambda: Graph.from_edges(EDGES, 3, x=torch.ones(2, 4)), "features x"),
        (lambda: Graph.from_edges(EDGES, 3, x=torch.ones(3, 4).long()), "features x"),
        (lambda: Graph.from_edges(EDGES, 3, x=torch.full((3, 1), torch.nan)), "node 0 contain NaN"),
        (lambda: Graph.from_edges(EDGES, 3, y=torch.ones(2).long()), "labels y"),
        (lambda: Graph.from_edges(EDGES, 3, y=torch.tensor([0, -2, 1])), "class -2"),
        (lambda: replace(plain(), train_mask=torch.ones(3)), "train_mask"),
        (
            lambda: replace(
                plain(),
                train_mask=torch.tensor([True, False, False]),
                test_mask=torch.tensor([True, False, True]),
            ),
            "node 0 is in two",
        ),
        (
            lambda: replace(
                plain(), y=torch.tensor([0, -1, 1]), val_mask=torch.ones(3, dtype=torch.bool)
            ),
            "without a label",
        ),
        (lambda: plain().subgraph(torch.tensor([0, 0])), "distinct"),
        (lambda: plain().subgraph(torch.tensor([], dtype=torch.int64)), "at least one"),
        (lambda: plain().subgraph(torch.tensor([5])), "node 5"),
        (lambda: plain().permute(torch.tensor([0, 1])), "name every node once"),
        (lambda: plain().num_classes, "no labels"),
    ],
)
def test_refused(make, text: str) -> None:
    with pytest.raises(DataError, match=text):
        make()


def plain() -> Graph:
    return Graph.from_edges(EDGES, 3)
