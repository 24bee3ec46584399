"""The exchange itself: bytes, rows, bias, variance, staleness step by step, and transports."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.graphs.test_halo_oracle import parted, small_graph

from cofit.core import CommunicationError, ConfigError, DataError
from cofit.graphs import Graph, GraphRecipe, build_gnn, stochastic_block_model
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

    def features(transport: InProcess) -> None:
        mine = small_graph(torch.float32)
        if transport.rank == 1:
            mine = replace(mine, x=torch.ones(30, 4))
        model = build_gnn("gcn", [5, 3], seed=0)
        train_part(mine, torch.arange(30) % 2, model, GraphRecipe(1), transport)

    with pytest.raises(CommunicationError, match=r"rank [01] has [45] features and rank [01] has"):
        run_ranks(2, features)
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
