"""Hamming co-design at the gates (check 6), and the energy of the whole data path."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cofit.core import ConfigError, MissingDependencyError, torch_generator
from cofit.ir import calibrate, quantise, randomise_statistics_, run_integer, trace
from cofit.reproductions.hamming_codesign.datapath import Layer, input_columns, layers
from cofit.reproductions.hamming_codesign.network import SmallInvertedResidual
from cofit.reproductions.hamming_codesign.streams import count, natural, segmented, streams
from cofit.reproductions.hamming_codesign.study import MEASURES
from cofit.reproductions.harness import seeded
from cofit.rtl import Simulator, mac, measured_energy, stream_mac, yosys
from cofit.targets.datapath import activity, datapath

try:
    yosys()
except MissingDependencyError as missing:
    pytest.skip(str(missing), allow_module_level=True)

HEIGHT = 8


@pytest.fixture(scope="module")
def network():
    """An int8 network with residual additions, depthwise layers and a linear head."""
    model = seeded(lambda: SmallInvertedResidual(3, ((1, 8, 1, 1), (3, 12, 2, 2)), 1, 24), 1)
    randomise_statistics_(model, torch_generator(1, "norms"))
    example = torch.randn(8, 3, 8, 8, generator=torch_generator(1, "images"))
    graph = trace(model, example)
    return quantise(graph, calibrate(graph, [example]))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(-128, 128, (1, 3, 8, 8)).astype(np.int8)


@pytest.fixture(scope="module")
def streamed(network, image) -> list[Layer]:
    return [layer for m in ("natural", "segmented") for layer in layers(network, image, m, HEIGHT)]


def test_06_nothing_toggles_at_distance_zero_with_a_held_activation():
    rng = np.random.default_rng(0)
    held = [np.repeat(rng.integers(-128, 128, (1, 500)), 20, axis=0) for _ in range(2)]
    found = stream_mac(*held, np.repeat(rng.integers(-(2**20), 2**20, (1, 500)), 20, axis=0))
    assert found.gate_toggles == 0 and found.logic_j == 0
    moved = held[0].copy()
    moved[1::2] ^= 1
    assert stream_mac(moved, held[1], 0 * moved).gate_toggles > 0


def test_06_the_table_is_that_of_the_gates_and_grows_with_the_distance():
    unit, gates = datapath(), measured_energy(seed=1)  # not the draws that the table is from
    for table, measured in (
        (unit.weight_j, gates.weight), (unit.input_j, gates.x), (unit.sum_j, gates.sum),
    ):  # fmt: skip
        assert measured[0] == 0 and (np.diff(measured) > 0).all()
        assert table[1:] == pytest.approx(measured[1:], rel=0.04)
    assert unit.top_j == pytest.approx(gates.top, rel=0.04)
    assert unit.weight_factor == pytest.approx(gates.weight_factor, rel=0.04)
    assert unit.input_factor == pytest.approx(gates.x_factor, rel=0.04)


def test_06_stream_means_of_real_layers_follow_the_gates(streamed):
    assert len(streamed) > 10
    table, gates = [], []
    for layer in streamed:
        part = layer.sequence
        table.append(activity(part, datapath()).per_mac_j)
        gates.append(stream_mac(part.weights, part.inputs, part.sums).logic_j)
    assert np.corrcoef(table, gates)[0, 1] >= 0.9
    assert np.abs(np.array(table) / gates - 1).mean() < 0.05


def test_06_the_netlist_adds_and_multiplies():
    """`stream_mac` refuses a netlist that computes something else; here one that is given so."""
    simulator = Simulator(mac(), 3)
    simulator.set({"weight": np.array([-128, 127, 5]), "x": np.array([-128, -128, 0])})
    simulator.set({"sum": np.array([7, -1, -(2**23)])})
    simulator.step(2)
    assert simulator.read("y").tolist() == [16391, -16257, -(2**23)]
    with pytest.raises(ConfigError, match=r"give \(T, V\) for each, T at least 2"):
        stream_mac(np.zeros((1, 4), int), np.zeros((1, 4), int), np.zeros((1, 4), int))


def test_datapath_columns_are_what_the_layers_multiply(network, image):
    """Against the integer network itself: all products, without the zero point, and the bias."""
    values = run_integer(network, {network.inputs[0]: image}, keep=True)
    kinds = set()
    for op, weight in network.weighted():
        columns = input_columns(network, op, values[op.inputs[0]])
        zero = network.tensors[op.inputs[0]].quantisation.zero_point
        x = torch.from_numpy(values[op.inputs[0]].astype(np.float64) - zero)
        w = torch.from_numpy(weight.data.astype(np.float64))
        if op.kind == "linear":
            expected = (x @ w.T).numpy()
        else:
            top, bottom, left, right = op.attributes.padding
            x = torch.nn.functional.pad(x, (left, right, top, bottom))
            conv = torch.nn.functional.conv2d(
                x, w, stride=op.attributes.stride, groups=op.attributes.groups
            )
            expected = conv[0].flatten(1).T.numpy()
        matrix = np.moveaxis(weight.data, 1, -1).reshape(len(weight.data), -1).astype(np.int64)
        found = ((columns.astype(np.int64) - zero) * matrix).sum(-1) if columns.ndim == 3 else (
            (columns.astype(np.int64) - zero) @ matrix.T
        )  # fmt: skip
        assert np.array_equal(found, expected), op.output
        kinds.add((op.kind, columns.ndim))
    assert kinds == {("conv2d", 2), ("conv2d", 3), ("linear", 2)}


def test_datapath_weight_flips_are_those_of_the_metric(network, image):
    """Flips of weights, cycle by cycle, are HD per position plus what the borders toggle."""
    by_name = {each.name: each for each in streams(network, "twos_complement")}
    for measure, order in (("natural", natural), ("segmented", segmented)):
        for layer in layers(network, image, measure, HEIGHT):
            one = by_name[layer.name]
            positions = (len(layer.sequence.weights)) // (len(one.rows) * len(one.segments(HEIGHT)))
            found = activity(layer.sequence, datapath()).weight_flips
            each = count(one, HEIGHT, order(one, HEIGHT), False)
            within = (each.flips + each.border_flips) // one.repeats * positions
            between = found - within
            assert between >= 0 and between <= (positions - 1) * 8 * HEIGHT
            assert (between == 0) or positions > 1


def test_datapath_orders_save_energy_of_weights_and_leave_that_of_activations(network, image):
    total = {
        measure: [activity(x.sequence, datapath()) for x in layers(network, image, measure, HEIGHT)]
        for measure in MEASURES
    }
    weights = {m: sum(a.weight_flips for a in each) for m, each in total.items()}
    energy = {m: sum(a.energy_j for a in each) for m, each in total.items()}
    assert weights["segmented"] < weights["reordered"] < weights["natural"]
    assert energy["segmented"] < energy["natural"]
    natural_rest = sum(a.rest_j for a in total["natural"])
    assert energy["natural"] / energy["segmented"] < weights["natural"] / weights["segmented"]
    assert energy["segmented"] > 0.5 * natural_rest  # sums and activations go on toggling
