"""Spaces, strategies and the ledger: brute force on small spaces, and searches cut short."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from cofit.core import ConfigError, FileError, numpy_generator
from cofit.search import (
    Candidate,
    Decision,
    Evolution,
    Ledger,
    Outcome,
    RandomSearch,
    Space,
    best,
    explore,
)


def rising() -> Space:
    """Four decisions of five options, none below the one before it."""

    def allowed(prefix: Candidate) -> list[bool]:
        return [option >= (prefix[-1] if prefix else 0) for option in range(5)]

    return Space([Decision(f"d{i}", tuple("abcde")) for i in range(4)], allowed)


def test_all_of_a_masked_space_and_nothing_else() -> None:
    space = rising()
    brute = [c for c in itertools.product(range(5), repeat=4) if list(c) == sorted(c)]
    assert list(space) == brute
    assert space.size == 5**4
    assert not space.contains((1, 0, 0, 0))
    assert not space.contains((0, 0, 0))
    assert space.values((0, 0, 1, 4)) == {"d0": "a", "d1": "a", "d2": "b", "d3": "e"}


def test_children_are_allowed_and_keep_what_they_can() -> None:
    space, generator = rising(), numpy_generator(0)
    changed = []
    for _ in range(300):
        parents = [space.sample(generator) for _ in range(2)]
        child, crossed = space.mutate(parents[0], 0.2, generator), space.cross(*parents, generator)
        assert space.contains(child)
        assert space.contains(crossed)
        assert crossed[0] == parents[0][0]
        changed.append(np.mean(np.array(child) != np.array(parents[0])))
    assert 0.1 < np.mean(changed) < 0.6
    free = Space([Decision(str(i), (0, 1, 2)) for i in range(6)])
    first, second = (0,) * 6, (1,) * 6
    cuts = {sum(free.cross(first, second, generator)) for _ in range(200)}
    assert cuts == {1, 2, 3, 4, 5}


def test_equal_designs_are_drawn_once() -> None:
    space = Space(
        [Decision(str(i), (0, 1)) for i in range(4)], canonical=lambda c: tuple(sorted(c))
    )
    strategy = RandomSearch(space, 0)
    drawn = [strategy.ask()]
    for _ in range(4):
        strategy.tell(drawn[-1], Outcome(0.0))
        drawn.append(strategy.ask())
    assert len(set(drawn)) == 5
    strategy.tell(drawn[-1], Outcome(0.0))
    assert strategy.ask() in drawn  # nothing new is left


def hidden(candidate: Candidate) -> Outcome:
    """The number of places equal to a hidden candidate; those that begin with 7 are forbidden."""
    if candidate[0] == 7:
        return Outcome(None, reason="begins with 7")
    target = np.random.default_rng(5).integers(0, 7, 12)
    return Outcome(float((np.array(candidate) == target).sum()), {"first": candidate[0]})


WIDE = Space([Decision(str(i), tuple(range(8))) for i in range(12)])


def test_evolution_finds_what_random_search_does_not() -> None:
    found = {}
    for make in (Evolution, RandomSearch):
        scores = []
        for seed in range(5):
            run = explore(WIDE, make(WIDE, seed), hidden, 800, Ledger(), "x")
            top = best(run)
            assert top is not None
            scores.append(top.outcome.score)
            assert len({each.candidate for each in run}) == 800
        found[make] = scores
    assert min(found[Evolution]) > max(found[RandomSearch])


@pytest.mark.parametrize("make", [Evolution, RandomSearch])
def test_a_search_cut_short_ends_as_one_that_was_not(make, tmp_path: Path) -> None:
    whole = explore(WIDE, make(WIDE, 3), hidden, 120, Ledger(), "s")

    class Killed(Exception):
        pass

    calls = []

    def once(candidate: Candidate) -> Outcome:
        calls.append(candidate)
        if len(calls) == 71:
            raise Killed
        return hidden(candidate)

    path = tmp_path / "deep" / "ledger.sqlite"
    with pytest.raises(Killed):
        explore(WIDE, make(WIDE, 3), once, 120, Ledger(path), "s")
    seen: list[tuple[int, int]] = []
    resumed = explore(
        WIDE, make(WIDE, 3), once, 120, Ledger(path), "s", lambda *done: seen.append(done)
    )
    assert len(calls) == 121
    assert [(e.candidate, e.outcome) for e in resumed] == [(e.candidate, e.outcome) for e in whole]
    assert seen[-1] == (120, 120)
    with pytest.raises(FileError, match="holds another search under 's'"):
        explore(WIDE, make(WIDE, 4), hidden, 120, Ledger(path), "s")
    assert len(explore(WIDE, make(WIDE, 4), hidden, 5, Ledger(path), "t")) == 5


def test_nothing_is_best_where_all_break_a_constraint() -> None:
    space = Space([Decision("only", (1,))])
    run = explore(space, RandomSearch(space, 0), lambda c: Outcome(None), 2, Ledger(), "x")
    assert best(run) is None


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Space([])
    with pytest.raises(ConfigError, match="own name"):
        Space([Decision("a", (1,)), Decision("a", (2,))])
    with pytest.raises(ConfigError, match="'a' has no options"):
        Space([Decision("a", ())])
    closed = Space([Decision("a", (1, 2))], lambda prefix: [False, False])
    with pytest.raises(ConfigError, match="no option of 'a'"):
        closed.sample(numpy_generator(0))
    for wrong in ({"tournament": 9, "population": 8}, {"mutation": 1.5}):
        with pytest.raises(ConfigError, match="give"):
            Evolution(WIDE, 0, **wrong)
    broken = tmp_path / "no.sqlite"
    broken.write_text("this is no database, but long enough to be read as one" * 40)
    with pytest.raises(FileError, match="cannot be used"):
        Ledger(broken)

    class Outside(RandomSearch):
        def ask(self) -> Candidate:
            return (9,) * 12

    with pytest.raises(ValueError, match="Outside asked for"):
        explore(WIDE, Outside(WIDE, 0), hidden, 1, Ledger(), "x")
