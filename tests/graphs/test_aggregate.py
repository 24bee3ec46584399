"""Reductions over in-neighbours against dense matrices, loops and numerical gradients."""

from dataclasses import replace

import pytest
import torch
from tests.graphs.dense import dense

from cofit.core import ConfigError, DataError, torch_generator
from cofit.graphs import Adjacency, Graph, aggregate, edge_softmax, reduce_edges
from cofit.graphs.aggregate import edge_products
from cofit.graphs.edges import attend

EMPTY = Adjacency(torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 3)


def features(adjacency: Adjacency, d: int = 4) -> torch.Tensor:
    generator = torch_generator(3, "features")
    return torch.randn(adjacency.num_src, d, dtype=torch.float64, generator=generator)


def extremes_by_loop(adjacency: Adjacency, x: torch.Tensor, largest: bool) -> torch.Tensor:
    result = torch.zeros(adjacency.num_dst, x.shape[1], dtype=x.dtype)
    for v in range(adjacency.num_dst):
        rows = x[adjacency.indices[adjacency.indptr[v] : adjacency.indptr[v + 1]]]
        if len(rows):
            result[v] = rows.amax(0) if largest else rows.amin(0)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_and_means_are_matrix_products(
    block: Adjacency, graph: Graph, dtype: torch.dtype
) -> None:
    for adjacency in (graph.adjacency, block):
        x = features(adjacency)
        total = dense(adjacency) @ x
        close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
        assert aggregate(adjacency, x.to(dtype)).dtype == dtype
        torch.testing.assert_close(aggregate(adjacency, x.to(dtype)), total.to(dtype), **close)
        mean = total / graph.in_degree[: adjacency.num_dst, None].clamp(min=1)
        torch.testing.assert_close(
            aggregate(adjacency, x.to(dtype), "mean"), mean.to(dtype), **close
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_those_of_a_loop(graph: Graph, dtype: torch.dtype) -> None:
    x = features(graph.adjacency).to(dtype) - 5  # all below zero: an empty maximum would show
    for reduce in ("max", "min"):
        expected = extremes_by_loop(graph.adjacency, x, reduce == "max")
        assert torch.equal(aggregate(graph.adjacency, x, reduce), expected)


def test_no_edges_give_zeros() -> None:
    for reduce in ("sum", "mean", "max", "min"):
        x = torch.randn(3, 2, requires_grad=True)
        result = aggregate(EMPTY, x, reduce)
        assert torch.equal(result, torch.zeros(3, 2))
        result.sum().backward()
        assert x.grad is not None and torch.equal(x.grad, torch.zeros(3, 2))


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
def test_gradients_of_features(block: Adjacency, reduce: str) -> None:
    x = features(block, 3).requires_grad_()
    torch.autograd.gradcheck(lambda x: aggregate(block, x, reduce), x)


def test_gradients_of_trained_edge_weights(block: Adjacency) -> None:
    x = features(block, 3).requires_grad_()
    assert block.weight is not None
    weight = block.weight.clone().requires_grad_()
    torch.autograd.gradcheck(lambda x, w: aggregate(block, x, "mean", w), (x, weight))
    given = aggregate(replace(block, weight=None), x, weight=weight)
    torch.testing.assert_close(given, aggregate(block, x))


def test_edge_products(block: Adjacency) -> None:
    right = features(block)
    left = right[10:20]
    expected = (left[block.destinations] * right[block.indices]).sum(1)
    torch.testing.assert_close(edge_products(block, left, right), expected)


def test_permuted_sums_are_the_same_bits(graph: Graph) -> None:
    order = torch.randperm(graph.num_nodes, generator=torch_generator(4))
    x = features(graph.adjacency, 7).float()
    there = aggregate(graph.permute(order).adjacency, x[order])
    assert torch.equal(there, aggregate(graph.adjacency, x)[order])


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
def test_reduced_messages(block: Adjacency, reduce: str) -> None:
    generator = torch_generator(5)
    messages = torch.randn(block.num_edges, 3, dtype=torch.float64, generator=generator)
    expected = torch.zeros(block.num_dst, 3, dtype=torch.float64)
    for v in range(block.num_dst):
        rows = messages[block.destinations == v]
        if len(rows):
            expected[v] = getattr(rows, f"a{reduce}" if reduce in ("max", "min") else reduce)(0)
    torch.testing.assert_close(reduce_edges(block, messages, reduce), expected)
    torch.autograd.gradcheck(
        lambda m: reduce_edges(block, m, reduce), messages.requires_grad_(), atol=1e-6
    )


def test_softmax_over_the_edges_of_each_destination(graph: Graph) -> None:
    adjacency = graph.adjacency
    generator = torch_generator(6)
    logits = 50 * torch.randn(adjacency.num_edges, 2, dtype=torch.float64, generator=generator)
    found = edge_softmax(adjacency, logits)
    for v in range(adjacency.num_dst):
        edges = adjacency.destinations == v
        torch.testing.assert_close(found[edges], logits[edges].softmax(0))
    torch.autograd.gradcheck(lambda x: edge_softmax(adjacency, x), (logits / 50).requires_grad_())


def test_attention_is_one_weighted_sum_per_head(
    block: Adjacency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cofit.graphs.edges._CHUNK_BYTES", 700)  # several uneven chunks
    generator = torch_generator(7)
    h = torch.randn(block.num_src, 3, 2, dtype=torch.float64, generator=generator)
    weights = torch.rand(block.num_edges, 3, dtype=torch.float64, generator=generator)
    found = attend(block, h, weights)
    for head in range(3):
        matrix = dense(replace(block, weight=weights[:, head]))
        torch.testing.assert_close(found[:, head], matrix @ h[:, head])
    inputs = h.requires_grad_(), weights.requires_grad_()
    torch.autograd.gradcheck(lambda h, w: attend(block, h, w), inputs)


def test_refused(graph: Graph) -> None:
    with pytest.raises(DataError, match=r"give \(40, d\)"):
        aggregate(graph.adjacency, torch.ones(39, 2))
    with pytest.raises(ConfigError, match="'median'; choose one of sum, mean, max, min"):
        aggregate(graph.adjacency, torch.ones(40, 2), "median")
