"""Evaluation against numpy, and that lowering to int8 keeps zeros, structures and bits."""

import numpy as np
import pytest
import torch
from fit_cases import graph_of
from torch import nn

from cofit.data import Split
from cofit.fit.precision import BATCH, Lowering, accuracy, count_correct, reference_scores
from cofit.ir import run_float
from cofit.ir.integer import dequantise_output, quantise_input, run_integer
from cofit.structures import parse

DRAW = torch.Generator().manual_seed(4)
INPUTS = torch.randn(300, 3, 8, 8, generator=DRAW)


def net():
    return graph_of(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        ),
        3, 8, 8,
    )  # fmt: skip


def structured(graph, texts):
    changed = {}
    for name, text in texts.items():
        weight = graph.tensors[name]
        data = parse(text).project(torch.from_numpy(weight.data)).numpy()
        changed[name] = type(weight)(name, weight.shape, data=data, structure=text)
    return graph.with_tensors(changed)


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1, 2 * BATCH + 7])
def test_count_correct_equals_numpy(count):
    draw = np.random.default_rng(count)
    table = draw.standard_normal((count, 6)).astype(np.float32)
    targets = draw.integers(0, 6, count)
    split = Split(torch.from_numpy(table), torch.from_numpy(targets))
    expected = int((table.argmax(axis=1) == targets).sum())
    assert count_correct(lambda x: x, split) == expected
    assert accuracy(lambda x: x, split) == expected / count


def test_the_first_of_equal_scores_wins():
    split = Split(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    assert count_correct(lambda x: x, split) == 1


def test_reference_scores_are_the_meaning_of_the_graph():
    graph = net()
    with torch.no_grad():
        expected = run_float(graph, {graph.inputs[0]: INPUTS})[graph.outputs[0]].numpy()
    assert np.array_equal(reference_scores(graph)(INPUTS.numpy()), expected)
    low = Lowering("int8", INPUTS).lower(graph)
    stored = run_integer(low, {low.inputs[0]: quantise_input(low, INPUTS.numpy())})
    found = reference_scores(low)(INPUTS.numpy())
    assert np.array_equal(found, dequantise_output(low, stored[low.outputs[0]]))
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_fp32_is_the_graph_itself():
    graph = net()
    assert Lowering("fp32", INPUTS).lower(graph, {"0": 32}) is graph


def test_int8_keeps_zeros_and_structures():
    graph = structured(net(), {"2.weight": "block2x4@3", "6.weight": "block1x4@2"})
    low = Lowering("int8", INPUTS).lower(graph)
    assert low.is_integer
    for op, weight in graph.weighted():
        stored = low.tensors[low.producer[op.output].inputs[1]]
        assert stored.structure == weight.structure
        assert (stored.data[weight.data == 0] == 0).all()
        if weight.structure is not None:
            assert (weight.data == 0).any()
            assert parse(weight.structure).check(torch.from_numpy(stored.data)) is None


def test_four_bits_go_to_the_layer_that_was_named():
    graph = net()
    low = Lowering("int8", INPUTS).lower(graph, {"0": 8, "2": 4, "6": 8})
    bits = {op.output: low.tensors[op.inputs[1]] for op in low.ops if op.kind != "globalmean"
            and len(op.inputs) == 3}  # fmt: skip
    assert {name: w.quantisation.bits for name, w in bits.items()} == {"0": 8, "2": 4, "6": 8}
    assert np.abs(bits["2"].data).max() <= 7 < np.abs(bits["0"].data).max()


def test_lowering_twice_gives_the_same_bits():
    graph, lowering = net(), Lowering("int8", INPUTS)
    one, two = lowering.lower(graph), lowering.lower(graph)
    for name, tensor in one.tensors.items():
        assert tensor.quantisation == two.tensors[name].quantisation
        if tensor.data is not None:
            assert np.array_equal(tensor.data, two.tensors[name].data)
