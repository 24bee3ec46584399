"""PipeGCN's numbered checks. Check 1, weights of ten steps: also tests/graphs/test_halo_oracle.py.

Check 6 (measured speed-up) is a claim of the standard run; check 8 with real processes is in
tests/graphs/test_halo_processes.py.
"""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.graphs.halo_oracle import Oracle
from tests.graphs.test_halo_exchange import on_ranks, train
from tests.graphs.test_halo_oracle import RATE, last_weights, parted, small_graph, train_parted

from cofit.core import CommunicationError
from cofit.graphs import Graph, GraphRecipe, build_gnn, stochastic_block_model
from cofit.graphs.halo import (
    Exact,
    HaloExchange,
    InProcess,
    Policy,
    Stale,
    partition,
    run_ranks,
    train_part,
)
from cofit.reproductions import reproduce
from cofit.reproductions.harness.parted import CHOSEN
from cofit.reproductions.pipegcn import predicted_epoch


@pytest.fixture(scope="module")
def blocks() -> Graph:
    return stochastic_block_model(300, classes=3, degree=8, homophily=0.8, features=8, seed=0)


def test_01_weights_are_those_of_two_matrices_and_not_of_a_detached_halo() -> None:
    graph = small_graph(torch.float64)
    part = parted(graph, 3)
    model = build_gnn("sage", [5, 6, 6, 3], seed=1).double()
    oracle, detached = (Oracle(graph, part, model, "sage", Stale(), RATE) for _ in "12")
    for step in range(10):
        oracle.step(step)
        detached.step(step)
        detached.slopes = {}
    found = last_weights(train_parted(graph, part, "sage", Stale())[0])
    for name, expected in oracle.weights.items():
        torch.testing.assert_close(found[name], expected.detach(), rtol=0, atol=1e-10)
    name = "layers.0.own.weight"
    assert not torch.allclose(found[name], detached.weights[name], rtol=0, atol=1e-4)


def test_02_epoch_0_reads_zeros_and_epoch_1_what_epoch_0_sent() -> None:
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


def test_03_frozen_weights_reach_the_exact_fixed_point() -> None:
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


def test_04_a_moving_average_of_a_constant() -> None:
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


def test_04_no_momentum_is_no_smoothing(blocks: Graph) -> None:
    part = partition(blocks, 3).part
    plain, zero = (
        train(blocks, part, policy)[0].trained.history.losses for policy in (Stale(), Stale(0, 0))
    )
    assert plain == zero


def test_05_bytes_are_those_of_vanilla(blocks: Graph) -> None:
    part = partition(blocks, 4).part
    vanilla, *pipes = (
        train(blocks, part, policy)[0].total for policy in (Exact(), Stale(), Stale(0.9, 0.9))
    )
    assert all(pipe == vanilla for pipe in pipes) and vanilla.exchanged > 0


def test_06_the_model_of_time_is_the_published_one() -> None:
    for compute, wait, reduce in ((2.0, 1.0, 0.5), (1.0, 3.0, 0.0), (1.0, 1.0, 0.0)):
        vanilla = {"compute": compute, "wait": wait, "reduce": reduce}
        gain = (compute + wait + reduce) / predicted_epoch(vanilla)
        assert gain == pytest.approx((compute + wait + reduce) / (max(compute, wait) + reduce))
        assert 1 <= gain <= 2


def test_07_the_error_of_staleness_shrinks_with_the_learning_rate() -> None:
    """Distance of the gradients from vanilla's after 20 steps."""
    graph = small_graph(torch.float64)
    part = parted(graph, 3)

    def gradient(policy: Policy, rate: float) -> torch.Tensor:
        def work(transport: InProcess) -> torch.Tensor:
            model = build_gnn("gcn", [5, 6, 6, 3], seed=1).double()
            train_part(graph, part, model, GraphRecipe(20, rate), transport, policy=policy)
            return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

        return run_ranks(3, work)[0]

    far = [
        float((gradient(Stale(), rate) - gradient(Exact(), rate)).norm())
        for rate in (1e-2, 1e-3, 1e-4)
    ]
    assert far[1] < 0.3 * far[0] and far[2] < 0.2 * far[1]


def test_08_a_failing_rank_stops_all_and_leaves_no_thread(blocks: Graph) -> None:
    before = threading.active_count()

    def work(transport: InProcess) -> None:
        def progress(stage: str, done: int, total: int) -> None:
            if transport.rank == 1 and done == 2:
                raise CommunicationError("rank 1 is unplugged")

        model = build_gnn("sage", [8, 6, 3], seed=0)
        part = torch.arange(300) % 3
        train_part(
            blocks, part, model, GraphRecipe(5), transport, policy=Stale(), progress=progress
        )

    with pytest.raises(CommunicationError, match="unplugged"):
        run_ranks(3, work)
    assert threading.active_count() == before


def test_09_evaluation_touches_no_buffer(blocks: Graph) -> None:
    part = partition(blocks, 3).part
    often, never = (
        run_ranks(3, lambda t, e=every: train_part(  # type: ignore[misc]
            blocks, part, build_gnn("gcn", [8, 6, 3], seed=0),
            GraphRecipe(6, evaluate_every=e), t, policy=Stale(0.5, 0.5),
        ))[0].trained.history.losses
        for every in (1, 6)
    )  # fmt: skip
    assert often == never


def test_09_resumed_buffers_are_those_that_were_saved(blocks: Graph, tmp_path: Path) -> None:
    part = partition(blocks, 3).part

    def run(folder: Path, stop: int | None) -> list[float]:
        def work(transport: InProcess) -> list[float]:
            def progress(stage: str, done: int, total: int) -> None:
                if done == stop:
                    raise KeyboardInterrupt

            model = build_gnn("sage", [8, 6, 6, 3], seed=0, dropout=0.3)
            found = train_part(
                blocks, part, model, GraphRecipe(9), transport, policy=Stale(0.5, 0.5),
                checkpoint=(folder, 2), progress=progress,
            )  # fmt: skip
            return found.trained.history.losses

        return run_ranks(3, work)[0]

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", 5)
    assert list((tmp_path / "killed").glob("rank2-step4*"))
    assert run(tmp_path / "killed", None) == whole


def test_smoke_runs_and_resumes(tmp_path: Path) -> None:
    def silent(stage: str, done: int, total: int) -> None:
        """No progress."""

    first = reproduce("pipegcn", "smoke", tmp_path, silent)
    assert len(first.claims) == 4 and first.claims[0].holds
    told = [c for c in first.claims if CHOSEN in c.note]
    assert len(told) == 3 and all("blocks" in c.claim for c in told)
    assert len(list((tmp_path / "steps").glob("*.json"))) == 6
    (tmp_path / "finding.json").unlink()
    again = reproduce("pipegcn", "smoke", tmp_path, silent)
    assert (again.claims, again.seconds) == (first.claims, first.seconds)
