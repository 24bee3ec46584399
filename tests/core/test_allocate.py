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
