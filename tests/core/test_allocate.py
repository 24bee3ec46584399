import itertools
import math

import numpy as np
import pytest

from cofit.core import InfeasibleError, numpy_generator
from cofit.core.allocate import Choice, allocate, least


def _random_items(seed: int, items: int, options: int) -> list[list[Choice]]:
    draw = numpy_generator(seed, "items")
    return [
        [
            Choice(
                float(draw.exponential()),
                {"latency": float(draw.random() * 1e-3), "flash": float(draw.integers(1, 9000))},
            )
            for _ in range(options)
        ]
        for _ in range(items)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_equals_brute_force(seed: int) -> None:
    items = _random_items(seed, 5, 4)
    limits = {"latency": 1.6e-3, "flash": 16000.0}
    fixed = {"latency": 1e-4, "flash": 500.0}
    best = math.inf
    for pick in itertools.product(range(4), repeat=5):
        chosen = [item[i] for item, i in zip(items, pick, strict=True)]
        if all(fixed[m] + sum(c.costs[m] for c in chosen) <= limits[m] for m in limits):
            best = min(best, sum(c.loss for c in chosen))
    if best == math.inf:
        with pytest.raises(InfeasibleError):
            allocate(items, limits, fixed)
        return
    found = allocate(items, limits, fixed)
    assert found.loss == pytest.approx(best, rel=1e-9)
    assert found.bound <= found.loss and found.gap < 1e-6
    assert all(found.totals[m] <= limits[m] * (1 + 1e-9) for m in limits)


THINGS = ("one", "two", "three")


def _sharing_items(seed: int) -> tuple[list[list[Choice]], dict[str, dict[str, float]]]:
    """Items whose options use things, most of them more than one item's."""
    draw = numpy_generator(seed, "sharing")
    items = [
        [
            Choice(c.loss, c.costs, frozenset(t for t in THINGS if draw.random() < 0.35))
            for c in item
        ]
        for item in _random_items(seed, 4, 4)
    ]
    charges = {
        "latency": {"two": float(draw.random() * 4e-4)},
        "flash": {thing: float(draw.integers(0, 8000)) for thing in THINGS},
    }
    return items, charges


def _picks(items: list[list[Choice]], charges: dict[str, dict[str, float]]):  # type: ignore[no-untyped-def]
    """Every pick: its options and its totals, by enumeration."""
    for chosen in itertools.product(*items):
        used = set().union(*(c.uses for c in chosen))
        yield (
            chosen,
            {
                m: sum(c.costs[m] for c in chosen)
                + sum(v for t, v in charges.get(m, {}).items() if t in used)
                for m in ("latency", "flash")
            },
        )


@pytest.mark.parametrize("seed", range(20))
def test_what_choices_share_is_charged_once(seed: int) -> None:
    items, charges = _sharing_items(seed)
    limits = {"latency": 1.4e-3, "flash": 19_000.0}
    fixed = {"latency": 1e-4, "flash": 500.0}
    possible = [
        sum(c.loss for c in chosen)
        for chosen, totals in _picks(items, charges)
        if all(fixed[m] + totals[m] <= limits[m] for m in limits)
    ]
    if not possible:
        with pytest.raises(InfeasibleError):
            allocate(items, limits, fixed, charges)
        return
    found = allocate(items, limits, fixed, charges)
    assert found.loss == pytest.approx(min(possible), rel=1e-9)
    assert found.bound <= found.loss and found.gap < 1e-6
    chosen = tuple(item[pick] for item, pick in zip(items, found.picks, strict=True))
    totals = next(totals for one, totals in _picks(items, charges) if one == chosen)
    for metric in limits:
        assert found.totals[metric] == pytest.approx(fixed[metric] + totals[metric])


@pytest.mark.parametrize("seed", range(20))
def test_the_least_counts_what_choices_share(seed: int) -> None:
    items, charges = _sharing_items(seed)
    for metric in ("latency", "flash"):
        fewest = min(totals[metric] for _, totals in _picks(items, charges))
        assert least(items, metric, {metric: 7.0}, charges) == pytest.approx(7.0 + fewest)
    reach = least(items, "flash", None, charges)
    with pytest.raises(InfeasibleError, match="flash binds"):
        allocate(items, {"flash": reach - 1}, None, charges)
    assert allocate(items, {"flash": reach + 1e-3}, None, charges).totals["flash"] <= reach + 1e-3


def test_a_charge_can_outweigh_what_its_options_save() -> None:
    item = [
        Choice(0.0, {"flash": 100.0}, frozenset({"plain"})),
        Choice(1.0, {"flash": 60.0}, frozenset({"narrow"})),
    ]
    charges = {"flash": {"plain": 50.0, "narrow": 120.0}}
    assert least([item], "flash", None, charges) == 150  # alone the narrow code does not pay
    assert least([item] * 3, "flash", None, charges) == 300  # 3 x 60 + 120, against 350
    with pytest.raises(InfeasibleError, match="reachable minimum 300"):
        allocate([item] * 3, {"flash": 299.0}, None, charges)


def test_infeasible_names_the_binding_limit_and_its_minimum() -> None:
    items = _random_items(3, 4, 3)
    reach = least(items, "latency")
    with pytest.raises(InfeasibleError, match=r"latency binds.*reachable minimum") as caught:
        allocate(items, {"latency": reach * 0.9, "flash": 1e9})
    assert "flash" not in str(caught.value)
    allocate(items, {"latency": reach * 1.0001, "flash": 1e9})  # the stated minimum is reachable


def test_jointly_infeasible_states_each_minimum_under_the_others() -> None:
    items = [
        [Choice(1.0, {"latency": 1.0, "flash": 10.0}), Choice(1.0, {"latency": 10.0, "flash": 1.0})]
    ]
    with pytest.raises(InfeasibleError) as caught:
        allocate(items, {"latency": 5.0, "flash": 5.0})
    assert "latency binds" in str(caught.value) and "flash binds" in str(caught.value)


def test_large_instance_is_proven_optimal() -> None:
    items = _random_items(7, 60, 30)
    middle = {
        m: float(np.mean([c.costs[m] for i in items for c in i]) * 40) for m in ("latency", "flash")
    }
    found = allocate(items, middle)
    assert found.gap < 1e-4


def test_no_items() -> None:
    assert allocate([], {"latency": 1.0}, {"latency": 0.5}).picks == ()
    with pytest.raises(InfeasibleError):
        allocate([], {"latency": 1.0}, {"latency": 2.0})
