"""Each row of the table in `cofit.ir.integer`, written again for one element at a time."""

import math

import numpy as np
import pytest
import torch

from cofit.core import DataError, ModelError, numpy_generator
from cofit.ir import (
    DType,
    Graph,
    Op,
    Quantisation,
    QuantSpec,
    Rounding,
    Tensor,
    dequantise_output,
    quantise_input,
    run_integer,
)
from cofit.ir import attributes as at
from cofit.ir.execute import FUNCTIONS
from cofit.ir.integer import (
    activation_table,
    concat_requant,
    output_bounds,
    quantise_multiplier,
    requantise,
    softmax,
    softmax_parameters,
)

X = Quantisation((0.05,), -20)
Y = Quantisation((0.08,), 11)
OUT = Quantisation((0.11,), -30)


def graph(
    attributes, inputs: list[Tensor], shape, out: Quantisation = OUT, rounding=Rounding.DOUBLE
) -> Graph:
    tensors = [*inputs, Tensor("out", shape, DType.I8, out)]
    op = Op("out", attributes, tuple(t.name for t in inputs))
    names = tuple(t.name for t in inputs if t.data is None)
    return Graph.build(
        "g", names, ("out",), (op,), {t.name: t for t in tensors}, QuantSpec(rounding)
    )


def activation(name: str, shape, quantisation: Quantisation) -> Tensor:
    return Tensor(name, shape, DType.I8, quantisation)


def draw(*shape: int) -> np.ndarray:
    return numpy_generator(5, str(shape)).integers(-128, 128, shape, np.int8)


def scaled(acc: int, real: float, rounding: Rounding = Rounding.DOUBLE) -> int:
    return int(requantise(acc, *quantise_multiplier(real), rounding))


def clamp(value: int, lo: int = -128, hi: int = 127) -> int:
    return min(max(value, lo), hi)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fused", ["none", "relu", "relu6"])
def test_add(fused, rounding: Rounding) -> None:
    shape = (1, 2, 3, 4)
    g = graph(
        at.Add(fused), [activation("x", shape, X), activation("y", shape, Y)], shape,
        rounding=rounding,
    )  # fmt: skip
    x, y = draw(5, 2, 3, 4), draw(5, 2, 3, 4)[::-1].copy()
    out = run_integer(g, {"x": x, "y": y})["out"]
    lo, hi = {"none": (-128, 127), "relu": (-30, 127), "relu6": (-30, -30 + 55)}[fused]
    assert output_bounds(g, g.ops[0]) == (lo, hi)
    for index in np.ndindex(x.shape):
        a = scaled((int(x[index]) + 20) << 20, 0.05 / 0.16, rounding)
        b = scaled((int(y[index]) - 11) << 20, 0.5, rounding)
        assert out[index] == clamp(scaled(a + b, 0.16 / (2**20 * 0.11), rounding) - 30, lo, hi)


def test_mul_and_add_with_a_broadcast_constant() -> None:
    shape, gate = (1, 3, 2, 2), np.array([-50, 3, 90], np.int8).reshape(1, 3, 1, 1)
    constant = Tensor("c", gate.shape, DType.I8, Y, gate)
    x = draw(4, 3, 2, 2)
    product = run_integer(graph(at.Mul(), [activation("x", shape, X), constant], shape), {"x": x})
    total = run_integer(graph(at.Add(), [activation("x", shape, X), constant], shape), {"x": x})
    for index in np.ndindex(x.shape):
        u, v = int(x[index]) + 20, int(gate[0, index[1], 0, 0]) - 11
        assert product["out"][index] == clamp(scaled(u * v, 0.05 * 0.08 / 0.11) - 30)
        a, b = scaled(u << 20, 0.05 / 0.16), scaled(v << 20, 0.5)
        assert total["out"][index] == clamp(scaled(a + b, 0.16 / (2**20 * 0.11)) - 30)


def test_concat_copies_what_has_its_quantisation() -> None:
    parts = [activation("x", (1, 2, 3), X), activation("y", (1, 2, 1), OUT)]
    g = graph(at.Concat(axis=2), parts, (1, 2, 4))
    x, y = draw(3, 2, 3), draw(3, 2, 1)
    out = run_integer(g, {"x": x, "y": y})["out"]
    assert concat_requant(g, g.ops[0])[1] is None
    assert (out[:, :, 3:] == y).all()
    for index in np.ndindex(x.shape):
        assert out[index] == clamp(scaled(int(x[index]) + 20, 0.05 / 0.11) - 30)


@pytest.mark.parametrize("keep", [True, False])
def test_global_mean(keep: bool) -> None:
    g = graph(
        at.GlobalMean(keep), [activation("x", (1, 3, 5, 4), X)], (1, 3, 1, 1) if keep else (1, 3)
    )
    x = draw(6, 3, 5, 4)
    out = run_integer(g, {"x": x})["out"]
    assert out.shape == ((6, 3, 1, 1) if keep else (6, 3))
    for n, c in np.ndindex(6, 3):
        acc = sum(int(v) + 20 for v in x[n, c].reshape(-1))
        assert out[n, c].item() == clamp(scaled(acc, 0.05 / (0.11 * 20)) - 30)


def test_moves_keep_stored_values() -> None:
    x = draw(3, 2, 4, 4)
    source = activation("x", (1, 2, 4, 4), X)
    pads = ((0, 0), (1, 0), (0, 2), (1, 1))
    padded = run_integer(graph(at.Pad(pads), [source], (1, 3, 6, 6), X), {"x": x})["out"]
    assert (padded[:, 1:, :4, 1:5] == x).all()
    assert (padded == -20).sum() == padded.size - x.size + (x == -20).sum()
    cut = at.Slice((0, 1, 0, 1), (1, 2, 4, 4), (1, 1, 2, 1))
    sliced = run_integer(graph(cut, [source], (1, 1, 2, 3), X), {"x": x})["out"]
    assert (sliced == x[:, 1:2, ::2, 1:]).all()
    flat = run_integer(graph(at.Reshape((1, 32)), [source], (1, 32), X), {"x": x})["out"]
    assert (flat == x.reshape(3, 32)).all()


