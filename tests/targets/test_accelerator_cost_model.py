"""Numbered checks of the accelerator cost model: oracles, bounds, brute force, errors."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tests.targets.loop_nest import fills
from tests.targets.toy_accelerator import random_nests, small_layers, toy

from cofit.core import CofitError, ConfigError, TargetError, UnknownNameError
from cofit.targets.dataflow import (
    DIMS,
    Hardware,
    Layer,
    Layers,
    Nest,
    accelerator,
    evaluate,
    map_rows,
    search,
    systolic_cycles,
)
from cofit.targets.dataflow import row_stationary as rs
from cofit.targets.dataflow.mapped import Mapped
from cofit.targets.dataflow.search import ORDERS, nest_of, spatial_choices

SCALE_SIM = {
    "16x16 3x3": (Layer(k=24, c=8, y=14, x=14, r=3, s=3), (2419, 2651, 4549)),
    "14x14 1x1": (Layer(k=32, c=64, y=14, x=14), (1935, 2443, 4055)),
    "31x31 5x5": (
        Layer(k=40, c=12, y=14, x=14, r=5, s=5, stride=(2, 2)),
        (13793, 12869, 21241),
    ),
    "fc": (Layer(k=100, c=256), (5263, 2001, 2335)),
}
"""Cycles of SCALE-Sim 2.0.2 on 16 x 16 units: weights, outputs, input stay."""

BATCH = {"n": 4, "bits_weight": 16, "bits_input": 16, "bits_output": 16, "bits_psum": 16}
ALEXNET = (
    (Layer("conv1", k=96, c=3, y=55, x=55, r=11, s=11, stride=(4, 4)), 154),
    (Layer("conv2", k=256, c=96, groups=2, y=27, x=27, r=5, s=5), 135),
    (Layer("conv3", k=384, c=256, y=13, x=13, r=3, s=3), 156),
    (Layer("conv4", k=384, c=384, groups=2, y=13, x=13, r=3, s=3), 156),
    (Layer("conv5", k=256, c=384, groups=2, y=13, x=13, r=3, s=3), 156),
)
"""Convolutions of AlexNet, and the units that Eyeriss keeps busy on each."""

PROCESSING_MS = 103.5
CLOCK_HZ = 200e6


@pytest.mark.parametrize("name", SCALE_SIM)
def test_01_cycles_of_scale_sim(name: str) -> None:
    layer, expected = SCALE_SIM[name]
    got = [
        systolic_cycles(Layers.of([layer]), 16, 16, stay)[0]
        for stay in ("weight", "output", "input")
    ]
    assert got == list(expected)


def test_01_golden_report_of_scale_sim() -> None:
    conv1 = Layer(k=96, c=3, y=55, x=55, r=11, s=11, stride=(4, 4))
    assert systolic_cycles(Layers.of([conv1]), 32, 32, "weight")[0] == 112283


def test_01_batched_arrays_and_groups() -> None:
    layers = Layers.of([layer for layer, _ in SCALE_SIM.values()])
    both = systolic_cycles(layers, np.full(4, 16.0), 16, "output")
    assert both.tolist() == [cycles[1] for _, cycles in SCALE_SIM.values()]
    grouped = Layer(k=48, c=16, y=14, x=14, r=3, s=3, groups=2)
    assert systolic_cycles(Layers.of([grouped]), 16, 16, "weight")[0] == 2 * 2419


@pytest.fixture(scope="module")
def alexnet() -> list[tuple[object, int]]:
    eyeriss = accelerator("eyeriss")
    return [(map_rows(replace(layer, **BATCH), eyeriss), busy) for layer, busy in ALEXNET]


def test_02_eyeriss_processing_time(alexnet: list[tuple[Mapped, int]]) -> None:
    assert sum(mapped.layer.macs for mapped, _ in alexnet) == 2_663_139_456
    for mapped, busy in alexnet:
        ideal = mapped.layer.macs / busy
        assert ideal <= mapped.steps <= 1.25 * ideal, mapped.layer.name
    total_ms = sum(mapped.steps for mapped, _ in alexnet) / CLOCK_HZ * 1e3
    assert total_ms == pytest.approx(PROCESSING_MS, rel=0.2)


def test_03_eyeriss_dram_traffic(alexnet: list[tuple[Mapped, int]]) -> None:
    macs = sum(mapped.layer.macs for mapped, _ in alexnet)
    words = sum(sum(mapped.dram.values()) for mapped, _ in alexnet)
    assert 0.0025 <= words / macs <= 0.0050
    for mapped, _ in alexnet:
        for tensor, size in mapped.layer.elements.items():
            assert mapped.dram[tensor] >= size


@pytest.mark.parametrize("index", range(12))
def test_05_bounds_hold_everywhere(index: int) -> None:
    layer = small_layers(12)[index]
    hardware = toy(memories=tuple(replace(m, bits=np.inf) for m in toy().memories))
    nest = random_nests(layer, 200, "bounds")
    costs = evaluate(Layers.of([layer]), nest, hardware)
    assert costs.feasible.all()
    assert (costs.cycles >= np.ceil(layer.macs / hardware.units)).all()
    assert (costs.utilisation <= 1).all()
    assert (costs.energy_pj >= layer.macs * hardware.mac_pj).all()
    for tensor, size in layer.elements.items():
        moved = (costs.writes if tensor == "output" else costs.reads)["dram", tensor]
        assert (moved >= size).all()
        # without any reuse every multiply-accumulate of the padded nest fetches its own word
        assert (moved <= nest.steps * nest.units).all()


def test_06_more_bandwidth_is_never_slower() -> None:
    for layer in small_layers(6):
        nest = random_nests(layer, 100, "bandwidth")
        before = evaluate(Layers.of([layer]), nest, toy())
        wide = toy().with_memory("dram", read_bits_per_cycle=32, write_bits_per_cycle=32)
        after = evaluate(Layers.of([layer]), nest, wide)
        assert (after.cycles <= before.cycles).all()
        fits = before.feasible & (before.bound == before.bounds.index("dram"))
        assert (after.cycles[fits] < before.cycles[fits]).all()


def test_06_more_buffer_needs_no_more_energy() -> None:
    for layer in small_layers(3):
        layer = replace(layer, n=1)
        best = [
            search(layer, toy().with_memory("l2", bits=2**size), "energy").energy_pj
            for size in (13, 14, 15, 16)
        ]
        assert all(b <= a for a, b in itertools.pairwise(best)), best


def test_06_infinite_buffers_touch_dram_once() -> None:
    for layer in small_layers(6):
        mapped = search(layer, toy().with_memory("l2", bits=np.inf), "energy")
        assert mapped.dram == layer.elements


HW_UTILS = {"mac": 3.7, "dram": 200.0, "buffer": 6 * 3.7, "noc": 2 * 3.7, "rf": 3.7}
"""pJ per 16 bits in ShiftAddNAS's hw_utils for 32-bit floats; every word is two of them."""


