"""Pruned search against everything evaluated, and Optuna behind the room's contract."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from cofit.core import ConfigError, numpy_generator
from cofit.search import (
    Bayesian,
    Candidate,
    Decision,
    Ledger,
    Outcome,
    RandomSearch,
    Space,
    best,
    depth_first,
    explore,
    pareto,
)

SIZES = (3, 4, 5, 3)


def additive(seed: int) -> tuple[Space, np.ndarray]:
    """Two objectives, sums of a positive part per option; every fourth pair is masked."""
    draw = numpy_generator(seed, "additive")
    parts = draw.integers(0, 9, (len(SIZES), max(SIZES), 2)).astype(float)

    def allowed(prefix: Candidate) -> list[bool]:
        options = range(SIZES[len(prefix)])
        return [not prefix or (prefix[-1] + option) % 4 != 3 for option in options]

    return Space([Decision(str(i), tuple(range(n))) for i, n in enumerate(SIZES)], allowed), parts


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("limit", [np.inf, 16.0, 9.0])
@pytest.mark.parametrize("chunk", [4, 1000])
def test_a_pruned_search_gives_what_everything_would(
    seed: int, limit: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cofit.search.pruned.CHUNK", chunk)
    space, parts = additive(seed)
    places = np.arange(len(SIZES))
    asked: list[Candidate] = []

    def evaluate(candidates: list[Candidate]) -> np.ndarray:
        asked.extend(candidates)
        return np.array([parts[places, list(c)].sum(0) for c in candidates])

    def bound(prefix: Candidate) -> list[float]:
        done = parts[places[: len(prefix)], list(prefix)].sum(0)
        rest = sum(parts[i, : SIZES[i]].min(0) for i in range(len(prefix), len(SIZES)))
        return list(done + rest)

    found = depth_first(space, evaluate, (np.inf, limit), bound)
    every = list(space)
    values = {c: tuple(v) for c, v in zip(every, evaluate(every), strict=True)}
    feasible = {c: v for c, v in values.items() if v[1] <= limit}
    front = [
        c for c in feasible
        if not any(
            (other[0] <= values[c][0] and other[1] <= values[c][1] and other != values[c])
            or (other == values[c] and d < c)
            for d, other in feasible.items()
        )
    ]  # fmt: skip
    assert list(found.front) == sorted(front)
    assert list(found.objectives) == [values[c] for c in found.front]
    plain = depth_first(space, evaluate, (np.inf, limit))
    assert plain.front == found.front and plain.evaluated == len(every)
    assert plain.feasible == len(feasible) and found.visited <= plain.visited
    if limit < 10 or chunk == 4:
        assert found.visited < plain.visited and found.evaluated < plain.evaluated


def test_pareto_keeps_the_first_of_equals() -> None:
    values = np.array([[2, 2], [1, 3], [2, 2], [3, 1], [3, 3], [1, 3]], float)
    assert pareto(values) == [0, 1, 3]
    assert pareto(np.empty((0, 2))) == []


def test_limits_fit_objectives() -> None:
    space = Space([Decision("a", (1, 2))])
    with pytest.raises(ConfigError, match="1 limits for objectives of shape"):
        depth_first(space, lambda c: np.zeros((len(c), 2)), (1.0,))


WIDE = Space([Decision(str(i), tuple(range(8))) for i in range(5)])
TARGET = (6, 1, 3, 7, 0)


def near(candidate: Candidate) -> Outcome:
    if candidate[4] == 7:
        return Outcome(None, reason="ends with 7")
    return Outcome(-float(sum((a - b) ** 2 for a, b in zip(candidate, TARGET, strict=True))))


def test_bayesian_search_is_better_than_random_search() -> None:
    def scores(make: type[Bayesian] | type[RandomSearch]) -> list[float]:
        tops = [best(explore(WIDE, make(WIDE, s), near, 60, Ledger(), "x")) for s in range(3)]
        return [top.outcome.score or 0.0 for top in tops if top is not None]

    assert np.mean(scores(Bayesian)) > np.mean(scores(RandomSearch))


def test_bayesian_search_goes_on_and_obeys_masks(tmp_path: Path) -> None:
    space, _ = additive(0)
    assert all(isinstance(n, int) for n in itertools.chain(*space))
    whole = explore(space, Bayesian(space, 3), lambda c: Outcome(-sum(c)), 16, Ledger(), "s")
    assert len({each.candidate for each in whole}) == 16
    path = tmp_path / "ledger.sqlite"
    explore(space, Bayesian(space, 3), lambda c: Outcome(-sum(c)), 12, Ledger(path), "s")
    resumed = explore(space, Bayesian(space, 3), lambda c: Outcome(-sum(c)), 16, Ledger(path), "s")
    assert [e.candidate for e in resumed] == [e.candidate for e in whole]
    words = Space([Decision("word", ("b", "a")), Decision("falling", (2, 1))])
    run = explore(words, Bayesian(words, 0), lambda c: Outcome(float(c[0])), 4, Ledger(), "w")
    assert {each.candidate for each in run} == set(words)
