"""Generated graphs: what they promise holds, and one seed is one graph."""

import numpy as np
import pytest
import torch

from cofit.core import ConfigError
from cofit.graphs import Graph, reddit_like, stochastic_block_model


def small(seed: int = 0, **changes: float) -> Graph:
    settings = {"classes": 4, "degree": 10.0, "homophily": 0.7, "features": 8, "noise": 0.5}
    return stochastic_block_model(2001, **(settings | changes), seed=seed)  # type: ignore[arg-type]


def hubs(seed: int = 0) -> Graph:
    return reddit_like(20_000, classes=5, degree=20, exponent=2.2, features=4, seed=seed)


@pytest.mark.parametrize("make", [small, hubs])
def test_edges_are_distinct_undirected_and_as_many_as_asked(make) -> None:  # type: ignore[no-untyped-def]
    graph = make()
    assert graph.is_symmetric and not graph.has_self_loops
    keys = graph.edge_index[1] * graph.num_nodes + graph.edge_index[0]
    assert len(torch.unique(keys)) == graph.num_edges
    degree = 10 if make is small else 20
    assert graph.num_edges == 2 * round(graph.num_nodes * degree / 2)


@pytest.mark.parametrize("make", [small, hubs])
def test_one_seed_one_graph(make) -> None:  # type: ignore[no-untyped-def]
    first, again, other = make(0), make(0), make(1)
    for name in ("indptr", "indices", "x", "y", "train_mask"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(first.indices[:1000], other.indices[:1000])
    assert not torch.equal(first.x, other.x)


def test_share_of_edges_within_classes() -> None:
    graph = small()
    assert graph.y is not None
    source, target = graph.edge_index
    within = float((graph.y[source] == graph.y[target]).double().mean())
    expected = 0.7 + 0.3 / 4  # what is drawn from all nodes hits the own class by chance
    error = (expected * (1 - expected) / (graph.num_edges / 2)) ** 0.5
    assert abs(within - expected) < 4 * error
    sizes = torch.bincount(graph.y)
    assert sizes.max() - sizes.min() == 1
    assert (graph.y[:100] == graph.y[0]).sum() < 60  # nodes do not come class by class


def test_degrees_of_the_block_model_are_those_of_independent_edges() -> None:
    degree = small().in_degree.double()
    # binomial with many trials: variance is nearly the mean, so far tails are absent
    assert abs(degree.var() / degree.mean() - 1) < 0.15
    assert degree.max() < 10 + 7 * 10**0.5


def test_degrees_of_the_reddit_like_graph_follow_a_power_law() -> None:
    degree = hubs().in_degree.double()
    assert degree.max() > 20 * degree.mean()
    tail = degree[degree >= 30].numpy()  # Hill's estimate of the exponent of the density
    exponent = 1 + 1 / np.log(tail / 30).mean()
    assert abs(exponent - 2.2) < 0.3  # the cut at 50 means raises it a little


def test_features_are_the_class_vector_and_noise() -> None:
    graph = small()
    assert graph.x is not None and graph.y is not None
    centres = torch.stack([graph.x[graph.y == c].mean(0) for c in range(4)])
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(4), atol=0.1, rtol=0)
    spread = (graph.x - centres[graph.y]).std()
    assert abs(float(spread) - 0.5) < 0.02
    silent = small(noise=0.0)
    assert silent.x is not None and len(torch.unique(silent.x, dim=0)) == 4


@pytest.mark.slow
def test_reddit_like_at_full_size() -> None:
    graph = reddit_like()
    assert graph.num_nodes == 200_000 and graph.num_edges == 12_000_000


@pytest.mark.parametrize(
    "changes",
    [{"classes": 1}, {"homophily": 1.5}, {"noise": -1}, {"degree": 2000}, {"features": 0}],
)
def test_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="give"):
        small(**changes)


def test_an_exponent_without_a_mean_is_refused() -> None:
    with pytest.raises(ConfigError, match="only above 2"):
        reddit_like(100, exponent=2.0)