def test_average_pool_counts_padding_as_the_zero_point() -> None:
    source = activation("x", (1, 1, 2, 2), X)
    pool = at.AvgPool2d((2, 2), (1, 1), (1, 0, 1, 0), count_padding=True)
    x = np.array([[[[10, 20], [30, 50]]]], np.int8)
    out = run_integer(graph(pool, [source], (1, 1, 2, 2), X), {"x": x})["out"]
    # (3 * -20 + 10) / 4 = -12.5; (2 * -20 + 30) / 4 = -2.5; (2 * -20 + 40) / 4; 110 / 4 = 27.5
    assert out.reshape(-1).tolist() == [-13, -3, 0, 28]


@pytest.mark.parametrize(
    "function", ["relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh"]
)
def test_activation_tables_follow_torch(function) -> None:
    g = graph(at.Activation(function), [activation("x", (1, 256), X)], (1, 256))
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
    real = FUNCTIONS[function](0.05 * (torch.from_numpy(x).double() + 20))
    wanted = (torch.floor(real / 0.11 + 0.5) - 30).clamp(-128, 127).numpy()
    assert (run_integer(g, {"x": x})["out"] == wanted).all()
    assert (activation_table(g, g.ops[0]) == wanted[0]).all()


@pytest.mark.parametrize("scale", [1e-12, 1e-7, 0.01, 0.1, 0.7, 5.0, 15.9, 16.0, 40.0, 1e6])
def test_softmax_is_within_a_step_of_the_real_one(scale: float) -> None:
    g = graph(
        at.Softmax(), [activation("x", (1, 3, 10), Quantisation((scale,), 4))], (1, 3, 10),
        Quantisation((1 / 256,), -128),
    )  # fmt: skip
    x = draw(40, 3, 10)
    out = run_integer(g, {"x": x})["out"]
    real = torch.softmax(torch.from_numpy(x).double() * scale, -1) * 256 - 128
    assert np.abs(out - real.clamp(-128, 127).numpy()).max() < 1.0
    assert (out == softmax(x, softmax_parameters(g, g.ops[0]))).all()


def test_blocks_of_a_batch_do_not_matter() -> None:
    shape = (1, 2, 3, 4)
    g = graph(at.Add(), [activation("x", shape, X), activation("y", shape, Y)], shape)
    x, y = draw(70, 2, 3, 4), draw(70, 2, 3, 4)[::-1].copy()
    whole = run_integer(g, {"x": x, "y": y}, keep=True)
    assert (whole["x"] == x).all() and len(whole["out"]) == 70
    single = [run_integer(g, {"x": x[i : i + 1], "y": y[i : i + 1]})["out"] for i in range(70)]
    assert (whole["out"] == np.concatenate(single)).all()
    assert run_integer(g, {"x": x[:0], "y": y[:0]})["out"].shape == (0, 2, 3, 4)


def test_inputs_are_checked() -> None:
    g = graph(at.Reshape((1, 4)), [activation("x", (1, 2, 2), X)], (1, 4), X)
    with pytest.raises(DataError, match="'x' of graph 'g' is missing"):
        run_integer(g, {})
    with pytest.raises(DataError, match=r"'x' is float32 \(3, 2, 2\); it must be int8 \(N, 2, 2\)"):
        run_integer(g, {"x": np.zeros((3, 2, 2), np.float32)})
    with pytest.raises(DataError, match="'x'"):
        run_integer(g, {"x": np.zeros((3, 2, 3), np.int8)})
    real = Graph.build("f", ("x",), ("x",), (), {"x": Tensor("x", (1, 2))})
    with pytest.raises(ModelError, match="quantise it first"):
        run_integer(real, {"x": np.zeros((1, 2), np.int8)})


def test_conversions_are_float32_with_halves_to_even() -> None:
    g = graph(at.Reshape((1, 6)), [activation("x", (1, 6), Quantisation((0.5,), 3))], (1, 6),
              Quantisation((0.5,), 3))  # fmt: skip
    x = np.array([[0.25, 0.75, -0.25, 1e9, -1e9, 1.0]], np.float32)
    q = quantise_input(g, x)
    assert q.tolist() == [[3, 5, 3, 127, -128, 5]]
    assert dequantise_output(g, q).tolist() == [[0.0, 1.0, 0.0, 62.0, -65.5, 1.0]]
    with pytest.raises(DataError, match="NaN"):
        quantise_input(g, np.array([[math.nan] * 6], np.float32))
    assert quantise_input(g, np.array([[math.inf] * 6], np.float32)).tolist() == [[127] * 6]
    # the product is rounded to float32 before it is rounded to an integer
    scale = float(np.float32(0.1))
    g = graph(at.Reshape((1, 1)), [activation("x", (1, 1), Quantisation((scale,)))], (1, 1),
              Quantisation((scale,)))  # fmt: skip
    values = numpy_generator(0, "inputs").uniform(-13, 13, 20_000).astype(np.float32)
    reciprocal = np.float32(1 / scale)
    wanted = [int(np.rint(np.float32(v * reciprocal))) for v in values]
    got = quantise_input(g, values.reshape(-1, 1))
    assert got.reshape(-1).tolist() == [clamp(w) for w in wanted]
