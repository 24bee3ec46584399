"""Numbered checks of NASAIC that concern its allocation: units for layers under hard limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cofit.core import ConfigError, InfeasibleError, numpy_generator
from cofit.targets.dataflow import Layer
from cofit.targets.heterogeneous import (
    Bench,
    Job,
    Mix,
    Network,
    Part,
    Specs,
    Workload,
    allocate_design,
    check_schedule,
    chip,
    cost_table,
    dataflow,
    fixed,
    least_energy,
    least_energy_exact,
    penalty,
    relaxed_makespan,
)
from cofit.targets.heterogeneous.exact import shortest

ROOM = 1e9

WORKED = Workload(
    ((), (0,), ()),
    (0, 0, 1),
    np.array([[4.0, 10], [5, 5], [3, 6]]),
    np.array([[8.0, 3], [6, 4], [5, 2]]),
    np.zeros((3, 2)),
)
"""Chain a1, a2 and b1, on two units."""


def chains(seed: int, layers: int = 12, networks: int = 3) -> Workload:
    """Chains of random layers; where a unit is faster it mostly takes more energy."""
    draw = numpy_generator(seed, "chains")
    instance = tuple(sorted(draw.integers(0, networks, layers).tolist()))
    before = tuple(
        (at - 1,) if at and instance[at] == instance[at - 1] else () for at in range(layers)
    )
    cycles = draw.integers(2, 40, (layers, 2)).astype(float)
    energy = draw.uniform(1, 10, (layers, 2)) * 20 / cycles
    return Workload(before, instance, cycles, energy, np.zeros((layers, 2)))


def test_02_worked_example_of_all_assignments() -> None:
    expected = {
        (0, 0, 0): (12, 19), (0, 0, 1): (9, 16), (0, 1, 0): (9, 17), (0, 1, 1): (11, 14),
        (1, 0, 0): (15, 14), (1, 0, 1): (16, 11), (1, 1, 0): (15, 12), (1, 1, 1): (21, 9),
    }  # fmt: skip
    for units, (makespan, energy) in expected.items():
        made = WORKED.priced(units, *shortest(WORKED, ROOM, units))
        check_schedule(WORKED, made, ROOM)
        assert (made.makespan, made.energy_pj) == (makespan, energy)
        assert made.makespan >= relaxed_makespan(WORKED) - 1e-9


@pytest.mark.parametrize("solve", [least_energy, least_energy_exact])
def test_01_worked_example_under_limits(solve: object) -> None:
    for limit, energy in {9: 16, 11: 14, 12: 14, 15: 12, 16: 11, 21: 9, 30: 9}.items():
        made = solve(WORKED, ROOM, limit)  # type: ignore[operator]
        assert made.makespan <= limit and made.energy_pj == energy
    with pytest.raises(InfeasibleError, match="8 cycles"):
        solve(WORKED, ROOM, 8)  # type: ignore[operator]


def test_01_near_the_optimum_and_feasible_where_it_is() -> None:
    ratios = []
    for seed in range(100):
        work = chains(seed, layers=12 if seed % 50 == 0 else 5 + seed % 4)
        floor = relaxed_makespan(work)
        ceiling = least_energy_exact(work, ROOM, work.cycles.min(axis=1).sum()).makespan
        limit = floor + (0.2 + seed % 4 / 5) * (ceiling - floor)
        try:
            optimum = least_energy_exact(work, ROOM, limit)
        except InfeasibleError:
            continue
        found = least_energy(work, ROOM, limit)
        check_schedule(work, found, ROOM)
        assert found.makespan <= limit
        ratios.append(found.energy_pj / optimum.energy_pj)
    assert len(ratios) > 50
    assert min(ratios) >= 1 - 1e-9
    assert np.mean(ratios) <= 1.05 and max(ratios) <= 1.15


def test_03_penalty() -> None:
    specs, bounds = Specs(10, 100, 2), Specs(20, 300, 4)
    assert penalty(Specs(10, 100, 2), specs, bounds) == 0 == penalty(Specs(1, 1, 1), specs, bounds)
    for name in ("cycles", "energy_pj", "area_mm2"):
        at_bound = replace(specs, **{name: getattr(bounds, name)})
        assert penalty(at_bound, specs, bounds) == pytest.approx(1)
        low, high = getattr(specs, name), getattr(bounds, name)
        path = [
            penalty(replace(specs, **{name: value}), specs, bounds)
            for value in np.linspace(low, 2 * high, 50)
        ]
        steps = np.diff(path)
        assert (steps > 0).all() and np.allclose(steps, steps[0])
    with pytest.raises(ConfigError, match="must be beyond"):
        penalty(specs, specs, specs)


SMALL = chip("edge").scaled(units=512, bandwidth=128.0, buffer_bits=8 * 2**20)
LAYERS = [
    Layer("early", k=32, c=3, y=56, x=56, r=3, s=3),
    Layer("middle", k=64, c=32, y=28, x=28, r=3, s=3),
    Layer("late", k=256, c=256, y=7, x=7),
]
TASKS = Mix((Job(Network.chain("a", LAYERS)), Job(Network.chain("b", LAYERS[1:]))))
FLOWS = ("nvdla", "shidiannao")


def small_bench() -> Bench:
    return Bench(TASKS, SMALL, steps=4)


def test_06_one_accelerator_is_the_plain_sum_and_half_is_half() -> None:
    bench = small_bench()
    whole = fixed(bench, "nvdla")
    table = cost_table(TASKS.layers, dataflow("nvdla"), [512], [128.0], SMALL)
    assert whole.makespan == pytest.approx(table.cycles.sum())
    assert whole.energy_pj == pytest.approx(table.energy_pj.sum())
    alone = replace(bench, mix=Mix(TASKS.jobs[:1]))
    pair = alone.schedule((Part("nvdla", 2, 2), Part("nvdla", 2, 2)))
    half = cost_table(
        alone.mix.layers, dataflow("nvdla"), [256], [64.0], SMALL, SMALL.buffer_bits / 2
    )
    assert pair.makespan == pytest.approx(half.cycles.sum())  # a chain: the other half is idle
    assert pair.energy_pj == pytest.approx(half.energy_pj.sum())


def test_08_a_design_meets_all_limits_or_says_what_is_possible() -> None:
    bench = small_bench()
    free = Specs(1e12, 1e15, 1e3)
    loose = allocate_design(bench, FLOWS, free)
    tight = Specs(
        1.5 * fixed(bench, "nvdla").makespan, 1.2 * loose.schedule.energy_pj, SMALL.area_mm2(384)
    )
    made = allocate_design(bench, FLOWS, tight)
    check_schedule(bench.workload(made.design), made.schedule, SMALL.buffer_bits)
    assert made.schedule.makespan <= tight.cycles
    assert loose.schedule.energy_pj <= made.schedule.energy_pj <= tight.energy_pj
    assert made.area_mm2 <= tight.area_mm2
    assert sum(part.units for part in made.design) <= 3
    with pytest.raises(InfeasibleError, match=r"no design meets 10 cycles.*each is at least") as no:
        allocate_design(bench, FLOWS, replace(free, cycles=10))
    alone = float(str(no.value).split("at least ")[1].split(" cycles")[0])
    for part in (1, 2, 3, 4):
        assert bench.schedule((Part("nvdla", part, 4),)).makespan >= alone * (1 - 1e-6)


def test_09_errors() -> None:
    bench = small_bench()
    with pytest.raises(ConfigError, match="3, 2 of 4 steps of units"):
        bench.schedule((Part("nvdla", 3, 2), Part("nvdla", 2, 2)))
    with pytest.raises(ConfigError, match="unknown dataflow 'tpu'"):
        bench.schedule((Part("tpu", 1, 1),))
    with pytest.raises(ConfigError, match="no networks are given"):
        Mix(())
    with pytest.raises(ConfigError, match="no sub-accelerator"):
        bench.schedule(())
