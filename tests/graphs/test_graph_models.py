"""Stacks of layers: what they compute, how they are seeded, what they refuse."""

import pytest
import torch
from torch import nn

from cofit.core import ConfigError, UnknownNameError
from cofit.graphs import GCN, GNN, Graph, build_gnn


def test_layers_norms_and_relu_in_order(graph: Graph) -> None:
    model = build_gnn("sage", [5, 6, 6, 3], seed=0, norm=True)
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
