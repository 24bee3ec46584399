"""Numbered checks of HERALD that concern its scheduler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.targets.test_accelerator_files import EARLY, KCP_WS, LATE, YKP_OS

from cofit.core import CofitError, ConfigError, InfeasibleError, numpy_generator
from cofit.targets.dataflow import Layer, nest_from, parse_dataflow
from cofit.targets.heterogeneous import (
    Policy,
    Schedule,
    Workload,
    best_schedule,
    check_schedule,
    exhaustive,
    schedule,
)

BUFFER = 100.0


def mix(seed: int, layers: int, units: int = 2) -> Workload:
    """Random networks: layers wait for up to two earlier ones of their instance."""
    draw = numpy_generator(seed, "mix")
    instance = tuple(sorted(draw.integers(0, 3, layers).tolist()))
    before = []
    for layer in range(layers):
        earlier = [other for other in range(layer) if instance[other] == instance[layer]]
        count = min(len(earlier), int(draw.integers(0, 3)))
        before.append(tuple(sorted(draw.permutation(earlier)[:count].tolist())))
    shape = (layers, units)
    return Workload(
        tuple(before),
        instance,
        draw.integers(1, 50, shape).astype(float),
        draw.uniform(1, 9, shape),
        draw.uniform(5, 60, shape),
    )


@pytest.mark.parametrize("order", ["depth", "breadth"])
def test_01_schedules_obey_every_rule(order: str) -> None:
    for seed in range(250):
        work = mix(seed, 3 + seed % 15, 1 + seed % 3)
        made = schedule(work, BUFFER, Policy(order=order))
        check_schedule(work, made, BUFFER)
        assert made.makespan >= work.least_cycles() - 1e-9


def test_01_the_validator_sees_violations() -> None:
    work = Workload(((), (0,)), (0, 0), np.full((2, 2), 5.0), np.ones((2, 2)), np.full((2, 2), 60))
    good = schedule(work, BUFFER)
    check_schedule(work, good, BUFFER)
    cases = {
        "before layer 0 is done": replace(good, start=good.start - (0, 1), end=good.end - (0, 1)),
        "for its cycles": replace(good, end=good.end + 1),
    }
    for text, bad in cases.items():
        with pytest.raises(ConfigError, match=text):
            check_schedule(work, bad, BUFFER)
    apart = replace(work, before=((), ()))
    zeros, units = np.zeros(2), np.array([0, 1])
    with pytest.raises(ConfigError, match="layers hold 120 bits, the buffer has 100"):
        check_schedule(apart, Schedule(units, zeros, zeros + 5, 2.0), BUFFER)
    with pytest.raises(ConfigError, match="run on unit 0 at once"):
        check_schedule(apart, Schedule(np.zeros(2, int), zeros, zeros + 5, 2.0), 200)


def test_02_near_the_exhaustive_oracle_and_never_below() -> None:
    ratios, single = [], []
    for seed in range(20):
        work = mix(1000 + seed, 4 + seed % 5)
        best = exhaustive(work, BUFFER)
        check_schedule(work, best, BUFFER)
        ratios.append(best_schedule(work, BUFFER).edp / best.edp)
        single.append(schedule(work, BUFFER).edp / best.edp)
    assert min(ratios + single) >= 1 - 1e-12
    assert np.mean(ratios) <= 1.10
    assert np.mean(single) <= 1.5


def test_03_one_unit_is_a_fixed_accelerator() -> None:
    for seed in range(20):
        work = mix(seed, 12, units=1)
        made = schedule(work, BUFFER)
        assert made.makespan == work.cycles.sum()
        assert made.energy_pj == pytest.approx(work.energy_pj.sum())


def test_04_filling_gaps_never_hurts_and_no_balance_is_preference() -> None:
    gained = 0
    for seed in range(60):
        work = mix(seed, 14)
        plain = schedule(work, BUFFER, Policy(order="depth", fill_gaps=False))
        filled = schedule(work, BUFFER, Policy(order="depth"))
        assert filled.makespan <= plain.makespan
        gained += filled.makespan < plain.makespan
        free = schedule(work, BUFFER, Policy(metric="energy", imbalance=np.inf))
        assert (free.unit == work.energy_pj.argmin(axis=1)).all()
    assert gained > 10


def test_05_energy_depends_on_the_assignment_only() -> None:
    work = mix(3, 10)
    preference = {"imbalance": np.inf}
    first = schedule(work, BUFFER, Policy(order="depth", **preference))
    second = schedule(work, BUFFER, Policy(order="breadth", **preference))
    assert (first.start != second.start).any()
    assert first.energy_pj == pytest.approx(second.energy_pj)
    static = schedule(work, BUFFER, Policy(order="depth", static_pj=2.0, **preference))
    assert static.energy_pj == pytest.approx(first.energy_pj + 2 * first.makespan)


def steps(layer: Layer, dataflow: str, units: int) -> float:
    return float(nest_from(parse_dataflow(dataflow), layer, units).steps[0])


def table(layers: list[Layer], halves: bool) -> np.ndarray:
    units = 128 if halves else 256
    return np.array([[steps(layer, flow, units) for flow in (KCP_WS, YKP_OS)] for layer in layers])


def independent(cycles: np.ndarray) -> Workload:
    layers = len(cycles)
    nothing = np.zeros(cycles.shape)
    return Workload(((),) * layers, tuple(range(layers)), cycles, nothing + 1, nothing)


def test_07_worked_example_of_two_dataflows() -> None:
    whole, half = table([LATE, EARLY], halves=False), table([LATE, EARLY], halves=True)
    assert whole.sum(axis=0).tolist() == [953344, 157024]
    assert whole.min(axis=1).sum() == 92512
    made = schedule(independent(half), BUFFER, Policy(metric="cycles"))
    assert made.makespan == 100352
    assert whole.sum(axis=0).min() / made.makespan == pytest.approx(1.565, abs=1e-3)


def test_06_equal_layers_gain_nothing() -> None:
    """A hundred copies of one layer: two half arrays are not faster than the better whole one."""
    for layer in (LATE, EARLY):
        whole, half = table([layer], halves=False), table([layer] * 100, halves=True)
        made = schedule(independent(half), BUFFER, Policy(metric="cycles"))
        assert made.makespan >= 100 * whole.min()


def test_08_same_input_same_schedule() -> None:
    work = mix(7, 15)
    first, second = schedule(work, BUFFER), schedule(work, BUFFER)
    assert (first.start == second.start).all() and (first.unit == second.unit).all()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: replace(mix(0, 2), before=((1,), (0,))), ConfigError, "layer 0 waits for"),
        (lambda: schedule(mix(0, 4), 1.0), InfeasibleError, "layer 0 needs .* give it a larger"),
        (lambda: exhaustive(mix(0, 2), 1.0), InfeasibleError, "whole buffer on every unit"),
        (lambda: nest_from(parse_dataflow(KCP_WS), LATE, 0), CofitError, "more than the 0 there"),
        (lambda: Policy(order="random"), ConfigError, "unknown order 'random'"),
        (lambda: Policy(metric="watts"), ConfigError, "unknown metric 'watts'"),
        (lambda: replace(mix(0, 3), instance=(0,)), ConfigError, "3 layers have costs of shapes"),
    ],
)
def test_09_errors(make: object, error: type[CofitError], text: str) -> None:
    with pytest.raises(error, match=text):
        make()  # type: ignore[operator]
