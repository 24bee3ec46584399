"""The model behind fpga-vs-mobile, by the numbers of its specification."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_cases import conv, small_net

from cofit.core import ConfigError, TargetError, numpy_generator
from cofit.ir import trace
from cofit.targets import known_targets, target
from cofit.targets.platforms import (
    PRECISIONS,
    LayerWork,
    Tile,
    balance,
    best_tile,
    buffer_bits,
    cycles,
    estimate,
    implied_power_w,
    known_platforms,
    layer_time,
    parameters,
    power_statement,
    total_macs,
    utilisation,
    works_of,
)
from cofit.targets.platforms.work import ACTIVATION_BITS, WEIGHT_BITS


def brute_utilisation(filters: int, channels: int, tile: Tile) -> float:
    busy = total = 0
    for m0 in range(0, filters, tile.filters):
        for n0 in range(0, channels, tile.channels):
            for m, n in itertools.product(range(tile.filters), range(tile.channels)):
                total += 1
                busy += m0 + m < filters and n0 + n < channels
    return busy / total


def synchronous(kept: np.ndarray, lanes: int, together: int) -> float:
    """Lanes step by step: every lane does one MAC per cycle, all wait at the end of a step."""
    busy = spent = 0
    for first in range(0, len(kept), lanes):
        group = kept[first : first + lanes]
        for column in range(0, kept.shape[1], together):
            left = [int(lane[column : column + together].sum()) for lane in group]
            while any(left):
                busy += sum(work > 0 for work in left)
                spent += len(left)
                left = [max(0, work - 1) for work in left]
    return busy / spent if spent else 1.0


def vgg16_macs() -> int:
    plan = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
    total, side, before = 0, 224, 3
    for width in plan:
        if width == "M":
            side //= 2
        else:
            total, before = total + side * side * 9 * before * int(width), int(width)
    return total + 512 * 49 * 4096 + 4096 * 4096 + 4096 * 1000


def test_01_roofline_identities() -> None:
    peak, bandwidth = 4e9, 2e9
    assert layer_time(8e9, peak, 1.0, bandwidth) == 2.0
    assert layer_time(1.0, peak, 6e9, bandwidth) == 3.0
    intensity = peak / bandwidth
    for operations in (1e6, 3e7):
        at, below, above = (operations / (intensity * f) for f in (1.0, 1.1, 0.9))
        assert layer_time(operations, peak, at, bandwidth) == operations / peak == at / bandwidth
        assert layer_time(operations, peak, below, bandwidth) == operations / peak
        assert layer_time(operations, peak, 1 / 0.9 * at, bandwidth) > operations / peak
        assert above > at


def test_01_layers_of_a_processor_are_rooflines() -> None:
    phone = parameters("snapdragon-855")
    work = conv(256, 256, 28, "fp32")
    layer = estimate(phone, [work]).layers[0]
    peak = phone["peak.fp32"] * phone["share.conv3x3"]
    assert layer.bound == "compute"
    assert layer.latency_s[0] == pytest.approx(work.macs / peak + 30e-6, rel=1e-12)
    dense = LayerWork("fc", "dense", 4096, 4096, 1, 1, 1, 4096, 4096, "fp32")
    moved = 4 * (4096 * 4096 + 2 * 4096)
    narrow = phone.having(board__bandwidth=1e9)
    found = estimate(narrow, [dense]).layers[0]
    assert found.bound == "bandwidth"
    assert found.latency_s[0] == pytest.approx(moved / 1e9 + 30e-6, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 40)] * 2, *[st.integers(1, 12)] * 2)
def test_02_utilisation_counts_idle_multipliers(m: int, n: int, t_m: int, t_n: int) -> None:
    tile = Tile(t_m, t_n)
    assert utilisation(m, n, tile) == pytest.approx(brute_utilisation(m, n, tile), rel=1e-12)
    work = conv(m, n, 5)
    ideal = work.macs / (t_m * t_n)
    assert cycles(work, t_m, t_n) == pytest.approx(ideal / utilisation(m, n, tile), rel=1e-12)


def test_02_buffers_by_hand_and_oversize_tiles() -> None:
    work = conv(32, 16, 14)
    expected = 2 * (4 * 3 * 16 * 8 + 8 * 4 * 9 * 8 + 8 * 1 * 14 * 32)
    assert buffer_bits(work, 8, 4) == expected
    assert best_tile([work], 32 * 16, 1e9) == Tile(32, 16)
    exact = buffer_bits(work, 1, 1)
    assert best_tile([work], 1000, exact) == Tile(1, 1)
    with pytest.raises(TargetError, match=r"no array fits .* layers conv; choose a larger"):
        best_tile([work], 1000, exact - 1)
    tiny = parameters("pynq-z1").having(fabric__bram=1000.0)
    with pytest.raises(TargetError, match="no array fits"):
        estimate(tiny, [work])


@pytest.mark.parametrize("seed", range(8))
def test_02_search_equals_brute_force(seed: int) -> None:
    generator = numpy_generator(seed, "tiles")
    works = [
        conv(int(generator.integers(1, 24)), int(generator.integers(1, 24)), 6) for _ in range(3)
    ]
    multipliers = int(generator.integers(4, 200))
    bram = float(generator.integers(5_000, 60_000))
    best = None
    for m, n in itertools.product(range(1, 25), repeat=2):
        fits = m * n <= multipliers and all(buffer_bits(w, m, n) <= bram for w in works)
        if fits and m <= max(w.filters for w in works) and n <= max(w.channels for w in works):
            key = (sum(cycles(w, m, n) for w in works), m * n)
            best = key if best is None or key < best else best
    found = best_tile(works, multipliers, bram)
    total = sum(cycles(w, found.filters, found.channels) for w in works)
    assert (total, found.filters * found.channels) == best


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(known_platforms()),
    filters=st.integers(1, 64),
    channels=st.integers(1, 64),
    side=st.integers(1, 28),
    density=st.floats(0.05, 1),
    factor=st.floats(1.01, 10),
)
def test_03_more_never_hurts(name, filters, channels, side, density, factor) -> None:
    found = parameters(name)
    kept = numpy_generator(filters, "kept").random((filters, channels * 9)) < density
    fewer = kept & (numpy_generator(channels, "fewer").random(kept.shape) < 0.5)
    work = conv(filters, channels, side, "int8", scheme="filter", kept=kept)
    base = estimate(found, [work])
    wider = found.having(board__bandwidth=factor * found["board.bandwidth"])
    assert estimate(wider, [work]).latency_s[0] <= base.latency_s[0]
    hotter = found.having(board__static_power=found["board.static_power"] + factor)
    assert estimate(hotter, [work]).frames_per_j[0] < base.frames_per_j[0]
    dense = replace(work, kept=None, scheme="none")
    assert base.latency_s[0] <= estimate(found, [dense]).latency_s[0]
    sparser = estimate(found, [replace(work, kept=fewer)])
    assert sparser.energy_j[0] <= base.energy_j[0] + found["board.static_power"] * max(
        0.0, sparser.latency_s[0] - base.latency_s[0]
    )
    if found.kind == "processor":
        assert sparser.latency_s[0] <= base.latency_s[0]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 13), st.integers(1, 30)),
    lanes=st.integers(1, 8),
    together=st.integers(1, 12),
    seed=st.integers(0, 999),
)
def test_04_balance_equals_synchronous_lanes(shape, lanes, together, seed) -> None:
    generator = numpy_generator(seed, "mask")
    kept = generator.random(shape) < generator.random()
    assert balance(kept, lanes, together) == pytest.approx(synchronous(kept, lanes, together))


def test_04_balance_of_dense_one_hot_and_block_masks() -> None:
    assert balance(np.ones((17, 45), bool), 4, 9) == 1.0
    one_hot = np.zeros((8, 36), bool)
    one_hot[3, 5] = True
    for lanes in (1, 2, 4, 8):
        assert balance(one_hot, lanes, 36) == 1 / lanes
    blocks = np.repeat(numpy_generator(0, "blocks").random((2, 12)) < 0.4, 4, axis=0)
    assert balance(blocks, 4, 1) == 1.0 > balance(blocks, 8, 1)


def test_04_pruned_time_on_an_fpga_follows_the_mask() -> None:
    found = parameters("zc706").having(board__bandwidth=1e15, board__launch=0.0)
    generator = numpy_generator(1, "pruned")
    dense = conv(64, 64, 28)
    base = estimate(found, [dense])
    tile = base.tiles["int8"]
    random = generator.random((64, 576)) < 0.125
    even = balance(random, min(64, tile.filters), tile.channels * 9)
    pruned = estimate(found, [replace(dense, kept=random, scheme="unstructured")])
    assert even < 1
    assert pruned.latency_s[0] / base.latency_s[0] == pytest.approx(random.mean() / even)


def test_05_binary_is_xnor_and_its_ends_are_int8() -> None:
    module = small_net((8, 16, 16))
    graph = trace(module, torch.zeros(1, 3, 8, 8))
    works = works_of(graph, "binary")
    assert [w.precision for w in works] == ["int8", "binary", "binary", "int8"]
    assert [w.precision for w in works_of(graph, "int4")] == ["int4"] * 4
    fpga = parameters("zcu102").having(board__static_power=0.0)
    found = estimate(fpga, works)
    assert set(found.tiles) == {"int8", "binary"}
    tile = found.tiles["binary"]
    luts = fpga["fabric.lut"] * fpga["fabric.lut_share"] / fpga["luts_per_mac.binary"]
    assert tile.filters * tile.channels <= luts  # no DSP helps
    work, layer = works[1], found.layers[1]
    scale = fpga["board.node_scale"]
    xnor = 2 * 0.03 / 8  # an XNOR and its share of a popcount, an eighth of an addition each
    arithmetic = work.macs * xnor * fpga["board.overhead"] * scale
    chip = work.macs * (1 / tile.filters + 1 / tile.channels) / 8 * fpga["energy.sram_byte"] * scale
    moved = (work.weights / 8 + (work.inputs + work.outputs) / 8) * fpga["energy.dram_byte"]
    assert layer.energy_j[0] == pytest.approx((arithmetic + chip + moved) * 1e-12, rel=1e-9)
    as_int8 = estimate(fpga, works_of(graph, "int8"))
    assert layer.energy_j[0] < as_int8.layers[1].energy_j[0] / 4
    assert found.layers[0].energy_j[0] == pytest.approx(as_int8.layers[0].energy_j[0], rel=0.5)


def test_05_below_a_phones_precisions_only_storage_shrinks() -> None:
    phone = parameters("snapdragon-855").having(board__bandwidth=1e15)
    half, binary = (estimate(phone, [conv(64, 64, 28, p)]) for p in ("fp16", "binary"))
    assert binary.latency_s[0] == half.latency_s[0]
    assert binary.energy_j[0] < half.energy_j[0]
    single = estimate(phone, [conv(64, 64, 28, "fp32")])
    share = phone["board.launch"]
    assert (single.latency_s[0] - share) / (half.latency_s[0] - share) == pytest.approx(2)
    with pytest.raises(ConfigError, match="computes nothing as wide as fp32"):
        values = {k: v for k, v in phone.values.items() if k != "peak.fp32"}
        estimate(replace(phone, values=values), [conv(precision="fp32")])


def test_06_published_cross_checks() -> None:
    macs = vgg16_macs()
    assert macs == pytest.approx(15.5e9, rel=0.005)
    rate = 2 * macs * 11.8
    assert rate == pytest.approx(366e9, rel=0.005)
    assert implied_power_w(rate, 135e9) <= 2.71
    board = parameters("zc706")["board.board_power"]
    text = power_statement(rate, 135e9, board)
    assert re.search(r"365 Gop/s at 135 Gop/s/W is 2\.7 W: not board power, which is 10 W", text)
    assert "within the board's" in power_statement(rate, 20e9, board)


def test_platforms_are_targets_and_rows_add_up() -> None:
    graph = trace(small_net(), torch.zeros(1, 3, 16, 16))
    assert set(known_platforms()) < set(known_targets())
    for name in known_platforms():
        cost = target(name).cost(graph)
        found = estimate(parameters(name), works_of(graph))
        assert cost.latency_s == pytest.approx(found.latency_s[0], rel=1e-9)
        assert cost.energy_j == pytest.approx(found.energy_j[0], rel=1e-9)
        assert cost.macs == total_macs(works_of(graph))
        assert {str(row.basis) for row in cost.rows} == {"modelled"}
        fabric = parameters(name).kind == "fpga"
        assert all(("multipliers" in row.note) == fabric for row in cost.rows)


def test_widths_of_every_precision() -> None:
    assert set(WEIGHT_BITS) == set(ACTIVATION_BITS) == set(PRECISIONS)
    work = conv(precision="binary")
    assert work.weight_bytes == 32 * 144 / 8
    kept = np.zeros((32, 144), bool)
    kept[:16] = True
    pruned = conv(precision="int8", scheme="unstructured", kept=kept)
    assert pruned.weight_bytes == 16 * 144 * 2  # a byte of weight and one of index
    assert pruned.density == 0.5
