"""Batch norms over the nodes of all ranks, GIN's networks, and metrics that need all outputs."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from tests.graphs.halo_oracle import Oracle
from tests.graphs.test_halo_oracle import RATE, STEPS, parted, small_graph
from torch import nn

from cofit.core import DataError
from cofit.graphs import (
    GIN,
    GNN,
    FullGraph,
    Graph,
    GraphRecipe,
    build_gnn,
    evaluate,
    roc_auc,
    train_graph,
)
from cofit.graphs.halo import (
    Composed,
    Exact,
    HaloResult,
    InProcess,
    Policy,
    Sampled,
    Stale,
    run_ranks,
    train_part,
)

POLICIES = [
    Exact(),
    Sampled(0.4, seed=5),
    Stale(0.5, 0.7),
    Composed(Sampled(0.4, seed=5), Stale()),
]


def gin_with_norms(momentum: float | None = 0.1) -> GNN:
    """Three layers of GIN whose networks have a batch norm, and batch norms between the layers.

    What a norm follows has no bias: its gradient would be rounding, which Adam makes steps of.
    """

    def network(d_in: int, d_out: int) -> nn.Module:
        hidden = nn.BatchNorm1d(7, momentum=momentum)
        last = nn.Linear(7, d_out, bias=d_out == 3)
        return nn.Sequential(nn.Linear(d_in, 7, bias=False), hidden, nn.ReLU(), last)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        widths = ((5, 6), (6, 6), (6, 3))
        layers = [GIN(network(*pair), eps=0.1, train_eps=True) for pair in widths]
        norms = [nn.BatchNorm1d(6, momentum=momentum), nn.BatchNorm1d(6, affine=False)]
    return GNN(layers, norms=norms).double()


def train_on_ranks(
    graph: Graph, part: torch.Tensor, model: GNN, policy: Policy, metric: object = None
) -> list[HaloResult]:
    def work(transport: InProcess) -> HaloResult:
        given = {} if metric is None else {"metric": metric}
        return train_part(
            graph, part, copy.deepcopy(model), GraphRecipe(STEPS, RATE), transport, policy=policy,
            **given,  # type: ignore[arg-type]
        )  # fmt: skip

    return run_ranks(int(part.max()) + 1, work)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_weights_and_statistics_after_ten_steps(policy: Policy) -> None:
    """Against torch's own norms on all nodes; norms of each rank by itself are far off."""
    graph = small_graph(torch.float64)
    part, model = parted(graph, 4), gin_with_norms()
    oracle = Oracle(graph, part, model, "gin", policy, RATE)
    for step in range(STEPS):
        oracle.step(step)
    expected = oracle.model.state_dict()
    for result in train_on_ranks(graph, part, model, policy):
        assert result.trained.history.losses == pytest.approx(oracle.losses, abs=1e-10)
        found = result.trained.model.state_dict()
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=0, atol=1e-10, msg=name)
        assert all("forward" not in vars(m) for m in result.trained.model.modules())


@pytest.mark.parametrize("momentum", [0.1, None])
def test_exact_parts_are_full_graph_training_whatever_the_norms(momentum: float | None) -> None:
    graph = small_graph(torch.float64)
    model = gin_with_norms(momentum)
    whole = train_graph(copy.deepcopy(model), FullGraph(graph), GraphRecipe(STEPS, RATE))
    for result in train_on_ranks(graph, parted(graph, 3), model, Exact()):
        assert result.trained.history.losses == pytest.approx(whole.history.losses, abs=1e-10)
        inputs = graph.adjacency, graph.x
        with torch.no_grad():
            found, expected = result.trained.model(*inputs), whole.model(*inputs)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_statistics_are_counted() -> None:
    """Forward, a sum and a count, then squares; backward the gradients of both."""
    graph = small_graph(torch.float32)
    model = build_gnn("gcn", [5, 6, 6, 3], seed=1, norm="batch")
    results = train_on_ranks(graph, parted(graph, 3), model, Stale())
    per_norm = 2 * (6 + 1 + 6) * 4
    assert results[0].traffic.statistics == STEPS * 2 * per_norm
    assert results[0].total.statistics == 3 * STEPS * 2 * per_norm


def binary(ranks: int = 3) -> tuple[Graph, torch.Tensor]:
    graph = small_graph(torch.float64)
    assert graph.y is not None
    number = torch.arange(30)
    masks = {f"{name}_mask": number % 3 == i for i, name in enumerate(("train", "val", "test"))}
    return replace(graph, y=(graph.y > 0).long(), **masks), parted(graph, ranks)  # type: ignore[arg-type]


def test_area_under_the_curve_over_all_ranks() -> None:
    """Ranks rank their nodes among those of all, and choose the epoch by it, as one process."""
    graph, part = binary()
    model = build_gnn("sage", [5, 6, 6, 2], seed=1, norm="batch").double()
    whole = train_graph(
        copy.deepcopy(model), FullGraph(graph), GraphRecipe(STEPS, RATE),
        evaluate=partial(evaluate, graph=graph, metric=roc_auc),
    )  # fmt: skip
    assert len({row[3] for row in whole.history.scores}) > 3
    for result in train_on_ranks(graph, part, model, Exact(), roc_auc):
        found = result.trained
        assert (found.epoch, found.scores) == (whole.epoch, whole.scores)
        for row, expected in zip(found.history.scores, whole.history.scores, strict=True):
            assert row == pytest.approx(expected, abs=1e-10)


def test_area_under_the_curve_needs_two_classes() -> None:
    graph, part = binary()
    many = replace(graph, y=torch.arange(30) % 3)
    model = build_gnn("gcn", [5, 6, 6, 3], seed=1).double()
    with pytest.raises(DataError, match="two classes"):
        train_on_ranks(many, part, model, Exact(), roc_auc)
