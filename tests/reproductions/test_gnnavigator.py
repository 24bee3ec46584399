"""GNNavigator: acceptance checks 4, 5, 6, 7 and 9 of its specification, and the smoke run.

Times and memory are those of a machine of known law (`navigator_law`), so that a check can fail for
one reason only; the standard run measures the same on this machine.
"""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from navigator_law import accuracy, lawful, outcome, profile

from cofit.core import ConfigError, InfeasibleError, UnknownNameError, format_quantity
from cofit.graphs import Graph, reddit_like, stochastic_block_model
from cofit.graphs.minibatch import ClosedForm, Configuration, Device
from cofit.reproductions import reproduce
from cofit.reproductions.gnnavigator import Explored, Grid, Profile, Task, navigate, prepare
from cofit.reproductions.gnnavigator.judge import (
    choose,
    hold_out,
    judged,
    leave_one_graph_out,
    searched,
)
from cofit.reproductions.gnnavigator.navigator import PRIORITIES, weights_of
from cofit.reproductions.gnnavigator.study import POWER_LAW, Settings, guiding
from cofit.reproductions.harness import Step
from cofit.search import Bayesian, Ledger, Outcome, RandomSearch

GRID = Grid(
    batch_size=(32, 64, 128, 256), fanouts=((3, 3), (3, 6), (6, 10), (None, None)),
    cache_policy=("degree", "lru"), cache_ratio=(0.1, 0.4), bias=(0.0, 0.75),
)  # fmt: skip


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    return [
        reddit_like(700, classes=4, degree=10, features=24, seed=1),
        reddit_like(1200, classes=5, degree=16, features=60, exponent=2.6, seed=2),
        stochastic_block_model(
            1000, classes=4, degree=8, homophily=0.8, features=120, noise=1.0, seed=3
        ),
        reddit_like(900, classes=3, degree=12, features=8, seed=4),
    ]


@pytest.fixture(scope="module")
def profiles(graphs: list[Graph]) -> list[Profile]:
    found = []
    for number, graph in enumerate(graphs):
        closed, strategy = ClosedForm(graph), RandomSearch(GRID.space, number)
        for _ in range(36):
            candidate = strategy.ask()
            c = GRID.configuration(candidate)
            found.append(profile(closed, graph, c, number))
            strategy.tell(candidate, Outcome(accuracy(c)))
    return found


@pytest.fixture(scope="module")
def explored(graphs: list[Graph]) -> Explored:
    task = Task(graphs[1], Device(), GRID)
    return prepare(task, 40, Ledger(), profile=lambda c: outcome(task.graph, c, task.device))


def test_04_the_gray_box_is_right_and_better_than_either_half(profiles: list[Profile]) -> None:
    held = hold_out(profiles, Device(), 0)
    assert len(held.groups) == len(profiles)
    assert held.error("gray-box", "epoch_s") <= 0.15
    assert held.error("gray-box", "peak_bytes") <= 0.10
    assert held.order("gray-box", "epoch_s") >= 0.8
    for target in ("epoch_s", "peak_bytes"):
        own = held.error("gray-box", target)
        assert own < held.error("analytic", target) and own < held.error("trees", target)


def test_04_a_graph_never_seen_is_put_in_order(profiles: list[Profile]) -> None:
    held = leave_one_graph_out(profiles, Device(), 0)
    assert sorted(set(held.groups)) == [0, 1, 2, 3]
    assert held.order("gray-box", "epoch_s") >= 0.6
    shuffled = replace_measured(profiles[:72])
    assert leave_one_graph_out(shuffled, Device(), 0).order("gray-box", "epoch_s") < 0.3
    with pytest.raises(ConfigError, match="one graph"):
        leave_one_graph_out(profiles[:30], Device(), 0)


def replace_measured(profiles: list[Profile]) -> list[Profile]:
    """What was measured, dealt to other configurations."""
    order = np.random.default_rng(0).permutation(len(profiles))
    return [replace(p, measured=profiles[i].measured) for p, i in zip(profiles, order, strict=True)]


