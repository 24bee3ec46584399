"""Numbered checks of HERALD that concern costs, partitions and their baselines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.targets.test_accelerator_files import EARLY, KCP_WS, LATE, YKP_OS
from torch import nn

from cofit.core import ConfigError, InfeasibleError, numpy_generator
from cofit.ir import trace
from cofit.targets.dataflow import Layer, nest_from, parse_dataflow
from cofit.targets.heterogeneous import (
    DATAFLOWS,
    Bench,
    Job,
    Mix,
    Network,
    Part,
    Workload,
    best_schedule,
    check_schedule,
    chip,
    cost_table,
    dataflow,
    designs,
    earliest_finish,
    exhaustive,
    explore,
    fixed,
    network_of,
    packed_edp,
    perfect_edp,
    reconfigurable,
    refined,
    relaxed_makespan,
    scaled_out,
    schedule,
)

EDGE = chip("edge")
FLOWS = ("nvdla", "shidiannao")
DEPTHWISE = Layer("depthwise", k=144, c=144, groups=144, y=56, x=56, r=3, s=3)
WIDE = EDGE.scaled(EDGE.units, 64 * EDGE.bandwidth, 16 * EDGE.buffer_bits)
"""Neither network nor buffer limit it, so that steps decide."""


def layers(seed: int, count: int) -> list[Layer]:
    draw = numpy_generator(seed, "layers")
    made = []
    for _ in range(count):
        k, c, y = (int(2 ** draw.integers(3, 9)) for _ in range(3))
        r = int(draw.choice([1, 3, 5]))
        depthwise = bool(draw.integers(4) == 0)
        made.append(
            Layer(k=c if depthwise else k, c=c, y=min(y, 64), x=min(y, 64), r=r, s=r,
                  groups=c if depthwise else 1)
        )  # fmt: skip
    return made


def separate(*several: Layer, copies: int = 1) -> Mix:
    return Mix(tuple(Job(Network.chain(layer.name, [layer]), copies) for layer in several))


def test_07_steps_are_those_of_maestros_mappings() -> None:
    several = [LATE, EARLY, *(layer for layer in layers(0, 30) if layer.groups == 1)]
    sizes = np.array([layer.sizes for layer in several], float).T
    for name, text in (("nvdla", KCP_WS), ("shidiannao", YKP_OS)):
        for units in (128, 256, 1024):
            steps = dataflow(name).steps(sizes, np.full(len(several), float(units)))
            expected = [nest_from(parse_dataflow(text), layer, units).steps[0] for layer in several]
            assert steps.tolist() == expected


def test_07_costs_keep_their_bounds() -> None:
    several = layers(1, 25)
    units, bandwidths = [256, 1024], [32.0, 128.0, 1e9]
    macs = np.array([layer.macs for layer in several])[:, None, None]
    bits = np.array([8 * sum(layer.elements.values()) for layer in several])[:, None, None]
    for flow in DATAFLOWS:
        sizes = np.array([layer.sizes for layer in several], float).T[:, :, None]
        steps = flow.steps(sizes, np.array(units, float))
        table = cost_table(several, flow, units, bandwidths, EDGE, objective="cycles")
        assert (table.cycles >= steps[:, :, None]).all()
        assert (table.cycles * np.array(units)[:, None] >= macs).all()
        assert (table.cycles * np.array(bandwidths) >= bits).all()
        assert (table.dram_pj >= bits * EDGE.dram_pj_per_bit * (1 - 1e-12)).all()
        assert (table.energy_pj >= macs * EDGE.mac_pj + table.dram_pj).all()
        assert (table.buffer_bits <= EDGE.buffer_bits).all()
        assert (np.diff(table.cycles, axis=2) <= 1e-9).all()  # faster networks slow nothing
        alone = cost_table(several[3:4], flow, units[1:], bandwidths[1:2], EDGE, objective="cycles")
        for name in ("energy_pj", "dram_pj", "buffer_bits"):
            assert getattr(alone, name)[0, 0, 0] == getattr(table, name)[3, 1, 1]
        cheap = cost_table(several, flow, units, bandwidths, EDGE, objective="energy")
        assert (cheap.energy_pj <= table.energy_pj * (1 + 1e-12)).all()
        assert (cheap.cycles >= table.cycles * (1 - 1e-12)).all()


def test_03_one_array_and_two_equal_halves() -> None:
    mix = Mix((Job(Network.chain("a", layers(2, 6)), 2), Job(Network.chain("b", layers(3, 4)))))
    bench = Bench(mix, EDGE)
    for name in FLOWS:
        whole = cost_table(mix.layers, dataflow(name), [1024], [128.0], EDGE)
        counts = np.array([2] * 6 + [1] * 4)
        made = fixed(bench, name)
        assert made.makespan == pytest.approx((counts * whole.cycles[:, 0, 0]).sum())
        assert made.energy_pj == pytest.approx((counts * whole.energy_pj[:, 0, 0]).sum())
        halves = (Part(name, 4, 4),) * 2
        assert scaled_out(bench, name).edp == bench.schedule(halves).edp
        half = cost_table(mix.layers, dataflow(name), [512], [64.0], EDGE, EDGE.buffer_bits / 2)
        assert scaled_out(bench, name).energy_pj == pytest.approx(
            (counts * half.energy_pj[:, 0, 0]).sum()
        )


@pytest.mark.parametrize("budget", [EDGE, WIDE])
def test_06_equal_layers_gain_nothing_on_any_partition(budget: object) -> None:
    """A hundred copies of one layer: no partition is better than the best single array."""
    for layer in (LATE, EARLY, Layer("middle", k=256, c=256, y=64, x=64, r=3, s=3)):
        bench = Bench(separate(layer, copies=100), budget, steps=4)  # type: ignore[arg-type]
        best = min(fixed(bench, name).edp for name in FLOWS)
        found = explore(bench, designs(FLOWS, 4))
        assert len(found) == 9
        assert min(made.edp for made in found.values()) >= best * (1 - 1e-9)


def test_07_layers_of_two_kinds_gain() -> None:
    bench = Bench(separate(EARLY, LATE, copies=6), WIDE)
    best = min(fixed(bench, name).edp for name in FLOWS)
    found = explore(bench, designs(FLOWS))
    gained = min(found.values(), key=lambda made: made.edp)
    assert gained.edp < 0.9 * best
    for design, made in found.items():
        check_schedule(bench.workload(design), made, WIDE.buffer_bits)
    oracle = reconfigurable(bench, FLOWS, overhead=0.0)
    assert oracle.edp < best


def test_07_depthwise_layers_prefer_shidiannao() -> None:
    for layer in (DEPTHWISE, replace(DEPTHWISE, k=960, c=960, groups=960, y=14, x=14)):
        for budget in (EDGE, WIDE):
            weights, outputs = (
                cost_table([layer], dataflow(name), [1024], [budget.bandwidth], budget)
                for name in FLOWS
            )
            assert outputs.cycles < weights.cycles
            assert outputs.energy_pj <= weights.energy_pj
    sizes = np.array([DEPTHWISE.sizes], float).T
    assert dataflow("nvdla").steps(sizes, np.array([1024.0]))[0] == 144 / 16 * 56 * 56 * 9


def test_08_the_best_of_the_grid_is_the_best_of_its_points() -> None:
    mix = Mix((Job(Network.chain("a", layers(4, 7)), 2), Job(Network.chain("b", layers(5, 5)))))
    bench = Bench(mix, EDGE)
    grid = list(designs(FLOWS))
    assert len(grid) == 49 and all(sum(part.units for part in design) == 8 for design in grid)
    found = explore(bench, grid)
    best = min(made.edp for made in found.values())
    assert best >= packed_edp(bench, FLOWS, 2)
    for design in grid[::6]:
        alone = Bench(mix, EDGE).schedule(design)  # from costs computed anew
        assert alone.edp == found[design].edp >= best
        assert (alone.start == found[design].start).all()
        work = bench.workload(design)
        assert alone.makespan >= relaxed_makespan(work) * (1 - 1e-9)
        check_schedule(work, alone, EDGE.buffer_bits)
    binary = list(designs(FLOWS, sampling="binary"))
    assert set(binary) < set(grid) and len(binary) == 25
    drawn = [
        list(designs(FLOWS, sampling="random", count=10, generator=numpy_generator(seed, "d")))
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2] and set(drawn[2]) < set(grid)
    assert len(list(designs((*FLOWS, "eyeriss"), 4))) == 9


def test_03_a_reconfigurable_array_pays_for_it() -> None:
    mix = separate(EARLY, LATE)
    bench = Bench(mix, EDGE)
    tables = [bench.table(name, 1) for name in FLOWS]
    free, dear = (reconfigurable(bench, FLOWS, overhead) for overhead in (0.0, 0.3))
    best = np.min([t.cycles[:, -1, -1] * t.energy_pj[:, -1, -1] for t in tables], axis=0)
    changes = 2 * EDGE.units * 8 / EDGE.bandwidth
    assert free.makespan - changes >= np.min([t.cycles[:, -1, -1] for t in tables], axis=0).sum()
    dram = sum(t.dram_pj[:, -1, -1] for t in tables) / 2
    assert dear.energy_pj - free.energy_pj == pytest.approx(
        0.3 * (free.energy_pj - dram.sum()), rel=0.05
    )
    assert perfect_edp(bench, FLOWS) <= free.edp and best.sum() < free.edp


def test_05_static_energy_is_that_of_all_units() -> None:
    mix = separate(EARLY, LATE, copies=2)
    idle, busy = Bench(mix, EDGE), Bench(mix, EDGE, static_pj=0.02)
    for name in FLOWS:
        plain, more = fixed(idle, name), fixed(busy, name)
        assert more.energy_pj == pytest.approx(plain.energy_pj + 0.02 * 1024 * plain.makespan)
    design = next(designs(FLOWS))
    assert busy.schedule(design).edp >= packed_edp(busy, FLOWS, 2) > packed_edp(idle, FLOWS, 2)


def random_work(seed: int, count: int) -> Workload:
    draw = numpy_generator(seed, "work")
    shape = (count, 2)
    return Workload(
        tuple((at - 1,) if at % 4 else () for at in range(count)),
        tuple(at // 4 for at in range(count)),
        draw.integers(1, 50, shape).astype(float),
        draw.uniform(1, 9, shape),
        draw.uniform(5, 60, shape),
        tuple(float(10 * (at // 4)) for at in range(count)),
    )


def test_01_layers_wait_for_their_release_and_moves_help() -> None:
    gained = 0
    for seed in range(15):
        work = random_work(seed, 12)
        made = schedule(work, 100.0)
        greedy = earliest_finish(work, 100.0)
        better = refined(work, 100.0, made, lambda tried: (tried.edp,))
        for one in (made, greedy, better):
            check_schedule(work, one, 100.0)
        gained += better.edp < best_schedule(work, 100.0).edp
        late = work.latencies(made)
        assert set(late) == {0, 1, 2} and max(late.values()) <= made.makespan
        early = replace(made, start=made.start - 30, end=made.end - 30)
        with pytest.raises(ConfigError, match="starts before its release"):
            check_schedule(work, early, 100.0)
    assert gained > 5
    few = random_work(1, 7)
    assert best_schedule(few, 100.0).edp >= exhaustive(few, 100.0).edp


class Residual(nn.Module):
    """Two branches that are added, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.side, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.body(x) + self.side(x))
        return self.head(x.mean((2, 3)))


