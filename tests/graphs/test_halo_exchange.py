"""The exchange itself: bytes, rows, bias, variance, staleness step by step, and transports."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.graphs.test_halo_oracle import parted, small_graph

from cofit.core import CommunicationError, ConfigError, DataError
from cofit.graphs import Graph, GraphRecipe, aggregate, build_gnn, stochastic_block_model
from cofit.graphs.halo import (
    Composed,
    Emulated,
    Exact,
    HaloExchange,
    HaloResult,
    InProcess,
    PartitionedGraph,
    Policy,
    Sampled,
    Stale,
    Traffic,
    parse_policy,
    partition,
    run_ranks,
    train_part,
)


@pytest.fixture(scope="module")
def blocks() -> Graph:
    return stochastic_block_model(300, classes=3, degree=8, homophily=0.8, features=8, seed=0)


def on_ranks(graph: Graph, part: torch.Tensor, policy: Policy, work: Callable[..., Any]) -> Any:
    shared = PartitionedGraph.build(graph, part)

    def rank(transport: InProcess) -> Any:
        return work(HaloExchange(shared.share(transport.rank), transport, policy))

    return run_ranks(shared.size, rank)


def train(graph: Graph, part: torch.Tensor, policy: Policy, epochs: int = 3) -> list[HaloResult]:
    def work(transport: InProcess) -> HaloResult:
        model = build_gnn("sage", [8, 12, 7, 3], seed=0)
        return train_part(graph, part, model, GraphRecipe(epochs), transport, policy=policy)

    return run_ranks(int(part.max()) + 1, work)


@pytest.mark.parametrize(
    "policy", [Exact(), Stale(), Stale(0.9, 0.9), Sampled(0.3, draw="floor")], ids=repr
)
def test_bytes_are_those_of_the_closed_form(blocks: Graph, policy: Policy) -> None:
    part = partition(blocks, 4, "random").part
    pairs = PartitionedGraph.build(blocks, part).pairs
    p = policy.p if isinstance(policy, Sampled) else 1.0
    rows = int((p * pairs.double()).floor().sum())
    results = train(blocks, part, policy)
    total = results[0].total
    assert total.features == total.gradients == 3 * rows * (12 + 7) * 4
    assert total.exchanged == 2 * total.features
    weights = sum(w.numel() for w in results[0].trained.model.parameters())
    assert total.weights == 4 * 3 * weights * 4
    halo = int(pairs.sum())
    assert total.setup == halo * 8 + halo * 8 * 4  # node numbers, and 8 features each
    assert total.evaluation == 3 * halo * (12 + 7) * 4
    assert total == Traffic(*(sum(vars(r.traffic)[k] for r in results) for k in vars(total)))


def test_nothing_travels_at_p_0_and_halves_at_random(blocks: Graph) -> None:
    part = partition(blocks, 4, "random").part
    assert train(blocks, part, Sampled(0.0))[0].total.exchanged == 0
    exact = train(blocks, part, Exact())[0].total.exchanged
    half = train(blocks, part, Sampled(0.5))[0].total.exchanged
    assert half != exact // 2 and half == pytest.approx(exact / 2, rel=0.1)


def test_draws_are_uniform_and_differ_by_pair_and_step() -> None:
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


def test_sampled_aggregation_is_unbiased_with_the_variance_of_the_closed_form() -> None:
    graph, p, draws = small_graph(torch.float64), 0.3, 4000
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


def test_frozen_weights_reach_the_exact_fixed_point() -> None:
    """Outputs from epoch L + 1 on and gradients from 2 L + 1 on are exact; L layers exchanged."""
    graph = small_graph(torch.float64)
    part, layers = parted(graph, 3), 2

    def gradients(policy: Policy, epochs: int) -> tuple[list[float], dict[str, torch.Tensor]]:
        def work(transport: InProcess) -> Any:
            model = build_gnn("gcn", [5, 6, 6, 3], seed=1).double()
            recipe = GraphRecipe(epochs, 1e-300)
            found = train_part(graph, part, model, recipe, transport, policy=policy)
            grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            return found.trained.history.losses, grads

        return run_ranks(3, work)[0]  # type: ignore[no-any-return]

    losses, exact = gradients(Exact(), 1)
    stale, _ = gradients(Stale(), 2 * layers + 1)
    assert stale[layers:] == pytest.approx(losses * (layers + 1), abs=1e-12)
    assert abs(stale[layers - 1] - losses[0]) > 1e-6
    for epochs, close in ((2 * layers, False), (2 * layers + 1, True)):
        _, found = gradients(Stale(), epochs)
        same = all(torch.allclose(found[n], exact[n], rtol=0, atol=1e-12) for n in exact)
        assert same == close


def test_epoch_0_reads_zeros_and_epoch_1_what_epoch_0_sent() -> None:
    graph = small_graph(torch.float32)
    assert graph.x is not None
    x, part = graph.x, parted(graph, 3)

    def work(exchange: HaloExchange) -> None:
        inner, halo = exchange.part.inner, torch.cat(exchange.part.halo)
        for step in range(3):
            exchange.begin(step)
            found = exchange(x[inner] + step, 1)[len(inner) :]
            expected = torch.zeros_like(found) if step == 0 else x[halo] + (step - 1)
            assert torch.equal(found, expected)
        exchange.drain()

    on_ranks(graph, part, Stale(), work)


def test_a_moving_average_of_a_constant() -> None:
    graph, gamma = small_graph(torch.float64), 0.7
    part = parted(graph, 2)

    def work(exchange: HaloExchange) -> None:
        constant = torch.full((exchange.part.num_inner, 2), 3.0, dtype=torch.float64)
        for step in range(6):
            exchange.begin(step)
            found = exchange(constant, 1)[exchange.part.num_inner :]
            expected = torch.full_like(found, 3 * (1 - gamma**step))
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        exchange.drain()

    on_ranks(graph, part, Stale(gamma, gamma), work)


def test_evaluation_touches_no_buffer(blocks: Graph) -> None:
    part = partition(blocks, 3).part
    often, never = (
        run_ranks(3, lambda t, e=every: train_part(  # type: ignore[misc]
            blocks, part, build_gnn("gcn", [8, 6, 3], seed=0),
            GraphRecipe(6, evaluate_every=e), t, policy=Stale(0.5, 0.5),
        ))[0].trained.history.losses
        for every in (1, 6)
    )  # fmt: skip
    assert often == never


def test_virtual_ranks_are_deterministic_and_leave_the_generator(blocks: Graph) -> None:
    part = partition(blocks, 4).part

    def run() -> list[list[float]]:
        def work(transport: InProcess) -> list[float]:
            model = build_gnn("sage", [8, 6, 3], seed=0, dropout=0.5)
            found = train_part(blocks, part, model, GraphRecipe(4), transport, policy=Sampled(0.5))
            return found.trained.history.losses

        return run_ranks(4, work)

    before = torch.get_rng_state()
    first, second = run(), run()
    assert first == second and all(losses == first[0] for losses in first)
    assert torch.equal(before, torch.get_rng_state())


def test_ranks_have_dropout_of_their_own() -> None:
    def work(transport: InProcess) -> torch.Tensor:
        torch.manual_seed(transport.rank)
        first = torch.rand(3)
        transport.all_reduce(torch.zeros(1))  # the others run here
        return torch.cat([first, torch.rand(3)])

    for rank, found in enumerate(run_ranks(3, work)):
        expected = torch.rand(6, generator=torch.Generator().manual_seed(rank))
        assert torch.equal(found, expected)


def test_a_failing_or_missing_rank_stops_the_others() -> None:
    def fails(transport: InProcess) -> None:
        if transport.rank == 1:
            raise DataError("no data here")
        transport.all_reduce(torch.zeros(1))

    with pytest.raises(DataError, match="no data here"):
        run_ranks(3, fails)

    def leaves(transport: InProcess) -> None:
        if transport.rank != 1:
            transport.start(1, [torch.empty(0)] * 3, [torch.empty(0), torch.ones(1)] * 2).wait()

    with pytest.raises(CommunicationError, match="waits for rank 1, which sends nothing"):
        run_ranks(3, leaves)


def test_different_partitions_and_weights_are_noticed() -> None:
    graph = small_graph(torch.float32)

    def parts(transport: InProcess) -> None:
        part = torch.arange(30) % 2
        if transport.rank == 1:
            part[:4] = torch.tensor([1, 0, 0, 1])
        HaloExchange(PartitionedGraph.build(graph, part).share(transport.rank), transport)

    with pytest.raises((CommunicationError, RuntimeError)):
        run_ranks(2, parts)

    def weights(transport: InProcess) -> None:
        model = build_gnn("gcn", [5, 3], seed=transport.rank)
        train_part(graph, torch.arange(30) % 2, model, GraphRecipe(1), transport)

    with pytest.raises(CommunicationError, match="from one seed"):
        run_ranks(2, weights)
    with pytest.raises(CommunicationError, match="as many ranks as there are parts"):
        run_ranks(3, lambda t: HaloExchange(
            PartitionedGraph.build(graph, torch.arange(30) % 2).share(0), t))  # fmt: skip


def test_an_emulated_link_takes_its_time_and_lets_computation_overlap() -> None:
    """On a faked clock: what a transfer costs, and that only the rest of it is slept."""
    graph = small_graph(torch.float32)
    part = parted(graph, 2)
    rows = int(PartitionedGraph.build(graph, part).pairs[0, 1])

    def work(transport: InProcess) -> tuple[float, float]:
        link = Emulated(transport, bandwidth_Bps=rows * 16 / 0.05, latency_s=0.01)
        exchange = HaloExchange(PartitionedGraph.build(graph, part).share(link.rank), link)
        start = time.monotonic()
        found = exchange.exact(torch.ones(exchange.part.num_inner, 4))
        assert torch.equal(found, torch.ones_like(found))
        return time.monotonic() - start, time.monotonic()

    taken = [seconds for seconds, _ in run_ranks(2, work)]
    assert max(taken) >= 0.06
    with pytest.raises(ConfigError, match="positive bandwidth"):
        run_ranks(1, lambda t: Emulated(t, 0, 0))


def test_policies_are_read_and_refused() -> None:
    assert parse_policy("exact") == Exact()
    assert parse_policy("sampled:0.1", 3) == Sampled(0.1, 3)
    assert parse_policy("sampled:0.1", 3, attention=True) == Sampled(0.1, 3, scale=False)
    assert parse_policy("stale") == Stale() and parse_policy("stale:0.5") == Stale(0.5, 0.5)
    assert parse_policy("stale:0.5:0.9") == Stale(0.5, 0.9)
    assert parse_policy("sampled:0.1+stale") == Composed(Sampled(0.1), Stale())
    for text in ("", "sampled", "sampled:x", "stale:1:2:3", "stale+sampled:1", "exact:1"):
        with pytest.raises(ConfigError, match="give exact, sampled:P"):
            parse_policy(text)
    for text, words in (("sampled:1.5", "from 0 to 1"), ("stale:1", "from 0 to below 1")):
        with pytest.raises(ConfigError, match=words):
            parse_policy(text)
    with pytest.raises(ConfigError, match="choose one of bernoulli, floor"):
        Sampled(0.5, draw="ceil")
    with pytest.raises(ConfigError, match="different samples"):
        Composed(Sampled(0.5), Stale(0.5))
