"""BNS-GCN's numbered checks. The weights of ten steps: tests/graphs/test_halo_oracle.py."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from tests.graphs.halo_oracle import Oracle
from tests.graphs.test_halo_exchange import on_ranks, train
from tests.graphs.test_halo_oracle import (
    RATE,
    STEPS,
    last_weights,
    parted,
    small_graph,
    train_parted,
)

from cofit.core import CommunicationError, ConfigError, DataError
from cofit.graphs import (
    FullGraph,
    Graph,
    GraphRecipe,
    aggregate,
    build_gnn,
    stochastic_block_model,
    train_graph,
)
from cofit.graphs.halo import (
    Exact,
    GraphJob,
    HaloExchange,
    InProcess,
    PartitionedGraph,
    Sampled,
    partition,
    run_rank,
    run_ranks,
    train_part,
)
from cofit.reproductions import reproduce, reproduction
from cofit.reproductions.bns_gcn import memory_claim
from cofit.reproductions.harness import Step
from cofit.reproductions.harness.parted import CHOSEN, crossed_blocks, memory_arm, train_arm


@pytest.fixture(scope="module")
def blocks() -> Graph:
    return stochastic_block_model(300, classes=3, degree=8, homophily=0.8, features=8, seed=0)


@pytest.mark.parametrize("kind", ["gcn", "sage", "gat", "gin"])
def test_01_exact_is_full_graph_training(kind: str) -> None:
    _is_full_graph_training(small_graph(torch.float64), kind, torch.float64, 1e-10)
    if kind in ("gcn", "sage"):  # others have gradients near zero, whose rounding Adam enlarges
        _is_full_graph_training(small_graph(torch.float32), kind, torch.float32, 1e-5)


def _is_full_graph_training(graph: Graph, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    model = build_gnn(kind, [5, 6, 6, 3], seed=1).to(dtype)
    whole = train_graph(model, FullGraph(graph), GraphRecipe(STEPS, RATE))
    for parts in (1, 4):
        for result in train_parted(graph, parted(graph, parts), kind, Exact()):
            assert result.trained.history.losses == pytest.approx(
                whole.history.losses, abs=tolerance
            )
            for name, expected in whole.model.named_parameters():
                found = last_weights(result)[name]
                torch.testing.assert_close(found, expected.detach(), rtol=0, atol=tolerance)


def test_02_rows_and_bytes_are_those_of_the_closed_form(blocks: Graph) -> None:
    part, p = partition(blocks, 4, "random").part, 0.3
    pairs = PartitionedGraph.build(blocks, part).pairs
    total = train(blocks, part, Sampled(p, draw="floor"))[0].total
    rows = sum(int(p * count) for count in pairs.flatten().tolist())
    assert total.exchanged == 3 * 2 * rows * (12 + 7) * 4

    def work(exchange: HaloExchange) -> int:
        exchange.begin(0)
        return exchange.adjacency.num_src - exchange.part.num_inner

    assert sum(on_ranks(blocks, part, Sampled(p, draw="floor"), work)) == rows


def test_03_sampling_is_unbiased_with_the_variance_of_the_closed_form() -> None:
    graph, p, draws = small_graph(torch.float64), 0.3, 2000
    assert graph.x is not None
    x, part = graph.x, parted(graph, 2)
    exact = aggregate(graph.adjacency, x, "mean")

    def work(exchange: HaloExchange) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        inner = exchange.part.inner
        seen = []
        for step in range(draws):
            exchange.begin(step)
            seen.append(aggregate(exchange.adjacency, exchange(x[inner], 0), "mean"))
        return inner, torch.stack(seen).mean(0), torch.stack(seen).var(0).sum(1)

    checked = 0
    for inner, mean, variance in on_ranks(graph, part, Sampled(p, seed=2), work):
        for row, v in enumerate(inner.tolist()):
            sources = graph.indices[graph.indptr[v] : graph.indptr[v + 1]]
            lost = [u for u in sources.tolist() if part[u] != part[v]]
            counts = {u: lost.count(u) for u in lost}
            power = sum(float(x[u].square().sum()) * c * c for u, c in counts.items())
            expected = (1 - p) / p * power / max(len(sources), 1) ** 2
            error = 4 * (expected / draws) ** 0.5
            assert float((mean[row] - exact[v]).norm()) <= error + 1e-12
            if len(counts) > 2:
                assert float(variance[row]) == pytest.approx(expected, rel=0.12)
                checked += 1
    assert checked > 2


@pytest.mark.parametrize("kind", ["gcn", "sage"])
@pytest.mark.parametrize("draw", ["floor", "bernoulli"])
def test_04_gradients_are_those_of_the_masked_matrix(kind: str, draw: str) -> None:
    """In float64; without the factor in either direction, or with local degrees, this fails."""
    graph, policy = small_graph(torch.float64), Sampled(0.5, seed=3, draw=draw)
    part = parted(graph, 3)
    model = build_gnn(kind, [5, 6, 6, 3], seed=1).double()
    oracle = Oracle(graph, part, model, kind, policy, 1e-300)
    oracle.step(0)
    unscaled = Oracle(graph, part, model, kind, Sampled(0.5, 3, draw, scale=False), 1e-300)
    unscaled.step(0)

    def work(transport: InProcess) -> dict[str, torch.Tensor]:
        mine = build_gnn(kind, [5, 6, 6, 3], seed=1).double()
        train_part(graph, part, mine, GraphRecipe(1, 1e-300), transport, policy=policy)
        return {name: p.grad for name, p in mine.named_parameters() if p.grad is not None}

    for gradients in run_ranks(3, work):
        for name, weight in oracle.weights.items():
            torch.testing.assert_close(gradients[name], weight.grad, rtol=0, atol=1e-9)
    first = next(iter(oracle.weights))
    assert not torch.allclose(gradients[first], unscaled.weights[first].grad, atol=1e-6)  # type: ignore[arg-type]


def test_05_the_volume_of_metis_is_the_sum_of_our_halos(blocks: Graph) -> None:
    for parts in (2, 5, 16):
        found = partition(blocks, parts, "metis", seed=parts)
        share = PartitionedGraph.build(blocks, found.part).shares
        assert found.objective == sum(len(nodes) for s in share for nodes in s.halo)


def test_06_p_0_is_training_on_the_edges_within_parts(blocks: Graph) -> None:
    graph = small_graph(torch.float64)
    part = parted(graph, 4)
    model = build_gnn("gcn", [5, 6, 6, 3], seed=1).double()
    oracle = Oracle(graph, part, model, "gcn", Exact(), RATE)
    oracle.across = torch.zeros_like(oracle.across)  # normalised by the degrees in the whole graph
    oracle.first = 0
    for step in range(STEPS):
        oracle.step(step)
    result = train_parted(graph, part, "gcn", Sampled(0.0), "exchanged")[0]
    for name, expected in oracle.weights.items():
        torch.testing.assert_close(
            last_weights(result)[name], expected.detach(), rtol=0, atol=1e-10
        )
    assert result.total.exchanged == 0


def test_half_the_rows_are_drawn_at_random(blocks: Graph) -> None:
    part = partition(blocks, 4, "random").part
    exact = train(blocks, part, Exact())[0].total.exchanged
    half = train(blocks, part, Sampled(0.5))[0].total.exchanged
    assert half != exact // 2 and half == pytest.approx(exact / 2, rel=0.1)


def test_07_a_tenth_of_the_halo_suffices_where_none_does_not() -> None:
    lost: dict[float, list[float]] = {0.1: [], 0.0: []}
    for seed in (0, 1):
        graph, part = crossed_blocks(1600, 4, 90, 1.7, seed)

        def accuracy(p: float, graph: Graph = graph, part: torch.Tensor = part) -> float:
            arm = train_arm(graph, part, Sampled(p), hidden=16, layers=2, epochs=40, seed=0)
            return float(arm["accuracy"])

        whole = accuracy(1.0)
        for p, losses in lost.items():
            losses.append(100 * (whole - accuracy(p)))
    assert fmean(lost[0.1]) <= 1 and fmean(lost[0.0]) >= 3


def test_08_draws_are_uniform_and_differ_by_pair_and_step() -> None:
    for draw in ("bernoulli", "floor"):
        policy = Sampled(0.25, seed=1, draw=draw)
        drawn = [policy.rows(step, 0, 1, 10) for step in range(2000)]
        counts = torch.bincount(torch.cat([d for d in drawn if d is not None]), minlength=10)
        share = 0.25 if draw == "bernoulli" else 0.2
        assert (counts - 2000 * share).abs().max() < 5 * (2000 * share * (1 - share)) ** 0.5
    assert all(len(d) == 2 for d in drawn if d is not None)
    big = [policy.rows(s, i, j, 500) for s, i, j in ((0, 0, 1), (0, 1, 0), (0, 0, 2), (1, 0, 1))]
    assert all(not torch.equal(a, b) for n, a in enumerate(big) for b in big[:n])  # type: ignore[arg-type]
    again = Sampled(0.25, seed=1, draw="floor").rows(0, 0, 1, 500)
    assert torch.equal(big[0], again)  # type: ignore[arg-type]


def test_08_one_seed_one_run(blocks: Graph) -> None:
    part = partition(blocks, 3).part
    first, again, other = (
        train(blocks, part, Sampled(0.4, seed))[0].trained.history.losses for seed in (0, 0, 1)
    )
    assert first == again and first != other


def test_09_refused(blocks: Graph) -> None:
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="choose from 0 to 1"):
            Sampled(p)
    with pytest.raises(ConfigError, match="301 parts of a graph of 300 nodes"):
        partition(blocks, 301)
    one_way = Graph.from_edges(torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]), 6)
    both = partition(one_way.symmetrised(), 2).part
    assert torch.equal(partition(one_way, 2).part, both)  # directed graphs are symmetrised
    with pytest.raises(DataError, match="features of node 1 contain NaN"):
        Graph.from_edges(torch.tensor([[0], [1]]), 2, x=torch.tensor([[0.0], [torch.nan]]))

    def one_leaves(transport: InProcess) -> None:
        if transport.rank:
            share = PartitionedGraph.build(blocks, torch.arange(300) % 3).share(transport.rank)
            HaloExchange(share, transport)

    with pytest.raises(CommunicationError, match="waits for rank 0, which sends nothing"):
        run_ranks(3, one_leaves)


def test_the_memory_of_a_large_graph_is_a_claim_of_the_standard_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least 200,000 nodes and 10 million edges; here without its processes."""
    large = reproduction("bns-gcn").scales["standard"].large
    nodes = int(large.graph.removeprefix("reddit_like:"))
    assert nodes >= 200_000 and nodes * 60 / 2 >= 10_000_000

    def ranks(job: GraphJob, out: Path, progress: object) -> dict[str, Any]:
        def work(transport: InProcess) -> dict[str, Any]:
            return run_rank(job, out, transport, lambda *_: None)

        return {**run_ranks(2, work)[0], "peak_bytes": 2**30}

    monkeypatch.setattr("cofit.reproductions.harness.parted.run_ranks_of", ranks)
    small = replace(large, graph="reddit_like:10000", hidden=4)
    found = memory_arm(small, Step("memory", tmp_path, lambda *_: None))
    claim = memory_claim(found)
    assert "10,000 nodes and 300,000 edges" in claim.claim
    assert claim.measured.mean > 1.05 and claim.holds  # this process counts too
    assert not memory_claim({**found, "peak": 25 * 2**30}).holds


def test_smoke_runs_and_resumes(tmp_path: Path) -> None:
    def silent(stage: str, done: int, total: int) -> None:
        """No progress."""

    first = reproduce("bns-gcn", "smoke", tmp_path, silent)
    assert len(first.claims) == 5 and first.claims[2].holds
    told = [c for c in first.claims if CHOSEN in c.note]
    assert len(told) == 2 and all("blocks" in c.claim for c in told)
    assert len(list((tmp_path / "steps").glob("*.json"))) == 4
    (tmp_path / "finding.json").unlink()
    again = reproduce("bns-gcn", "smoke", tmp_path, silent)
    assert (again.claims, again.seconds) == (first.claims, first.seconds)