def hw_utils(k: int, c: int, size: int, kernel: int) -> tuple[float, float]:
    """Energy (mJ) and cycles of the best cut by divisors under that script's bounds."""
    layer = Layer(k=k, c=c, y=size, x=size, r=kernel, s=kernel)

    def cuts(number: int, parts: int) -> list[tuple[int, ...]]:
        if parts == 1:
            return [(number,)]
        return [
            (d, *rest)
            for d in range(1, number + 1)
            if number % d == 0
            for rest in cuts(number // d, parts - 1)
        ]

    rows = [
        (1, 1, *m, *cc, *e)
        for m in cuts(k, 4)
        if m[0] <= 16
        for cc in cuts(c, 3)
        for e in cuts(size, 2)
        if e[0] > 1
    ]
    f = rs.Factors(*np.array(rows, float).T)
    fits = (f.c0 * kernel < 12) & (f.m0 * f.c0 * kernel < 960)
    fits &= (f.m1 * f.c1 * f.e1 * kernel < 192) & (rs.buffer_words(layer, f) < 65536)
    f = f.select(np.flatnonzero(fits))
    moved = rs.traffic(layer, f, (size, size))
    price = {place: 2 * HW_UTILS[place[0]] for place in moved}
    price["noc", "output"] /= 2
    price["rf", "weight"] *= 2
    energy = (rs.energy_pj(moved, price) + layer.macs * HW_UTILS["mac"]) / 1e9
    cycles = rs.cycles(layer, f)
    score = (energy - energy.min()) / energy.max() + (cycles - cycles.min()) / cycles.max()
    best = int(score.argmin())
    return float(energy[best]), float(cycles[best])


def test_06a_row_stationary_closed_form() -> None:
    energy, cycles = hw_utils(64, 64, 14, 3)
    assert energy == pytest.approx(0.3283470336, abs=1e-10)
    assert cycles == 43008
    assert hw_utils(128, 64, 14, 1)[0] == pytest.approx(0.0888387, abs=5e-8)


TINY = (
    Layer(n=2, k=3, c=2, y=4, x=3, r=2, s=3),
    Layer(k=4, c=3, y=3, x=4, r=3, s=1, stride=(2, 1)),
    Layer(k=4, c=4, y=4, x=2, r=2, s=2, groups=2, dilation=(2, 1)),
    Layer(n=3, k=2, c=4, y=1, x=1),
)


def unlimited() -> Hardware:
    return toy(memories=tuple(replace(m, bits=np.inf) for m in toy().memories))


@pytest.mark.parametrize("halo", [False, True], ids=["refetched", "halo"])
@pytest.mark.parametrize("layer", TINY, ids=["3x2", "stride", "groups", "batch"])
def test_07_brute_force_loop_nest(layer: Layer, halo: bool) -> None:
    """In 40 random orders each, ragged tiles included, every fill is counted one by one."""
    for trial in range(40):
        nest = replace(random_nests(layer, 1, f"brute {trial}", spatial=False), halo_reuse=halo)
        costs = evaluate(Layers.of([layer]), nest, unlimited())
        loops = [
            (level, DIMS[dim], int(trips))
            for (level, dim), (trips,) in zip(nest.loops, nest.trips, strict=True)
        ]
        for level, child, parent in ((0, "rf", "l2"), (1, "l2", "dram")):
            for tensor in ("weight", "input"):
                name = f"rf_{tensor[0]}" if child == "rf" else child
                words, _ = fills(layer, loops, level, tensor, halo)
                assert costs.reads[parent, tensor][0] == words, (tensor, level, loops)
                assert costs.writes[name, tensor][0] == words
            words, again = fills(layer, loops, level, "output")
            assert costs.writes[parent, "output"][0] - _returned(costs, parent) == words, loops
            assert costs.writes[parent, "output"][0] >= layer.elements["output"]
            assert again == words - layer.elements["output"]


def _returned(costs: object, parent: str) -> float:
    """Sums that come back from DRAM into the buffer are written there too."""
    if parent == "dram":
        return 0.0
    return float(costs.reads["dram", "output"][0])  # type: ignore[attr-defined]


def test_07_every_order_of_the_outer_loops() -> None:
    """All orders of three loops over single elements: a roofline would see no difference."""
    layer = Layer(k=2, c=3, y=4, x=1)
    seen = set()
    for order in itertools.permutations("KCY"):
        loops = [(2, d, dict(zip(DIMS, layer.sizes, strict=True))[d]) for d in order]
        nest = Nest(
            tuple((level, DIMS.index(d)) for level, d, _ in loops),
            np.array([[float(trips)] for _, _, trips in loops]),
            {},
        )
        costs = evaluate(Layers.of([layer]), nest, unlimited())
        got = tuple(costs.reads["dram", tensor][0] for tensor in ("weight", "input"))
        assert got == tuple(fills(layer, loops, 1, t)[0] for t in ("weight", "input"))
        assert costs.writes["dram", "output"][0] == fills(layer, loops, 1, "output")[0]
        seen.add((*got, float(costs.writes["dram", "output"][0])))
    assert len(seen) == 3  # the innermost loop decides which tensor stays


def test_07_multicast_counts_once_and_copies_arrive() -> None:
    layer = Layer(k=4, c=2, y=3, x=3)
    units = {DIMS.index("K"): np.array([4.0]), DIMS.index("C"): np.array([2.0])}
    nest = Nest(((1, DIMS.index("Y")), (1, DIMS.index("X"))), np.array([[3.0], [3.0]]), units)
    columns = Layers.of([layer])
    cast = evaluate(columns, nest, unlimited())
    apart = evaluate(columns, nest, replace(unlimited(), multicast=False, reduces=False))
    assert cast.reads["l2", "input"][0] == 18
    assert cast.writes["rf_i", "input"][0] == 18 * 4
    assert apart.reads["l2", "input"][0] == 18 * 4
    assert cast.writes["l2", "output"][0] == 36
    assert apart.writes["l2", "output"][0] == 36 * 2
    assert apart.reads["l2", "output"][0] - cast.reads["l2", "output"][0] == 36


def test_08_batch_equals_single_points() -> None:
    layers = small_layers(5)
    columns, nests = Layers.of(layers), [random_nests(layers[0], 1, "one") for _ in layers]
    loops = nests[0].loops
    trips = np.concatenate(
        [replace(random_nests(layer, 1, "one")).trips for layer in [layers[0]] * 5], axis=1
    )
    nest = Nest(loops, trips, {dim: np.repeat(u, 5) for dim, u in nests[0].spatial.items()})
    bits = np.array([1024.0, 4096.0, 16384.0, 65536.0, 1e9])
    batch = evaluate(columns, nest, toy().with_memory("l2", bits=bits))
    for point in range(5):
        single = evaluate(
            columns.at(slice(point, point + 1)),
            nest.at(slice(point, point + 1)),
            toy().with_memory("l2", bits=float(bits[point])),
        )
        assert single.cycles[0] == batch.cycles[point]
        assert single.energy_pj[0] == batch.energy_pj[point]
        assert single.feasible[0] == batch.feasible[point]
        for key, words in single.reads.items():
            assert words[0] == batch.reads[key][point]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Layer(k=0), ConfigError, "k is 0"),
        (lambda: Layer(stride=(1, -1)), ConfigError, r"stride is \(1, -1\)"),
        (lambda: Layer(k=4, c=3, groups=2), ConfigError, "groups 2 do not divide"),
        (lambda: Layer(density_weight=0), ConfigError, "density_weight is 0"),
        (lambda: toy(stationary="flow"), ConfigError, "unknown dataflow 'flow'"),
        (lambda: toy(memories=toy().memories[:3]), ConfigError, "DRAM above the array"),
        (lambda: toy(memories=toy().memories[::-1]), ConfigError, "levels from 0 upwards"),
        (lambda: systolic_cycles(Layers.of([Layer()]), 1, 1, "row"), UnknownNameError, "'row'"),
        (lambda: accelerator("eyeris"), UnknownNameError, "did you mean 'eyeriss'"),
        (lambda: toy().with_memory("l3", bits=1), ConfigError, "no memory 'l3'"),
        (
            lambda: search(Layer(), toy().with_memory("l2", bits=8)),
            TargetError,
            "smallest tile is larger than the 8 bits of 'l2'",
        ),
        (
            lambda: search(Layer(bits_psum=512), toy()),
            TargetError,
            "smallest tile is larger than the 256 bits of 'rf_o'",
        ),
        (lambda: search(Layer(), toy(), "speed"), UnknownNameError, "unknown objective 'speed'"),
        (
            lambda: map_rows(Layer(x=10**6, bits_psum=16), accelerator("eyeriss")),
            TargetError,
            "no row-stationary mapping of layer 'layer' fits the 12 x 14",
        ),
    ],
)
def test_09_errors_name_the_field(make: object, error: type[CofitError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_09_a_mapping_that_does_not_fit_costs_infinity() -> None:
    layer = Layer(k=4, c=64, y=1)
    nest = Nest(((0, 3), (1, 2)), np.array([[64.0], [4.0]]), {})
    costs = evaluate(Layers.of([layer]), nest, toy())
    assert not costs.feasible[0] and costs.cycles[0] == costs.energy_pj[0] == np.inf


def test_search_finds_what_exhaustion_finds() -> None:
    """All tiles and orders of a small layer on two memories, against the beam's pick."""
    layer, hardware = Layer(k=6, c=4, y=6, x=1), toy().with_memory("l2", bits=400)
    units = spatial_choices(layer, hardware)[0]
    best = np.inf
    columns = Layers.of([layer])
    spread = [-(-n // dict(units).get(d, 1)) for d, n in enumerate(layer.sizes)]
    tiles = np.array(
        [
            [inner, outer]
            for outer in itertools.product(*(range(1, n + 1) for n in spread))
            for inner in itertools.product(*(range(1, n + 1) for n in outer))
        ],
        float,
    )
    for orders in itertools.product(ORDERS, repeat=2):
        nest = nest_of(columns, units, (orders[0], *orders), tiles)
        best = min(best, float(evaluate(columns, nest, hardware).edp.min()))
    mapped = search(layer, hardware)
    found = mapped.cycles * mapped.energy_pj
    assert best <= found * (1 + 1e-9)
    assert found <= 1.02 * best
