"""Stacks of layers: what they compute, how they are seeded, what they refuse."""

import pytest
import torch
from torch import nn

from cofit.core import ConfigError, UnknownNameError, torch_generator
from cofit.graphs import GCN, GNN, Graph, build_gnn
from cofit.graphs.features import SparseRows, dropout, linear, sparse_rows


def test_layers_norms_and_relu_in_order(graph: Graph) -> None:
    model = build_gnn("sage", [5, 6, 6, 3], seed=0, norm="layer")
    assert graph.x is not None
    x = graph.x
    for index, layer in enumerate(model.layers):
        x = layer(graph.adjacency, x)
        if index < 2:
            x = torch.relu(model.norms[index](x))
    torch.testing.assert_close(model(graph.adjacency, graph.x), x)


def test_dropout_only_in_training(graph: Graph) -> None:
    model = build_gnn("gcn", [5, 6, 3], seed=0, dropout=0.5)
    assert not torch.equal(model(graph.adjacency, graph.x), model(graph.adjacency, graph.x))
    model.eval()
    assert torch.equal(model(graph.adjacency, graph.x), model(graph.adjacency, graph.x))


def test_weights_come_from_the_seed_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (build_gnn("gin", [5, 6, 3], seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(
        first.state_dict()["layers.0.network.0.weight"],
        other.state_dict()["layers.0.network.0.weight"],
    )


@pytest.mark.parametrize("kind", ["gcn", "sage", "gat", "gin"])
def test_widths(graph: Graph, kind: str) -> None:
    model = build_gnn(kind, [5, 8, 3], seed=0, heads=2)
    assert model(graph.adjacency, graph.x).shape == (40, 3)


@pytest.mark.parametrize("kind", ["gcn", "sage", "gat"])
def test_zeros_of_features_change_nothing_but_the_time(
    graph: Graph, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch_generator(0)
    x = torch.rand(40, 200, dtype=torch.float64, generator=generator)
    x[torch.rand(40, 200, generator=generator) < 0.95] = 0
    results = []
    for sparse in (True, False):
        if not sparse:
            monkeypatch.setattr("cofit.graphs.models.sparse_rows", lambda x: None)
        model = build_gnn(kind, [200, 8, 3], seed=0).double()
        assert isinstance(model._features(graph.adjacency, x), SparseRows) == sparse
        outputs = model(graph.adjacency, x)
        outputs.square().sum().backward()
        results.append([outputs, *(p.grad for p in model.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_features_are_looked_at_again_when_they_change(graph: Graph) -> None:
    x = torch.zeros(40, 100)
    x[:, 0] = 1
    model = build_gnn("gcn", [100, 3], seed=0)
    first = model(graph.adjacency, x)
    x[:, 1] = 1
    assert not torch.equal(model(graph.adjacency, x), first)
    layer = model.layers[0]
    torch.testing.assert_close(model(graph.adjacency, x), layer(graph.adjacency, x))
    assert sparse_rows(torch.ones(40, 100)) is None
    leaf = x.clone().requires_grad_()
    model(graph.adjacency, leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad.any()
    with torch.inference_mode():
        torch.testing.assert_close(model(graph.adjacency, x.clone()), layer(graph.adjacency, x))


def test_dropout_of_sparse_features_drops_and_scales_the_non_zeros() -> None:
    x = torch.zeros(1000, 100)
    x[:, :5] = 3
    rows = sparse_rows(x)
    assert rows is not None and dropout(rows, 0.25, False) is rows
    dropped = dropout(rows, 0.25, True)
    assert isinstance(dropped, SparseRows) and dropped.values is not None
    assert set(dropped.values.tolist()) == {0.0, 4.0}
    assert abs(float((dropped.values == 0).double().mean()) - 0.25) < 0.03  # 5,000 draws
    weight = torch.eye(100)
    dense = linear(dropped, weight)
    assert torch.equal(dense[x == 0], torch.zeros(95_000)) and (dense[:, :5] == 4).any()


def test_refused(graph: Graph) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gcn'"):
        build_gnn("gcm", [5, 3], seed=0)
    with pytest.raises(ConfigError, match="widths"):
        build_gnn("gcn", [5], seed=0)
    with pytest.raises(ConfigError, match="multiple of the heads"):
        build_gnn("gat", [5, 7, 3], seed=0, heads=2)
    with pytest.raises(ConfigError, match="2 norms for 2 layers"):
        GNN([GCN(5, 4), GCN(4, 3)], norms=[nn.LayerNorm(4), nn.LayerNorm(3)])
    with pytest.raises(ConfigError, match="1 blocks for 2 layers"):
        build_gnn("gcn", [5, 4, 3], seed=0)([graph.adjacency], graph.x)