def test_networks_of_graphs() -> None:
    graph = trace(Residual().eval(), (torch.zeros(1, 3, 16, 16),))
    found = network_of(graph, "residual")
    assert [layer.k for layer in found.layers] == [8, 8, 8, 5]
    assert found.before == ((), (0,), (0,), (1, 2))
    assert found.macs == 256 * (8 * 27 + 8 * 72 + 64) + 40
    twice = Mix((Job(found, 2),)).workload(*(np.ones((4, 2)) for _ in range(3)))
    assert twice.before[4:] == ((), (4,), (4,), (5, 6))
    assert twice.instance == (0,) * 4 + (1,) * 4


def test_09_errors() -> None:
    with pytest.raises(ConfigError, match=r"network 'loop': layers .* wait for each other"):
        Network.of("loop", [Layer("a"), Layer("b")], [[1], [0]])
    with pytest.raises(ConfigError, match="layer 'a' waits for"):
        Network.of("far", [Layer("a")], [[3]])
    with pytest.raises(ConfigError, match="2 instances of 'a' with 1 releases"):
        Job(Network.chain("a", [Layer("a")]), 2, (0.0,))
    with pytest.raises(ConfigError, match=r"units is 0; it must be positive"):
        EDGE.scaled(0, 128.0, 1e6)
    with pytest.raises(ConfigError, match=r"units \[0, 8\]; give positive ones"):
        cost_table([LATE], dataflow("nvdla"), [0, 8], [1.0], EDGE)
    tiny = EDGE.scaled(1024, 128.0, 4096.0)
    with pytest.raises(InfeasibleError, match="layer 0 runs on no unit; give one more units or"):
        fixed(Bench(separate(LATE), tiny), "nvdla")
    with pytest.raises(InfeasibleError, match="layer 0 runs on no unit"):
        fixed(Bench(separate(LATE), EDGE.scaled(32, 128.0, 1e8)), "nvdla")
    with pytest.raises(ConfigError, match="unknown chip 'edgy'"):
        chip("edgy")
    with pytest.raises(ConfigError, match="unknown sampling 'all'"):
        next(designs(FLOWS, sampling="all"))
    with pytest.raises(ConfigError, match="need a generator"):
        next(designs(FLOWS, sampling="random"))
    with pytest.raises(ConfigError, match="cannot be divided into 8 steps"):
        Bench(separate(LATE), EDGE.scaled(4, 128.0, 1e8))
