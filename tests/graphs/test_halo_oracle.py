"""Every policy against dense matrices in one process: the same weights after ten steps."""

from dataclasses import replace

import pytest
import torch
from tests.graphs.halo_oracle import Oracle

from cofit.core import torch_generator
from cofit.graphs import Graph, GraphRecipe, build_gnn
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
    Sampled(0.4, seed=5, draw="floor"),
    Sampled(0.0),
    Stale(),
    Stale(0.5, 0.7),
    Composed(Sampled(0.4, seed=5), Stale()),
]
STEPS, RATE = 10, 0.01


def small_graph(dtype: torch.dtype) -> Graph:
    """30 nodes, directed, the last two isolated; half of them train."""
    generator = torch_generator(3, "halo")
    edges = torch.randint(0, 28, (2, 110), generator=generator)
    x = torch.randn(30, 5, generator=generator, dtype=dtype)
    y = torch.randint(0, 3, (30,), generator=generator)
    graph = Graph.from_edges(edges, 30, x=x, y=y).without_self_loops()
    return replace(graph, train_mask=torch.arange(30) % 2 == 0)


def parted(graph: Graph, parts: int) -> torch.Tensor:
    """Unequal parts, of which the last has no training node."""
    part = torch.randint(0, parts - 1, (30,), generator=torch_generator(parts)) if parts > 1 else 0
    part = torch.as_tensor(part).expand(30).clone()
    part[torch.tensor([3, 7, 11, 29])] = parts - 1
    return part


def train_parted(
    graph: Graph, part: torch.Tensor, kind: str, policy: Policy, first: str = "cached"
) -> list[HaloResult]:
    def work(transport: InProcess) -> HaloResult:
        model = build_gnn(kind, [5, 6, 6, 3], seed=1).to(graph.x.dtype)  # type: ignore[union-attr]
        recipe = GraphRecipe(STEPS, RATE)
        return train_part(graph, part, model, recipe, transport, policy=policy, first_layer=first)

    return run_ranks(int(part.max()) + 1, work)


@pytest.mark.parametrize(("kind", "parts"), [("gcn", 4), ("sage", 2)])
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_weights_after_ten_steps(policy: Policy, parts: int, kind: str) -> None:
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        graph = small_graph(dtype)
        part = parted(graph, parts)
        model = build_gnn(kind, [5, 6, 6, 3], seed=1).to(dtype)
        oracle = Oracle(graph, part, model, kind, policy, RATE)
        for step in range(STEPS):
            oracle.step(step)
        for result in train_parted(graph, part, kind, policy):
            trained = result.trained
            assert trained.history.losses == pytest.approx(oracle.losses, abs=tolerance)
            found = dict(last_weights(result))
            for name, expected in oracle.weights.items():
                torch.testing.assert_close(found[name], expected.detach(), rtol=0, atol=tolerance)


def last_weights(result: HaloResult) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in result.trained.model.named_parameters()}


@pytest.mark.parametrize("policy", POLICIES[:2] + POLICIES[4:5], ids=repr)
def test_the_first_layer_exchanged(policy: Policy) -> None:
    graph = small_graph(torch.float64)
    part = parted(graph, 4)
    model = build_gnn("sage", [5, 6, 6, 3], seed=1).double()
    oracle = Oracle(graph, part, model, "sage", policy, RATE, first=0)
    for step in range(STEPS):
        oracle.step(step)
    found = last_weights(train_parted(graph, part, "sage", policy, "exchanged")[0])
    for name, expected in oracle.weights.items():
        torch.testing.assert_close(found[name], expected.detach(), rtol=0, atol=1e-10)
