"""Minimal filtering of fp32 convolutions: exact over the rationals, bounded in float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layers import Builder

from cofit.codegen import compile, machine
from cofit.codegen.kernels import shares
from cofit.codegen.kernels.f32_winograd import F32Winograd
from cofit.codegen.kernels.minimal_filter import MinimalFilter, fold_taps
from cofit.codegen.verify import error_bound
from cofit.core import VerificationError
from cofit.ir import execute
from cofit.targets.work import work_of

HOST = machine("host")
pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(HOST.vector_floats < 8, reason="this CPU has no vectors of eight floats"),
]


def first_layer(channels, outputs, height, width, padding=(3, 3, 3, 3), fused="relu"):
    b = Builder("first", (1, channels, height, width), np.random.default_rng(channels))
    return b.graph(b.conv("x", outputs, 7, stride=(2, 2), padding=padding, fused=fused))


LANES = HOST.vector_floats
CASES = {
    "resnet": first_layer(3, 2 * LANES, 30, 34),
    "ragged": first_layer(2, 3 * LANES, 17, 21, (3, 2, 0, 4), "none"),
    "one channel": first_layer(1, LANES, 13, 9, (0, 0, 0, 0), "relu6"),
    "four channels": first_layer(4, 4 * LANES, 12, 43),
}


@pytest.mark.parametrize(("size", "taps"), [(2, 3), (3, 4), (4, 3), (4, 4), (1, 5)])
def test_filters_give_the_correlation(size, taps):
    found = MinimalFilter(size, taps)
    rng = np.random.default_rng(size)
    g, d = rng.standard_normal(taps), rng.standard_normal(found.edge)
    y = found.outputs @ ((found.weights @ g) * (found.inputs @ d))
    np.testing.assert_allclose(y, np.correlate(d, g), rtol=1e-12, atol=1e-12)
    assert len(found.inputs) == size + taps - 1  # as few products as there can be


def test_folding_makes_strides_channels():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 3, 12, 10)), rng.standard_normal((5, 3, 7, 7))
    folded = torch.from_numpy(x.reshape(1, 3, 6, 2, 5, 2).transpose(0, 3, 5, 1, 2, 4))
    taps = torch.from_numpy(fold_taps(weight, 2).transpose(0, 3, 1, 2).copy())
    got = F.conv2d(folded.reshape(1, 12, 6, 5), taps)
    padded = F.pad(torch.from_numpy(x), (0, 1, 0, 1))  # the eighth row and column weigh nothing
    expected = F.conv2d(padded, torch.from_numpy(weight), stride=2)
    np.testing.assert_allclose(got, expected[..., : got.shape[2], : got.shape[3]], atol=1e-10)


@pytest.mark.parametrize("graph", CASES.values(), ids=CASES)
def test_first_layers_are_filtered_and_right(graph, monkeypatch):
    monkeypatch.setattr(shares, "LEAST_CYCLES", 0)
    program, shared = compile(graph), compile(graph, threads=2)
    (step,) = [s for s in program.source.steps if s.op is not None]
    assert step.kernel == "f32-winograd"
    x = 3 + np.random.default_rng(1).standard_normal(graph.tensors["x"].shape, np.float32)
    y, (op,) = program.run(x), graph.ops
    arguments = [torch.from_numpy(v) for v in (x, *(graph.tensors[n].data for n in op.inputs[1:]))]
    exact = execute.apply(op, [value.double() for value in arguments]).numpy()
    plain = execute.apply(op, arguments).numpy()
    assert np.abs(y - exact).max() <= 10 * np.abs(plain - exact).max()  # rounds a few times more
    assert np.array_equal(y, shared.run(x))


def test_the_bound_is_of_the_largest_error_and_finds_a_wrong_weight():
    graph = CASES["resnet"]
    (op,) = graph.ops
    code = F32Winograd().emit(graph, op, HOST)
    x = torch.zeros(graph.tensors["x"].shape, dtype=torch.float64)
    x[..., 10, 12] = 1.0
    arguments = [x, *(torch.from_numpy(graph.tensors[n].data).double() for n in op.inputs[1:])]
    own, plain = code.bound(arguments), error_bound(op, arguments)
    assert own.shape == plain.shape
    # outputs of the same tile err although their own window sees only zeros
    assert ((own > 2 * own.min()) & (plain < 2 * plain.min())).any()

    wrong = np.array(graph.tensors[op.inputs[1]].data)
    wrong[5, 1, 3, 3] *= -1

    class Wrong(F32Winograd):
        def emit(self, graph, op, machine):
            name = op.inputs[1]
            changed = graph.with_tensors({name: replace(graph.tensors[name], data=wrong)})
            return super().emit(changed, op, machine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cofit.codegen.kernels.F32", (Wrong(),))
        with pytest.raises(VerificationError, match="f32-winograd 3x3 outputs"):
            compile(graph)


def test_other_layers_are_left_alone():
    b = Builder("other", (1, 3, 20, 20), np.random.default_rng(0))
    y = b.conv("x", 16, 3, stride=(2, 2))
    y = b.conv(y, 12, 7, stride=(2, 2), padding=(3, 3, 3, 3))
    graph = b.graph(y)
    kernel = F32Winograd()
    assert kernel.reject(graph, graph.ops[0], HOST) == "it is not 7x7 of stride 2"
    reason = kernel.reject(graph, graph.ops[1], HOST)
    assert reason == "a vector does not hold the channels of two pixels"
    ragged = first_layer(3, 12, 20, 20)
    assert kernel.reject(ragged, ragged.ops[0], HOST) == "its outputs are not whole vectors"


def test_explanations_count_the_products_that_are_left():
    source = compile(CASES["resnet"], verify=False).source
    (step,) = [s for s in source.steps if s.op is not None]
    # 5 x 6 tiles of 3 x 3 outputs, 36 products each, for 12 channels and two vectors of outputs
    assert work_of(source, step).macs_executed == 5 * 6 * 36 * 12 * 2 * LANES
