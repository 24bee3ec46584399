"""What the next plan aims at, and which network is best."""

import pytest
from fit_cases import cost, row

from cofit.fit.planning import Plan
from cofit.fit.rounds import ROOM, SLACK, Outcome, adjusted, overruns_of

LIMITS = {"latency": 10e-3, "flash": 1000.0, "accuracy_drop": 0.01}


def outcome(latency_s=10e-3, flash_bytes=1000, accuracy=0.99, label="round0"):
    plan = Plan((), {}, 0.0, 0.0)
    return Outcome(label, plan, "int8", {}, cost(row("a", latency_s, flash_bytes)), accuracy)


def test_overruns_are_values_over_limits_and_points_of_accuracy():
    found = outcome(15e-3, 500, 0.96).overruns(LIMITS, 0.99)
    assert found == pytest.approx({"latency": 1.5, "flash": 0.5, "accuracy_drop": 1.02})
    assert outcome(accuracy=0.98).overruns(LIMITS, 0.99)["accuracy_drop"] == pytest.approx(1.0)
    assert outcome(accuracy=0.98).drop(0.99) == pytest.approx(0.01)


def test_overruns_of_a_cost_ask_only_for_what_is_limited():
    assert overruns_of(cost(row("a", 4e-3, 100)), {"latency": 2e-3}) == {"latency": 2.0}


def test_a_limit_that_was_overrun_is_planned_for_less():
    found = adjusted({"latency": 1.0, "flash": 1.0}, {"latency": 1.25, "flash": 0.9})
    assert found == pytest.approx({"latency": SLACK / 1.25, "flash": 1.0})
    again = adjusted(found, {"latency": 1.1, "flash": 1.2})
    assert again == pytest.approx({"latency": SLACK / 1.25 * SLACK / 1.1, "flash": SLACK / 1.2})


def test_room_in_every_limit_is_given_back_by_the_tightest():
    found = adjusted({"latency": 0.8, "flash": 1.0}, {"latency": 0.5, "flash": 0.66})
    assert found == pytest.approx({"latency": 0.8 * SLACK / 0.66, "flash": SLACK / 0.66})


def test_a_limit_in_use_keeps_the_margins():
    margins = {"latency": 0.9, "flash": 1.0}
    assert adjusted(margins, {"latency": 0.4, "flash": ROOM + 0.01}) == margins


def test_accuracy_does_not_move_margins():
    found = adjusted({"latency": 1.0}, {"latency": 0.95, "accuracy_drop": 1.2})
    assert found == {"latency": 1.0}


def test_best_meets_the_hardware_first_then_accuracy_then_is_most_accurate():
    met = outcome(9e-3, 900, 0.985, "met")
    better = outcome(10e-3, 1000, 0.989, "better")
    slow = outcome(11e-3, 900, 0.999, "slow")
    slower = outcome(12e-3, 900, 0.999, "slower")
    poor = outcome(5e-3, 500, 0.90, "poor")
    poorer = outcome(4e-3, 400, 0.80, "poorer")
    quick = outcome(8e-3, 900, 0.985, "quick")
    ranked = sorted(
        (slow, met, poorer, better, slower, poor, quick), key=lambda o: o.rank(LIMITS, 0.99)
    )
    assert [o.label for o in ranked] == [
        "better", "quick", "met", "poor", "poorer", "slow", "slower",
    ]  # fmt: skip
