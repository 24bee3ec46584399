"""Requantisation in float32 gives the integers of the reference around every step of its output."""

import numpy as np
import pytest
from s8_graphs import HOST

from cofit.codegen.emit import emit
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.kernels.s8_host_layer import layer_rounding
from cofit.codegen.layout import to_memory
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor
from cofit.ir import attributes as at
from cofit.ir.integer import conv_requant, run_integer

CHANNELS, OUTPUTS, PIXELS = 4, 256, 256


def layer(scale, bias, rounding=Rounding.SHORT):
    """A 1x1 convolution whose weights 127, 1, 0, 0 and biases make any accumulator."""
    weight = np.tile(np.array([127, 1, 0, 0], np.int8), (OUTPUTS, 1))
    scales = Quantisation(tuple(np.float32(scale * (1 + np.arange(OUTPUTS) / 997)).tolist()))
    tensors = {
        "x": Tensor("x", (1, CHANNELS, 1, PIXELS), DType.I8, Quantisation((1.0,), 0)),
        "w": Tensor("w", (OUTPUTS, CHANNELS, 1, 1), DType.I8, scales, weight[:, :, None, None]),
        "b": Tensor("b", (OUTPUTS,), DType.I32, scales, bias),
        "y": Tensor("y", (1, OUTPUTS, 1, PIXELS), DType.I8, Quantisation((1.0,), -3)),
    }
    op = Op("y", at.Conv2d((1, 1), (0, 0, 0, 0), (1, 1), 1), ("x", "w", "b"))
    return Graph.build("near", ("x",), ("y",), (op,), tensors, QuantSpec(rounding))


@pytest.mark.skipif(HOST.vector_floats < 8, reason="needs vectors of eight floats")
@pytest.mark.parametrize("scale", [2.0**-16.3, 2.0**-12.7, 2.0**-9.1])
def test_all_accumulators_near_all_steps(scale):
    """Output channel k has the bias of step k - 128; x adds every offset of -127 to 127 to it."""
    rng = np.random.default_rng(12)
    factors = scale * (1 + np.arange(OUTPUTS) / 997)
    bias = np.rint((np.arange(OUTPUTS) - 128 + 3 - 0.5) / factors).astype(np.int32)
    graph = layer(scale, bias)
    assert layer_rounding(graph, graph.ops[0], *conv_requant(graph, graph.ops[0])) == "S8_FLOAT"
    x = np.zeros((1, CHANNELS, 1, PIXELS), np.int8)
    x[0, 1, 0] = np.arange(-128, 128)
    x[0, 0, 0, :64] = rng.integers(-128, 128, 64)
    source = emit(graph, HOST)
    runner = HostRunner(source, build_host([source], optimise="-O1"))
    runner.load(to_memory(x), 0)
    runner.step(0)
    wanted = run_integer(graph, {"x": x})["y"]
    assert np.array_equal(runner.read("y"), wanted)
    assert len(np.unique(wanted)) > 200


def test_layers_that_float32_could_get_wrong_are_left_to_integers():
    def chosen(graph):
        return layer_rounding(graph, graph.ops[0], *conv_requant(graph, graph.ops[0]))

    small = np.zeros(OUTPUTS, np.int32)
    assert chosen(layer(2.0**-9.1, small)) == "S8_FLOAT"
    assert chosen(layer(2.0**-9.1, small, Rounding.SINGLE)) == "S8_ONCE"  # 31-bit multipliers
    assert chosen(layer(2.0**-9.1, small + (1 << 24))) == "S8_ONCE"  # float32 skips integers
    assert chosen(layer(2.0**-9, small)) == "S8_ONCE"  # a power of two: ties
    assert chosen(layer(2.0**-9.1, small, Rounding.DOUBLE)) == "S8_TWICE"
