"""PyG's data in and out, and its modules in our trainer."""

import builtins
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from cofit.core import DataError, MissingDependencyError, numpy_generator
from cofit.graphs import (
    FullGraph,
    Graph,
    GraphRecipe,
    NeighbourSampler,
    PygModule,
    Sampled,
    build_gnn,
    evaluate,
    from_pyg,
    stochastic_block_model,
    to_pyg,
    train_graph,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # of PyG itself
geometric = pytest.importorskip("torch_geometric")
Data = pytest.importorskip("torch_geometric.data").Data
GCNConv = pytest.importorskip("torch_geometric.nn").GCNConv


class TheirGCN(nn.Module):
    """As in PyG's introduction."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GCNConv(8, 16), GCNConv(16, 3)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


@pytest.fixture
def blocks() -> Graph:
    return stochastic_block_model(300, classes=3, degree=10, homophily=0.8, features=8, seed=0)


def test_there_and_back(graph: Graph) -> None:
    masks = torch.arange(40) % 3
    graph = replace(graph, train_mask=masks == 0, val_mask=masks == 1, test_mask=masks == 2)
    data = to_pyg(graph)
    data.validate(raise_on_error=True)
    assert data.num_nodes == 40  # the last nodes are isolated
    again = from_pyg(data)
    for name in ("indptr", "indices", "x", "y", "edge_attr", "train_mask", "test_mask"):
        assert torch.equal(getattr(again, name), getattr(graph, name)), name


def test_edges_in_any_order_and_integer_features() -> None:
    data = Data(edge_index=torch.tensor([[2, 0, 1], [1, 1, 0]]), x=torch.ones(3, 2).long())
    data.y = torch.tensor([[1], [0], [2]])
    graph = from_pyg(data)
    assert graph.indices.tolist() == [1, 0, 2] and graph.indptr.tolist() == [0, 1, 3, 3]
    assert graph.x is not None and graph.x.dtype == torch.float32
    assert graph.y is not None and graph.y.tolist() == [1, 0, 2]


def test_refused() -> None:
    with pytest.raises(DataError, match="no edge_index"):
        from_pyg(Data(x=torch.ones(3, 2)))
    data = Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2)
    data.train_mask = torch.ones(2, 10, dtype=torch.bool)
    with pytest.raises(DataError, match="holds 10 splits; choose one"):
        from_pyg(data)
    with pytest.raises(DataError, match="destination 5"):
        from_pyg(Data(edge_index=torch.tensor([[0], [5]]), num_nodes=2))


def test_their_network_trains_like_ours(blocks: Graph) -> None:
    theirs, ours = TheirGCN(), build_gnn("gcn", [8, 16, 3], seed=0)
    for layer, conv in zip(ours.layers, (theirs.first, theirs.second), strict=True):
        conv.load_state_dict({"lin.weight": layer.weight, "bias": layer.bias})
    recipe = GraphRecipe(20, weight_decay=5e-4)
    results = [
        train_graph(m, FullGraph(blocks), recipe, evaluate=partial(evaluate, graph=blocks))
        for m in (theirs, ours)
    ]
    assert results[0].history.losses == pytest.approx(results[1].history.losses, rel=1e-4)
    assert isinstance(results[0].model, PygModule)


def test_their_network_on_samples(blocks: Graph) -> None:
    model = PygModule(TheirGCN())
    assert blocks.x is not None
    seeds = torch.arange(40)
    sample = NeighbourSampler(blocks, (None, None)).sample(seeds, numpy_generator(0))
    # all edges within two hops: the seeds see what they see in the whole graph, but the degrees of
    # the outermost nodes are cut, so that GCN agrees only where these have no part
    inner = GCNConv(8, 3)
    once = NeighbourSampler(blocks, (None, None, None)).sample(seeds, numpy_generator(0))
    expected = inner(blocks.x, blocks.edge_index)[:40]
    found = PygModule(_Once(inner))(once.blocks, blocks.x[once.nodes])
    torch.testing.assert_close(found, expected)
    assert model(sample.blocks, blocks.x[sample.nodes]).shape == (40, 3)
    trained = train_graph(
        model.module,
        Sampled(blocks, (5, 5), 50),
        GraphRecipe(15),
        evaluate=partial(evaluate, graph=blocks),
    )
    assert trained.scores is not None and trained.scores.test > 0.85


class _Once(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.conv(x, edge_index)


def test_without_pyg_the_extra_is_named(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("torch_geometric"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"cofit\[graphs\]"):
        to_pyg(graph)