def test_05_pruning_finds_what_everything_would_and_visits_less(explored: Explored) -> None:
    memory = sorted(explored.evaluate(list(GRID.space))[:, 1])
    for share in (0.02, 0.3, 0.9):
        budget = float(memory[int(share * len(memory))])
        pruned, every = explored.search(budget), explored.search(budget, pruned=False)
        assert pruned.front == every.front and pruned.objectives == every.objectives
        assert every.evaluated == len(memory) and pruned.feasible <= every.feasible
        assert pruned.visited <= every.visited
        rows = explored.evaluate(list(GRID.space))
        for priority in PRIORITIES:
            weights = np.array(weights_of(priority)) / np.array(explored.default)
            chosen = explored.evaluate([explored.decide(pruned, priority)])[0]
            least = (rows @ weights)[rows[:, 1] <= budget].min()
            assert chosen[1] <= budget and chosen @ weights == pytest.approx(least, rel=1e-12)
    assert explored.search(float(memory[5])).visited < 0.7 * every.visited


def test_05_bounds_are_below_all_that_begins_so(explored: Explored) -> None:
    rows = dict(zip(GRID.space, explored.evaluate(list(GRID.space)), strict=True))
    for candidate, values in list(rows.items())[::7]:
        for length in range(len(candidate)):
            bound = np.array(explored.bound(candidate[:length]))
            assert (bound <= values * (1 + 1e-9)).all(), (candidate, length)


