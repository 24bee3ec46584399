"""Post-training quantisation: invariants on small graphs, accuracy on a real network."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cofit.core import ConfigError, DataError, ModelError, UnknownNameError, torch_generator
from cofit.ir import (
    DType,
    Graph,
    Op,
    QuantSpec,
    Ranges,
    Rounding,
    Tensor,
    calibrate,
    dequantise_output,
    quantise,
    quantise_input,
    run_float,
    run_integer,
    trace,
)
from cofit.ir import attributes as at
from cofit.ir.quantise import affine_quantisation
from cofit.ir.quantise_layer import weight_scales
from cofit.models import load_model


def chain(*ops: Op, shapes: dict[str, tuple[int, ...]], **constants: np.ndarray) -> Graph:
    tensors = {name: Tensor(name, shape) for name, shape in shapes.items()}
    tensors |= {name: Tensor(name, c.shape, data=c) for name, c in constants.items()}
    return Graph.build("g", ("x",), (ops[-1].output,), ops, tensors)


def one_linear(weight: np.ndarray, bias: np.ndarray, fused: at.Fused = "none") -> Graph:
    shapes = {"x": (1, weight.shape[1]), "fc": (1, len(weight))}
    return chain(Op("fc", at.Linear(fused), ("x", "w", "b")), shapes=shapes, w=weight, b=bias)


def normal(*shape: int, name: str = "data") -> torch.Tensor:
    return torch.randn(shape, generator=torch_generator(7, name))


@pytest.mark.parametrize(
    ("lower", "upper"), [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 6.0), (-1e-6, 0.0), (0, 0)]
)
def test_activations_hold_zero_exactly_and_cover_their_range(lower: float, upper: float) -> None:
    q = affine_quantisation(lower, upper)
    (scale,) = q.scale
    assert scale > 0 and scale == float(np.float32(scale))
    assert -128 <= q.zero_point <= 127  # the stored zero_point stands for 0.0 itself
    slack = 0.5001 * scale
    assert (-128 - q.zero_point) * scale <= min(lower, 0) + slack
    assert (127 - q.zero_point) * scale >= max(upper, 0) - slack


def test_weights_are_symmetric_per_channel_and_zeros_survive() -> None:
    weight = normal(6, 20).numpy()
    weight[np.abs(weight) < 0.5] = 0
    weight *= np.array([1e-3, 1, 10, 1, 1, 1], np.float32)[:, None]
    weight[4] = 0
    bias = np.array([0.1, -2, 3, 0, 5, 0], np.float32)
    graph = one_linear(weight, bias)
    graph = graph.with_tensors({"w": replace(graph.tensors["w"], structure="pattern")})
    x = normal(200, 20)
    q = quantise(graph, calibrate(graph, [x]))
    held, scales = q.tensors["w"], np.array(q.tensors["w"].quantisation.scale)
    assert held.dtype is DType.I8 and held.structure == "pattern"
    assert ((held.data == 0) == (weight == 0)).mean() > 0.99
    assert (held.data[weight == 0] == 0).all()
    assert np.abs(held.data).max() == 127 and (scales > 0).all()
    assert np.abs(held.data * scales[:, None] - weight).max(axis=1) == pytest.approx(
        scales / 2, rel=0.3, abs=scales.max() / 2
    )
    assert (np.abs(held.data * scales[:, None] - weight) <= 0.5001 * scales[:, None]).all()
    # the channel of zeros gives its bias
    out = dequantise_output(q, run_integer(q, {"x": quantise_input(q, x.numpy())})["fc"])
    (step,) = q.tensors["fc"].quantisation.scale
    assert np.abs(out[:, 4] - 5).max() <= step
    assert np.abs(out - run_float(graph, {"x": x})["fc"].numpy()).max() < 4 * step
    biases = q.tensors["b"]
    assert biases.dtype is DType.I32
    assert biases.data * np.array(biases.quantisation.scale) == pytest.approx(bias, abs=step / 100)


def test_a_large_bias_on_tiny_weights_fits_int32() -> None:
    graph = one_linear(np.full((2, 4), 1e-12, np.float32), np.array([3, 1], np.float32))
    q = quantise(graph, calibrate(graph, [normal(50, 4)]))
    out = dequantise_output(q, run_integer(q, {"x": np.zeros((1, 4), np.int8)})["fc"])
    assert out[0] == pytest.approx([3, 1], abs=0.02)


@pytest.mark.parametrize("fused", ["none", "relu"])
def test_ranges_of_zero_work(fused: at.Fused) -> None:
    zero = one_linear(np.zeros((3, 4), np.float32), np.zeros(3, np.float32), fused)
    q = quantise(zero, calibrate(zero, [torch.zeros(2, 4)]))
    stored = quantise_input(q, np.zeros((2, 4), np.float32))
    assert (dequantise_output(q, run_integer(q, {"x": stored})["fc"]) == 0).all()
    # an input that is always zero into real weights
    alive = one_linear(normal(3, 4).numpy(), np.array([1, -1, 2], np.float32), fused)
    q = quantise(alive, calibrate(alive, [torch.zeros(2, 4)]))
    out = dequantise_output(q, run_integer(q, {"x": stored})["fc"])
    assert out[0] == pytest.approx([1, -1 if fused == "none" else 0, 2], abs=0.02)


def test_four_bits_clip_where_the_squared_error_is_least() -> None:
    weight = normal(8, 400).double().numpy()
    scales = weight_scales(weight, 4)
    plain = np.abs(weight).max(axis=1) / 7

    def error(scale: np.ndarray) -> np.ndarray:
        stored = np.clip(np.rint(weight / scale[:, None]), -7, 7)
        return ((stored * scale[:, None] - weight) ** 2).sum(axis=1)

    assert (error(scales) < 0.9 * error(plain)).all()
    for factor in (0.95, 1.05):
        assert (error(scales) <= error(scales * factor)).all()
    graph = one_linear(weight.astype(np.float32), np.zeros(8, np.float32))
    q = quantise(graph, calibrate(graph, [normal(20, 400)]), weight_bits={"fc": 4})
    assert q.tensors["w"].quantisation.bits == 4 and q.tensors["w"].dtype is DType.I8
    assert np.abs(q.tensors["w"].data).max() == 7


def test_bias_correction_takes_the_mean_error_out() -> None:
    graph = one_linear(normal(16, 64).numpy(), normal(16, name="bias").numpy())
    x = normal(500, 64).abs()  # a mean that turns rounding errors of weights into a bias
    ranges = calibrate(graph, [x])

    def mean_error(q: Graph) -> float:
        out = dequantise_output(q, run_integer(q, {"x": quantise_input(q, x.numpy())})["fc"])
        real = run_float(graph, {"x": x})["fc"].numpy()
        return float(np.abs((out - real).mean(axis=0)).max())

    before = mean_error(quantise(graph, ranges, weight_bits=4))
    after = mean_error(quantise(graph, ranges, weight_bits=4, bias_correction=x.split(125)))
    assert after < before / 10


def test_moves_and_concats_share_quantisations() -> None:
    weight = normal(4, 3, 1, 1).numpy()
    bias = np.zeros(4, np.float32)
    graph = chain(
        Op("a", at.Conv2d(), ("x", "w", "b")),
        Op("c", at.Conv2d(fused="relu"), ("x", "w", "b")),
        Op("pool", at.MaxPool2d((2, 2), (1, 1)), ("a",)),
        Op("padded", at.Pad(((0, 0), (0, 0), (1, 0), (1, 0))), ("pool",)),
        Op("cat", at.Concat(), ("padded", "c")),
        Op("act", at.Activation("sigmoid"), ("cat",)),
        Op("both", at.Concat(), ("act", "cat")),
        Op("mean", at.GlobalMean(keep=False), ("both",)),
        Op("y", at.Softmax(), ("mean",)),
        shapes={
            "x": (1, 3, 4, 4), "a": (1, 4, 4, 4), "c": (1, 4, 4, 4), "pool": (1, 4, 3, 3),
            "padded": (1, 4, 4, 4), "cat": (1, 8, 4, 4), "act": (1, 8, 4, 4),
            "both": (1, 16, 4, 4), "mean": (1, 16), "y": (1, 16),
        },
        w=weight, b=bias,
    )  # fmt: skip
    x = normal(64, 3, 4, 4)
    q = quantise(graph, calibrate(graph, [x]))
    of = {name: tensor.quantisation for name, tensor in q.tensors.items()}
    assert of["a"] == of["pool"] == of["padded"] == of["cat"] == of["c"]
    assert (of["act"].scale, of["act"].zero_point) == ((1 / 256,), -128)
    assert (of["y"].scale, of["y"].zero_point) == ((1 / 256,), -128)
    assert of["both"] not in (of["act"], of["cat"])  # "cat" is read twice, "act" is fixed
    # each layer has its own copy of the weights that two layers share
    names = {op.inputs[1:] for op in q.ops if op.kind == "conv2d"}
    assert names == {("a.w", "a.b"), ("c.w", "c.b")} and "w" not in q.tensors
    out = run_integer(q, {"x": quantise_input(q, x.numpy())}, keep=True)
    real = run_float(graph, {"x": x}, keep=True)
    for name in ("a", "c", "cat", "act", "both", "mean"):
        (scale,) = of[name].scale
        held = out[name].astype(int) - of[name].zero_point
        error = np.abs(scale * held - real[name].numpy()).max()
        assert error < 4 * scale, name


def test_constants_of_add_and_mul_are_quantised() -> None:
    graph = chain(
        Op("sum", at.Add(), ("x", "shift")),
        Op("y", at.Mul("relu6"), ("sum", "gate")),
        shapes={"x": (1, 3, 2, 2), "sum": (1, 3, 2, 2), "y": (1, 3, 2, 2)},
        shift=np.array([0.5, -3, 0], np.float32).reshape(1, 3, 1, 1),
        gate=np.array([2, 1, 5], np.float32).reshape(1, 3, 1, 1),
    )
    x = normal(100, 3, 2, 2)
    q = quantise(graph, calibrate(graph, [x]))
    assert q.tensors["shift"].dtype is DType.I8
    out = dequantise_output(q, run_integer(q, {"x": quantise_input(q, x.numpy())})["y"])
    real = run_float(graph, {"x": x})["y"].numpy()
    assert real.max() > 5 and np.abs(out - real).max() < 0.2
    assert out.min() == 0 and out.max() <= 6


def test_calibration_accumulates_over_batches_and_inputs() -> None:
    graph = one_linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    batches = [torch.tensor([[1.0, -2.0]]), np.array([[5.0, 0.0]], np.float32)]
    ranges = calibrate(graph, [*batches, {"x": torch.tensor([[0.0, -3.0]])}])
    assert ranges == Ranges({"x": -3.0, "fc": -3.0}, {"x": 5.0, "fc": 5.0})


def test_errors_say_what_is_wrong() -> None:
    graph = one_linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    with pytest.raises(DataError, match="NaN or infinite values in 'x'"):
        calibrate(graph, [torch.tensor([[1.0, math.nan]])])
    with pytest.raises(DataError, match="at least one batch"):
        calibrate(graph, [])
    ranges = calibrate(graph, [torch.ones(1, 2)])
    with pytest.raises(DataError, match="lack the activation 'fc'"):
        quantise(graph, Ranges({"x": 0.0}, {"x": 1.0}))
    with pytest.raises(ConfigError, match="'fc' cannot have 3 bits"):
        quantise(graph, ranges, weight_bits=3)
    with pytest.raises(UnknownNameError, match="did you mean 'fc'"):
        quantise(graph, ranges, weight_bits={"fcc": 4})
    with pytest.raises(ModelError, match="already an integer graph"):
        quantise(quantise(graph, ranges), ranges)
    broken = one_linear(np.full((2, 2), np.nan, np.float32), np.zeros(2, np.float32))
    with pytest.raises(DataError, match="'fc' has weights that are NaN"):
        quantise(broken, ranges)


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = nn.functional.hardswish(self.depthwise(x)) + nn.functional.max_pool2d(x, 2)
        y: torch.Tensor = self.head(x.mean((2, 3)))
        return y


@pytest.mark.parametrize("rounding", Rounding)
def test_a_traced_module_keeps_its_function(rounding: Rounding) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Mixed().eval()
    x = normal(64, 3, 16, 16)
    graph = trace(module, x[:1])
    q = quantise(graph, calibrate(graph, x.split(16)), QuantSpec(rounding))
    assert q.spec == QuantSpec(rounding)
    (name,) = graph.outputs
    out = dequantise_output(q, run_integer(q, {q.inputs[0]: quantise_input(q, x.numpy())})[name])
    real = module(x).detach().numpy()
    noise, signal = ((out - real) ** 2).mean(), real.var()
    assert 10 * math.log10(signal / noise) > 25  # dB


@pytest.fixture(scope="module")
def resnet8(data_dir: Path, models_dir: Path) -> tuple[Graph, torch.Tensor, np.ndarray, np.ndarray]:
    """Graph, training images, test images and labels."""
    weights = models_dir / "mlperf_tiny" / "resnet8.safetensors"
    loaded = load_model("mlperf_tiny/resnet8", weights)
    with np.load(data_dir / "cifar10_subset" / "cifar10_subset.npz") as archive:
        train, test = (
            archive[f"{part}_images"][:count].transpose(0, 3, 1, 2).astype(np.float32)
            for part, count in (("train", 256), ("test", 1000))
        )
        labels = archive["test_labels"][:1000]
    graph = trace(loaded.module, torch.zeros(1, 3, 32, 32))
    return graph, torch.from_numpy(train), test, labels


def test_int8_resnet8_is_within_a_point_of_float(resnet8) -> None:
    graph, train, test, labels = resnet8
    (name,) = graph.outputs
    with torch.no_grad():
        real = run_float(graph, {graph.inputs[0]: torch.from_numpy(test)})[name].numpy().argmax(1)
    assert (real == labels).mean() > 0.85
    ranges = calibrate(graph, train.split(64))
    accuracy = {}
    for bits in (8, 4):
        q = quantise(graph, ranges, weight_bits=bits, bias_correction=train.split(64))
        stored = run_integer(q, {q.inputs[0]: quantise_input(q, test)})[name]
        accuracy[bits] = float((stored.argmax(1) == labels).mean())
    assert abs(accuracy[8] - float((real == labels).mean())) <= 0.01
    assert accuracy[8] - 0.1 < accuracy[4] < accuracy[8]
