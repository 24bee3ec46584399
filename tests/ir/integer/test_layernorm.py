"""Integer layer norm and products of activations: against float, by hand, and at the extremes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.ir.integer.norms import norm_graph, steps_off

from cofit.core import UnsupportedOpError, numpy_generator
from cofit.ir import (
    DType,
    Graph,
    Op,
    Quantisation,
    QuantSpec,
    Tensor,
    attributes,
    run_integer,
)
from cofit.ir.integer import activation_table, norm_bound, norm_parameters
from cofit.ir.integer import run_integer as integers
from cofit.ir.integer.layernorm import square_root


def test_one_outlier_reaches_the_bound_and_no_more():
    """The largest n there is: one value against all others."""
    integer, _ = norm_graph(numpy_generator(3), 512, rows=2)
    x = np.full((1, 2, 512), -128, np.int8)
    x[0, 0, 5], x[0, 1, 7] = 127, -127
    run_integer(integer, {"x": x})
    op = integer.ops[0]
    weight, bias = (integer.tensors[n].data.astype(np.int64) for n in "wb")
    d = 512 * x.astype(np.int64) - x.sum(-1, dtype=np.int64, keepdims=True)
    root = np.maximum(square_root((d * d).sum(-1, keepdims=True) // 512), 1)
    most = np.abs(weight * (d * 4096 // root) + bias).max()
    assert most <= norm_bound(integer, op) < 1 << 31


def test_epsilon_is_counted_in_units_of_the_input():
    integer, real = norm_graph(numpy_generator(4), 64, rows=100, eps=0.5, spread=2.0)
    scale = integer.tensors["x"].quantisation.scale[0]
    assert norm_parameters(integer, integer.ops[0]).epsilon == round(64**2 * 0.5 / scale**2)
    x = numpy_generator(5).integers(-40, 40, (4, 100, 64)).astype(np.int8)
    assert (steps_off(integer, real, x) <= 1).mean() >= 0.999


def test_square_roots_are_floors():
    values = np.array([0, 1, 2, 3, 4, 8, 9, 10**12 - 1, 10**12, (1 << 52) - 1], np.int64)
    assert square_root(values).tolist() == [math.isqrt(v) for v in values.tolist()]


def test_too_many_channels_are_refused():
    integer, _ = norm_graph(numpy_generator(6), 2049, rows=1)
    with pytest.raises(UnsupportedOpError, match="at most 2048"):
        run_integer(integer, {"x": np.zeros((1, 1, 2049), np.int8)})


def quantised(name: str, shape: tuple[int, ...], scale: float, zero: int) -> Tensor:
    return Tensor(name, shape, DType.I8, Quantisation((scale,), zero))


@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_activations_by_hand(transposed):
    rng = numpy_generator(7)
    right = (1, 1, 3, 4, 6) if transposed else (1, 1, 3, 6, 4)
    tensors = {t.name: t for t in (
        quantised("x", (1, 1, 3, 5, 6), 0.1, 3),
        quantised("y", right, 0.05, -7),
        quantised("z", (1, 1, 3, 5, 4), 0.04, 11),
    )}  # fmt: skip
    op = Op("z", attributes.Matmul(transposed, 0.25), ("x", "y"))
    graph = Graph.build("product", ("x", "y"), ("z",), (op,), tensors, QuantSpec())
    x, y = (rng.integers(-128, 128, (2, *tensors[n].shape[1:])).astype(np.int8) for n in "xy")
    factor = y.astype(np.float64) + 7
    real = 0.25 * 0.1 * 0.05 * ((x.astype(np.float64) - 3) @ (
        factor.swapaxes(-1, -2) if transposed else factor
    ))  # fmt: skip
    wanted = np.clip(np.floor(real / 0.04 + 0.5) + 11, -128, 127)
    found = integers(graph, {"x": x, "y": y})["z"]
    assert (found == wanted).mean() > 0.99 and np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("function", ["gelu", "gelu_tanh"])
def test_gelu_is_a_table_of_the_float_function(function):
    tensors = {"x": quantised("x", (1, 256), 0.04, 5), "y": quantised("y", (1, 256), 0.03, -100)}
    op = Op("y", attributes.Activation(function), ("x",))
    graph = Graph.build("gelu", ("x",), ("y",), (op,), tensors, QuantSpec())
    real = torch.from_numpy(0.04 * (np.arange(-128, 128) - 5.0))
    y = F.gelu(real, approximate="tanh" if function == "gelu_tanh" else "none").numpy()
    wanted = np.clip(np.floor(y / 0.03 + 0.5) - 100, -128, 127)
    assert np.array_equal(activation_table(graph, op), wanted)


def test_a_sigmoid_of_inputs_of_any_size_is_a_table():
    tensors = {
        "x": quantised("x", (1, 256), 82.0, 73),
        "y": quantised("y", (1, 256), 1 / 256, -128),
    }
    op = Op("y", attributes.Activation("sigmoid"), ("x",))
    graph = Graph.build("sigmoid", ("x",), ("y",), (op,), tensors, QuantSpec())
    wanted = np.where(np.arange(256) < 201, -128, 127)  # -16,482 to 4,428: all but zero are ends
    wanted[201] = 0
    assert np.array_equal(activation_table(graph, op), wanted)