def exhaustive(graph: Graph, device: Device, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    found = [lawful(graph, grid.configuration(c), device, 77) for c in grid.space]
    return np.array([m.epoch_s for m in found]), np.array([float(m.peak_bytes) for m in found])


SUB = Grid(
    batch_size=(32, 64, 128, 256), fanouts=((3, 3), (3, 6), (6, 10), (10, 10)),
    cache_policy=("degree", "lru"), cache_ratio=(0.4,), bias=(0.0,), feature_bits=(32,),
    prefetch=(0,),
)  # fmt: skip


def test_06_regret_is_small_and_the_largest_of_everything_is_not(explored: Explored) -> None:
    times, memory = exhaustive(explored.task.graph, explored.task.device, SUB)
    assert len(times) == 48
    guessed = explored.estimator.predict(
        explored.closed, [SUB.configuration(c) for c in SUB.space]
    ).objectives[:, :2]
    for share in (0.2, 0.5, 0.9):
        budget = float(np.quantile(memory, share))
        choice = choose(guessed, times, memory, budget)
        assert choice is not None and choice.regret <= 0.15 and choice.memory <= 1
    tight = float(np.quantile(memory, 0.5))
    assert judged(len(times) - 1, times, memory, tight).regret == math.inf
    slowest = -guessed.copy()
    slowest[:, 1] = guessed[:, 1]
    wrong = choose(slowest, times, memory, float(memory.max()))
    assert wrong is not None and wrong.regret > 0.5
    assert choose(guessed, times, memory, float(memory.max()) * 1e-3) is None


def test_06_under_a_tight_budget_small_features_and_a_fast_link_want_no_cache() -> None:
    graph = reddit_like(4000, classes=3, degree=12, features=4, seed=5)
    device, grid = Device(50e9, 1e-6), replace(SUB, hidden=(8,))
    task = Task(graph, device, grid)
    found = prepare(task, 24, Ledger(), profile=lambda c: outcome(graph, c, device))
    times, memory = exhaustive(graph, device, grid)
    free = [grid.configuration(c).cache_policy == "none" for c in grid.space]
    # what the best configuration without a cache needs, and not a row more
    budget = float(memory[int(np.where(free, times, np.inf).argmin())])
    fits = memory <= budget
    assert free[int(np.where(fits, times, np.inf).argmin())]
    margin = math.exp(found.estimator.memory.worst) * 1.1
    small = Explored(
        replace(task, device=replace(device, memory_bytes=int(budget * margin))),
        found.closed, found.estimator, found.default, 0.0,
    )  # fmt: skip
    guideline = navigate(small, "time-memory")
    assert guideline.configuration.cache_policy == "none"
    largest = judged(len(times) - 1, times, memory, budget)
    assert largest.regret == math.inf


def test_06_other_searches_find_no_more_than_there_is(explored: Explored) -> None:
    times, memory = exhaustive(explored.task.graph, explored.task.device, SUB)
    budget = float(np.median(memory))
    best = int(np.where(memory <= budget, times, np.inf).argmin())
    assert searched(SUB.space, RandomSearch(SUB.space, 0), 48, times, memory, budget) == best
    some = searched(SUB.space, Bayesian(SUB.space, 0), 20, times, memory, budget)
    assert some is not None and memory[some] <= budget and times[some] >= times[best]
    few = searched(SUB.space, RandomSearch(SUB.space, 0), 3, times, memory, budget)
    assert few is None or times[few] >= times[best]


def test_07_more_memory_is_never_worse(explored: Explored) -> None:
    memory = np.sort(explored.evaluate(list(GRID.space))[:, 1])
    best = []
    for budget in memory[:: len(memory) // 15]:
        found = explored.search(float(budget))
        best.append(min(values[0] for values in found.objectives))
    assert best == sorted(best, reverse=True) and best[-1] < best[0]
    limited = replace(explored.task, device=Device(memory_bytes=int(memory[60])))
    tight = Explored(limited, explored.closed, explored.estimator, explored.default, 1.0)
    guideline = navigate(tight, "time")
    assert guideline.bound == "memory budget" and "without the budget" in guideline.reason
    assert guideline.memory_bytes[2] <= memory[60] and "emulated 2 GB/s" in guideline.link
    free = navigate(explored, "time")
    assert free.epoch_s[0] <= guideline.epoch_s[0] and "does not bind" in free.reason
    saved = free.default_epoch_s - free.epoch_s[0]
    expected = pytest.approx(explored.profiling_s / saved) if saved > 0 else None
    assert free.break_even_epochs == expected
    for values in (free.epoch_s, free.memory_bytes, free.accuracy):
        assert values[1] <= values[0] <= values[2]


def test_09_what_cannot_be_is_refused(explored: Explored, graphs: list[Graph]) -> None:
    least = explored.evaluate(list(GRID.space))[:, 1].min()
    limited = replace(explored.task, device=Device(memory_bytes=1000))
    tight = Explored(limited, explored.closed, explored.estimator, explored.default, 1.0)
    with pytest.raises(InfeasibleError, match=re.escape(format_quantity(least, "bytes"))):
        navigate(tight)
    with pytest.raises(UnknownNameError, match="priority 'fast'"):
        navigate(explored, "fast")
    with pytest.raises(ConfigError, match="4 profiles; give at least 5"):
        prepare(explored.task, 4, Ledger())
    for wrong in (
        {"batch_size": (64, 32)}, {"bias": (0.5,)}, {"fanouts": ((5, 5), (3, 9))},
        {"fanouts": ((5, 5), (5, 5, 5))},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=r"rising|begin"):
            Grid(**wrong)


def test_profiling_goes_on_where_the_ledger_ends(graphs: list[Graph], tmp_path: Path) -> None:
    task, calls = Task(graphs[0], Device(), GRID), []

    def counted(c: Configuration) -> Outcome:
        calls.append(c)
        return outcome(task.graph, c, task.device)

    path = tmp_path / "ledger.sqlite"
    prepare(task, 8, Ledger(path), profile=counted)
    assert len(calls) == 9
    again = prepare(task, 10, Ledger(path), profile=counted)
    assert len(calls) == 11
    assert again.default[0] == pytest.approx(lawful(task.graph, calls[0], Device(), 0).epoch_s)


def test_a_share_that_nothing_fits_gives_way_to_the_least_that_does(
    profiles: list[Profile],
) -> None:
    settings = Settings(
        graphs=(POWER_LAW,), nodes=600, batches=(64, 128), ratios=(0.2,), biases=(0.0,)
    )
    own = {
        "default": {"steps": 2, "step_s": 0.01, "peak_bytes": 1000, "accuracy": 0.5},
        "profiles": [{"seconds": 1.0}],
    }
    step = Step("guidelines", Path("unused"), lambda *_: None)
    found = guiding(settings, POWER_LAW, 0, profiles[:36], own, step)
    assert found["budget"] > 800
    for guideline in found["guidelines"].values():
        assert guideline["memory_bytes"][2] <= found["budget"]
    assert found["guidelines"]["memory-accuracy"]["memory_budget_bytes"] == found["budget"]


def test_smoke_run(tmp_path: Path) -> None:
    finding = reproduce("gnnavigator", "smoke", tmp_path, lambda *_: None)
    assert len(finding.claims) >= 12
    assert all(math.isfinite(v) for claim in finding.claims for v in claim.measured.values)
    text = finding.model_dump_json()
    assert "emulated 2 GB/s" in text
    steps = {path: path.stat().st_mtime_ns for path in (tmp_path / "steps").iterdir()}
    (tmp_path / "finding.json").unlink()
    again = reproduce("gnnavigator", "smoke", tmp_path, lambda *_: None)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "steps").iterdir()} == steps
    assert again.claims == finding.claims
