"""The model behind fpga-vs-mobile, by the numbers of its specification."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cofit.core import ConfigError, FileError, TargetError, UnknownNameError, numpy_generator
from cofit.ir import trace
from cofit.targets import known_targets, target
from cofit.targets.platforms import (
    PRECISIONS,
    Entry,
    LayerWork,
    Tile,
    balance,
    best_tile,
    buffer_bits,
    cycles,
    draw,
    entry,
    estimate,
    implied_power_w,
    known_platforms,
    layer_time,
    parameters,
    pareto,
    power_statement,
    rank,
    read_parameters,
    total_macs,
    utilisation,
    works_of,
)
from cofit.targets.platforms.tables import PRESETS
from cofit.targets.platforms.work import ACTIVATION_BITS, WEIGHT_BITS


def conv(
    filters: int = 32, channels: int = 16, side: int = 14, precision: str = "int8", **more
) -> LayerWork:
    return LayerWork(
        "conv", "conv3x3", filters, channels, 9, side, side, channels * (side + 2) ** 2,
        filters * side * side, precision, **more,
    )  # fmt: skip


def small_net(widths: tuple[int, ...] = (8, 16)) -> nn.Module:
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
        before = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)
    ).eval()


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


def brute_utilisation(filters: int, channels: int, tile: Tile) -> float:
    busy = total = 0
    for m0 in range(0, filters, tile.filters):
        for n0 in range(0, channels, tile.channels):
            for m, n in itertools.product(range(tile.filters), range(tile.channels)):
                total += 1
                busy += m0 + m < filters and n0 + n < channels
    return busy / total


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


def vgg16_macs() -> int:
    plan = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
    total, side, before = 0, 224, 3
    for width in plan:
        if width == "M":
            side //= 2
        else:
            total, before = total + side * side * 9 * before * int(width), int(width)
    return total + 512 * 49 * 4096 + 4096 * 4096 + 4096 * 1000


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


def test_07_every_parameter_has_value_unit_and_tag() -> None:
    assert len(known_platforms()) == 6
    for name in known_platforms():
        found = parameters(name)
        assert set(found.tags) == set(found.values)
        assert set(found.tags.values()) <= {"published", "derived", "recalled", "chosen"}
        assert found.name == name and "recalled" in found.facts


@pytest.mark.parametrize(
    ("preset", "old", "new", "text"),
    [
        ("zcu102", ', source = "sheet" }', " }", r"source is missing; add it"),
        ("zcu102", 'kind = "recalled"', 'kind = "sure"', "kind is 'sure'; known: published"),
        ("zcu102", 'source = "pack"', 'source = "rumour"', "source is 'rumour'; known: energy"),
        ("zcu102", 'unit = "GB/s", ', "", "board.bandwidth.unit is missing"),
        ("zcu102", 'unit = "GB/s"', 'unit = "W"', "unit is 'W'; known: B/s, GB/s"),
        ("zcu102", "value = 19.2", "value = 0", "board.bandwidth is 0; it must be above zero"),
        ("zcu102", "value = 0.8", "value = 1.8", "fabric.dsp_share is 1.8; it must be above 0"),
        ("zcu102", "[fabric]", "[fabrics]", "unknown key fabrics"),
        ("zcu102", 'kind = "fpga"', 'kind = "asic"', "kind is 'asic'; known: fpga, processor"),
        ("zcu102", 'kind = "fpga"', 'kind = "processor"', "a processor has no table fabric"),
        ("zcu102", "binary = {", "unary = {", "unknown key luts_per_mac.unary"),
        ("snapdragon-855", "dense = {", "dense_ = {", "unknown key share.dense_"),
        ("snapdragon-855", "[share]", "[fabric]", "a processor has no table fabric"),
        ("snapdragon-855", "value = 475", "value = 0", "peak.fp32 is 0; it must be above zero"),
    ],
)
def test_07_files_without_tags_fail_to_load(
    tmp_path: Path, preset: str, old: str, new: str, text: str
) -> None:
    content = (PRESETS / f"{preset}.toml").read_text(encoding="utf-8")
    assert old in content
    path = tmp_path / "mine.toml"
    path.write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=text) as error:
        read_parameters(path)
    assert str(error.value).startswith("mine.toml") and "\n" not in str(error.value)
    with pytest.raises(FileError, match="cannot read the platform"):
        read_parameters(tmp_path / "none.toml")


def entries_of(names: tuple[str, ...], draws: int = 400) -> list[Entry]:
    works = works_of(trace(small_net(), torch.zeros(1, 3, 16, 16)), "int8")
    return [entry(name, parameters(name), works, draws=draws) for name in names]


def test_09_rankings_carry_their_frequency() -> None:
    entries = entries_of(("zcu102", "pynq-z1", "snapdragon-855"))
    found = rank(entries)
    assert re.fullmatch(r"\S+ before \S+ before \S+ in \d+ % of 400 draws", str(found))
    values = np.stack([e.efficiency() for e in entries])
    order = [next(i for i, e in enumerate(entries) if e.label == n) for n in found.labels]
    assert (np.diff(values[order, 0]) <= 0).all()
    agree = [
        all(values[a, d] >= values[b, d] for a, b in itertools.pairwise(order))
        for d in range(1, 401)
    ]
    assert found.share == pytest.approx(np.mean(agree)) and 0 < found.share <= 1
    works = works_of(trace(small_net(), torch.zeros(1, 3, 16, 16)))
    plain = [Entry(n, estimate(parameters(n), works)) for n in ("zcu102", "pynq-z1")]
    with pytest.raises(ConfigError, match="stated with its frequency only"):
        rank(plain)
    for bad in ([entries[0]], entries):
        with pytest.raises(ConfigError, match="two or more, by model or board"):
            rank(bad, "guess" if len(bad) > 1 else "model")


def test_09_draws_are_log_uniform_seeded_and_shared_where_the_numbers_are() -> None:
    first, second = draw(parameters("zcu102")), draw(parameters("zc706"))
    assert all(len(f) == 1000 for f in first.values())
    every = np.concatenate(list(first.values()))
    assert every.min() >= 1 / 1.3 and every.max() <= 1.3
    assert np.log(every).mean() == pytest.approx(0, abs=0.005)
    assert np.log(every).std() == pytest.approx(np.log(1.3) / np.sqrt(3), rel=0.02)
    assert (first["energy.dram_byte"] == second["energy.dram_byte"]).all()
    assert (first["board.bandwidth"] != second["board.bandwidth"]).any()
    assert (draw(parameters("zcu102"))["fabric.dsp"] == first["fabric.dsp"]).all()
    found = parameters("zcu102")
    stated = replace(found, tags=dict.fromkeys(found.tags, "published"))
    assert draw(stated) == {}
    with pytest.raises(ConfigError, match="0 draws"):
        draw(found, 0)
    with pytest.raises(ConfigError, match=r"has no value 'board\.colour'"):
        found.having(board__colour=1.0)


def test_09_a_draw_is_the_model_at_those_numbers() -> None:
    works = works_of(trace(small_net(), torch.zeros(1, 3, 16, 16)), "fp32")
    for name in ("snapdragon-865", "cortex-m7-board"):
        found = parameters(name)
        factors = draw(found, 5)
        drawn = estimate(found, works, factors)
        for number in range(5):
            values = {
                key: min(1.0, v * factors[key][number]) if key.startswith("share.") else
                v * factors[key][number] for key, v in found.values.items()
            }  # fmt: skip
            alone = estimate(replace(found, values=values), works)
            assert drawn.energy_j[number + 1] == pytest.approx(alone.energy_j[0], rel=1e-12)
            assert drawn.latency_s[number + 1] == pytest.approx(alone.latency_s[0], rel=1e-12)


def test_09_pareto_set() -> None:
    entries = [replace(e, accuracy=a) for e, a in zip(
        entries_of(("zcu102", "pynq-z1", "snapdragon-855", "cortex-m7-board"), 2),
        (90.0, 90.0, 80.0, 95.0), strict=True)]  # fmt: skip
    front = pareto(entries)
    values = {e.label: (e.accuracy, e.efficiency()[0]) for e in entries}
    for label, (accuracy, value) in values.items():
        beaten = any(
            a >= accuracy and v >= value and (a, v) != (accuracy, value) for a, v in values.values()
        )
        assert (label in front) != beaten
    assert "cortex-m7-board" in front


def test_11_clear_errors() -> None:
    graph = trace(small_net(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(UnknownNameError, match=r"unknown precision 'int7'.*known: binary"):
        works_of(graph, "int7")
    with pytest.raises(UnknownNameError, match="unknown pruning scheme 'random'"):
        conv(scheme="random")
    with pytest.raises(ConfigError, match=r"bandwidth is 0\.0; it must be above zero"):
        layer_time(1.0, 1.0, 1.0, 0.0)
    with pytest.raises(ConfigError, match=r"board\.bandwidth is 0; it must be above zero"):
        parameters("zcu102").having(board__bandwidth=0.0)
    with pytest.raises(ConfigError, match="layer 'conv' has no whole shape"):
        conv(side=0)
    with pytest.raises(ConfigError, match=r"a mask of shape \(2, 2\); expected \(32, 144\)"):
        conv(kept=np.ones((2, 2), bool))
    with pytest.raises(UnknownNameError, match="unknown weight 'nope'"):
        works_of(graph, kept={"nope": np.ones((1, 1), bool)})
    with pytest.raises(ConfigError, match="has no layer that multiplies"):
        works_of(trace(nn.ReLU(), torch.zeros(1, 3)))
    with pytest.raises(UnknownNameError, match="unknown platform 'zcu103'"):
        parameters("zcu103")


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
