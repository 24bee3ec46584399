"""DDC-PIM as a reproduction: exact recovery from stored words, permutation, cycles, smoke."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from provenance import states_sources

from cofit.core import StructureError, numpy_generator
from cofit.data import load
from cofit.ir import channel_groups, quantise_input, run_integer, trace
from cofit.ir import permute as permute_graph
from cofit.ir.integer.accumulate import conv_sums
from cofit.regimes import Batches, PairedGrid, Projected, Recipe, fit
from cofit.regimes.qat import FakeQuantiseWeight
from cofit.reproductions import reproduce
from cofit.reproductions.ddc_pim.network import (
    MobileNet,
    make_scales_positive,
    norms,
    paired_weights,
)
from cofit.reproductions.ddc_pim.pairing import match_channels
from cofit.reproductions.ddc_pim.recover import array_words, recovered_conv, with_pairs
from cofit.reproductions.ddc_pim.study import paired_graphs, recovered_layers
from cofit.reproductions.harness import fewer, runner, seeded
from cofit.reproductions.harness.integers import integer_accuracy, quantised
from cofit.structures import Complementary, from_bytes, to_bytes
from cofit.targets.arrays import MODES, Layer, Macro

STAGES = ((1, 16, 1, 1), (2, 32, 2, 2))


def test_03_stored_words_alone_give_the_integer_convolution():
    generator = numpy_generator(3, "ddc")
    shapes = itertools.product((2, 3, 8), (1, 2, 5), (1, 3), (1, 2), (0, 1))
    layers = 0
    while layers < 1000:
        for k, c, side, stride, pad in itertools.islice(shapes, 1000):
            groups = 1
            if generator.random() < 0.3:
                groups, c = k, 1
            raw = generator.integers(-127, 128, (k, c, side, side), np.int8)
            weight = Complementary().project(torch.from_numpy(raw)).numpy()
            stored = from_bytes(to_bytes(Complementary().encode(weight)))
            x = generator.integers(-128, 128, (2, groups * c, 5, 6), np.int8)
            zero = int(generator.integers(-128, 128))
            where = {"stride": (stride, stride), "padding": (pad,) * 4, "groups": groups}
            found = recovered_conv(x, stored, zero_point=zero, **where)
            assert np.array_equal(found, conv_sums(x, weight, input_offset=-zero, **where))
            layers += 1
        shapes = itertools.product((2, 3, 8), (1, 2, 5), (1, 3), (1, 2), (0, 1))


def test_03_recovery_reads_the_complement_not_the_negative():
    weight = Complementary().project(torch.tensor([[5, -3, 90], [-4, 7, -127]], dtype=torch.int8))
    encoding = Complementary().encode(weight.numpy())
    words = array_words(encoding).astype(int)
    assert np.array_equal(words[0] + words[1], [-1, -1, -1])
    encoding.arrays["values"][0, 1] ^= np.int8(4)
    x = np.ones((1, 3, 1, 1), np.int8)
    flipped = recovered_conv(x, _as_conv(encoding))
    whole = conv_sums(x, weight.numpy().reshape(2, 3, 1, 1), input_offset=0)
    change = (flipped - whole).flatten()
    assert abs(change[0]) == 4 and change[1] == -change[0]


def _as_conv(encoding):
    return type(encoding)(
        encoding.format, (*encoding.shape, 1, 1), encoding.arrays, {}, encoding.decoder
    )


@pytest.fixture(scope="module")
def digits():
    return fewer(load("digits"), 1400)


def network():
    return MobileNet((1, 8, 8), STAGES, 1.0, 32)


def trained(data, model, regime, epochs, rate):
    batches = Batches(data.train.inputs, data.train.targets, size=50)
    return fit(model, batches, Recipe(epochs, rate, weight_decay=4e-5), regime)[0]


@pytest.fixture(scope="module")
def dense(digits):
    model = trained(digits, seeded(network, 0), None, 4, 0.1)
    make_scales_positive(model)
    return model


@pytest.fixture(scope="module")
def pairs(dense, digits):
    model = copy.deepcopy(dense)
    match_channels(model, digits.train.inputs[:1], paired_weights(model))
    transforms = {name: PairedGrid() for name in paired_weights(model)}
    return trained(digits, model, Projected(transforms), 5, 0.05)


def test_04_pairs_hold_after_training_storage_and_in_the_integer_graph(pairs, digits):
    names = paired_weights(pairs)
    assert len(names) == 9 and "features.0.weight" not in names
    integer, _ = paired_graphs(pairs, digits.train.inputs[:100])
    levels = {w.name: torch.from_numpy(np.asarray(w.data)) for _, w in integer.weighted()}
    for name in names:
        weight = pairs.get_parameter(name).detach()
        assert Complementary().check(weight) is None
        assert Complementary().check(levels[name]) is None
        stored = from_bytes(to_bytes(Complementary().encode(levels[name].numpy())))
        assert np.array_equal(stored.decode(), levels[name].numpy())
        assert stored.arrays["values"].nbytes * 2 == levels[name].numel()
    assert recovered_layers(integer, names, digits.test) == len(names)


def test_04_permutation_alone_changes_nothing(dense, digits):
    x = digits.test.inputs[:20]
    moved = copy.deepcopy(dense)
    match_channels(moved, x, paired_weights(moved))
    same = dense.get_parameter("features.3.conv.0.weight")
    assert not torch.equal(moved.get_parameter("features.3.conv.0.weight"), same)
    double = copy.deepcopy(dense).double(), copy.deepcopy(moved).double()
    assert torch.allclose(double[0](x.double()), double[1](x.double()), atol=1e-10)
    graph = quantised(trace(dense, x[:1]), digits.train.inputs[:100])
    stored = quantise_input(graph, x.numpy())
    before = run_integer(graph, {graph.inputs[0]: stored})
    for group in channel_groups(graph):
        graph = permute_graph(graph, group, list(reversed(range(group.size))))
    after = run_integer(graph, {graph.inputs[0]: stored})
    assert np.array_equal(before[graph.outputs[0]], after[graph.outputs[0]])


def test_06_matched_error_is_no_larger_in_sum_over_coupled_layers(dense, digits):
    def error(model):
        return sum(
            float((w.double() - Complementary().project(w.double())).square().sum())
            for w in (model.get_parameter(n).detach() for n in paired_weights(model))
        )

    moved = copy.deepcopy(dense)
    match_channels(moved, digits.train.inputs[:1], paired_weights(moved))
    assert error(moved) < error(dense)


def test_07_cycles_in_closed_form():
    macro = Macro()
    full = [Layer(2 * macro.filters * n, 64 * n, 49, False, True) for n in (1, 2, 3)]
    compute = [sum(macro.compute_cycles(x, mode) for x in full) for mode in MODES]
    assert compute[0] / compute[1] == 2.0
    half = Layer(macro.filters, 64, 49, False, True)
    assert macro.compute_cycles(half, "fcc") == macro.compute_cycles(half, "baseline")
    assert macro.compute_cycles(half, "baseline") == 1 * 1 * 49 * 8
    assert macro.load_cycles(half, "baseline") == 64 * 16 * 8 // 64
    depthwise = Layer(96, 9, 49, True, True)
    found = [macro.compute_cycles(depthwise, mode) for mode in MODES]
    assert found == [96 * 49 * 8, 96 * 49 * 8, 48 * 49 * 8, 24 * 49 * 8]
    unpaired = Layer(96, 9, 49, True, False)
    assert {macro.cycles(unpaired, mode) for mode in MODES} == {macro.cycles(depthwise, "baseline")}
    large = Layer(96, 49, 49, True, True)  # 7x7: two do not fit 64 rows
    assert macro.compute_cycles(large, "fcc+dual+split") == 48 * 49 * 8
    hidden = Macro(overlap=True).cycles(half, "baseline")
    assert hidden == max(49 * 8, 128) and macro.cycles(half, "baseline") == 49 * 8 + 128
    # the closed form of the specification: depthwise 59 % of the cycles give 2.84x
    share = 2 * (1 - 2 / 2.84)
    assert 1 / ((1 - share) / 2 + share / 4) == pytest.approx(2.84) and share == pytest.approx(
        0.59, abs=0.002
    )


def test_08_trained_pairs_are_near_int8_and_untrained_ones_are_not(dense, pairs, digits):
    transforms = {
        name: FakeQuantiseWeight(len(p), 8) for name, p in dense.named_parameters() if p.dim() > 1
    }
    int8 = trained(digits, copy.deepcopy(dense), Projected(transforms), 5, 0.05)
    calibration = digits.train.inputs[:100]
    reference = integer_accuracy(quantised(trace(int8, calibration[:1]), calibration), digits.test)
    integer, _ = paired_graphs(pairs, calibration)
    found = integer_accuracy(integer, digits.test)
    shot = copy.deepcopy(dense)
    with torch.no_grad():
        for name in paired_weights(shot):
            weight = shot.get_parameter(name)
            weight.copy_(PairedGrid()(weight.detach()))
    collapsed = integer_accuracy(paired_graphs(shot, calibration)[0], digits.test)
    assert found >= reference - 0.06 and collapsed < reference - 0.15


def test_09_what_breaks_pairs_is_refused_by_layer(pairs, digits):
    x = digits.train.inputs[:50]
    name = paired_weights(pairs)[0]
    turned = copy.deepcopy(pairs)
    with torch.no_grad():
        norms(turned)[name].weight[3] = -1.0
    with pytest.raises(StructureError, match=f"'{name}' has normalisations that turn the sign"):
        paired_graphs(turned, x)
    folded = trace(pairs, x[:1])
    data = {w.name: torch.from_numpy(np.asarray(w.data)) for _, w in folded.weighted()}
    ones = {name: torch.ones(len(data[name]))}
    with pytest.raises(StructureError, match=f"'{name}' is not on a grid of pairs"):
        with_pairs(quantised(folded, x), folded, {name: data[name]}, ones)
    with pytest.raises(StructureError, match="encode int8 pairs"):
        array_words(Complementary().encode(pairs.get_parameter(name).detach().numpy()))


def test_smoke_scale_runs_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "THREADS", 1)
    finding = reproduce("ddc-pim", "smoke", tmp_path, lambda *a: None)
    assert states_sources(finding)
    assert len(finding.claims) == 9
    array = next(claim for claim in finding.claims if "bit-serial array" in claim.claim)
    assert array.holds and "2.000x fewer cells" in array.note
    assert all(math.isfinite(v) for claim in finding.claims for v in claim.measured.values)
    exact = next(claim for claim in finding.claims if "bit for bit" in claim.claim)
    assert exact.holds
    (tmp_path / "finding.json").unlink()
    monkeypatch.setattr("cofit.reproductions.ddc_pim.study.train", None)
    assert reproduce("ddc-pim", "smoke", tmp_path, lambda *a: None).claims == finding.claims
