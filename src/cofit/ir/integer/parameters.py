"""Integer parameters of the ops of a quantised graph: the one source of every multiplier.

The executor and every code generator read multipliers, shifts, bounds and tables from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cofit.core import UnsupportedOpError
from cofit.ir import attributes as at
from cofit.ir.integer import softmax as fixed_point
from cofit.ir.integer.accumulate import magnitude_bound, weight_sums
from cofit.ir.integer.elementwise import AddRequant, Pair
from cofit.ir.integer.epilogue import Bounds
from cofit.ir.integer.layernorm import FRACTION_BITS, MAX_CHANNELS, NormParameters
from cofit.ir.integer.recurrent import GATE_BITS, STATE_BITS, RecurrentParameters, Rows
from cofit.ir.integer.requantise import multiplier_of, quantise_multiplier
from cofit.ir.types import Graph, Op, Quantisation

ADD_LEFT_SHIFT = 20
_INT8 = (-128, 127)
_ZERO_POINT = 128  # most that is added to a scaled accumulator before it is clamped
_LEAST = -700.0  # beyond it exp(-x) overflows, and a sigmoid is zero in every grid
_FUNCTIONS: dict[at.Function, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "hardswish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "hardsigmoid": lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-np.maximum(x, _LEAST))),
    "tanh": np.tanh,
    "gelu": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def affine(graph: Graph, name: str) -> tuple[float, int]:
    """(scale, zero point) of an activation.

    Raises:
        UnsupportedOpError: the tensor is not quantised with one scale > 0 and a zero point in int8.
    """
    quantisation = _quantisation(graph, name)
    scale, zero_point = quantisation.scale[0], quantisation.zero_point
    if quantisation.per_channel or not (math.isfinite(scale) and scale > 0):
        raise UnsupportedOpError(
            f"tensor {name!r} has the scale {quantisation.scale}; an activation needs one positive "
            "scale"
        )
    if not _INT8[0] <= zero_point <= _INT8[1]:
        raise UnsupportedOpError(
            f"tensor {name!r} has the zero point {zero_point}; int8 needs one in [-128, 127]"
        )
    return scale, zero_point


def output_bounds(graph: Graph, op: Op) -> Bounds:
    """(lo, hi) of the stored output, with the op's fused activation."""
    fused = getattr(op.attributes, "fused", "none")
    if fused == "none":
        return _INT8
    scale, zero_point = affine(graph, op.output)
    if fused == "relu":
        return zero_point, _INT8[1]
    return zero_point, min(_INT8[1], zero_point + math.floor(6.0 / scale + 0.5))


def conv_requant(graph: Graph, op: Op) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(multipliers, shifts) int32 (K,) of a conv2d or linear op: sx * sw[k] / sy.

    Raises:
        UnsupportedOpError: an accumulator could leave int32, a factor is out of range, or the
            weights are not symmetric constants; naming the op.
    """
    x, weight, bias = (graph.tensors[name] for name in op.inputs)
    scales = _quantisation(graph, weight.name)
    if weight.data is None or bias.data is None or scales.zero_point != 0:
        raise UnsupportedOpError(f"{_named(op)}: weights must be constant with zero point 0")
    scale_x, zero_point = affine(graph, x.name)
    scale_y, _ = affine(graph, op.output)
    reals = np.broadcast_to(np.array(scales.scale), weight.shape[:1]) * scale_x / scale_y
    try:
        multipliers, shifts = multiplier_of(reals.tolist(), _bits(graph))
    except UnsupportedOpError as error:
        raise UnsupportedOpError(f"{_named(op)}: {error}") from error
    bound = magnitude_bound(np.dtype(np.int8), -zero_point) * weight_sums(
        weight.data.astype(np.int8)
    )
    bound += np.abs(bias.data.astype(np.int64))
    _prove(op, int((bound << np.maximum(shifts, 0)).max()))
    _prove(op, math.ceil((bound * reals).max()) + _ZERO_POINT)
    return multipliers, shifts


def add_requant(graph: Graph, op: Op) -> AddRequant:
    """Scalings of an addition: both inputs to t = 2*max(s1, s2), then t / (2^20 * sy)."""
    (scale_1, _), (scale_2, _) = (affine(graph, name) for name in op.inputs)
    scale_y, _ = affine(graph, op.output)
    twice = 2 * max(scale_1, scale_2)
    return AddRequant(
        _scaling(graph, op, scale_1 / twice, 255 << ADD_LEFT_SHIFT),
        _scaling(graph, op, scale_2 / twice, 255 << ADD_LEFT_SHIFT),
        _scaling(graph, op, twice / ((1 << ADD_LEFT_SHIFT) * scale_y), 255 << ADD_LEFT_SHIFT),
        ADD_LEFT_SHIFT,
    )


def mul_requant(graph: Graph, op: Op) -> Pair:
    """(multiplier, shift) of a product: s1 * s2 / sy."""
    (scale_1, _), (scale_2, _) = (affine(graph, name) for name in op.inputs)
    return _scaling(graph, op, scale_1 * scale_2 / affine(graph, op.output)[0], 255 * 255)


def concat_requant(graph: Graph, op: Op) -> tuple[Pair | None, ...]:
    """(multiplier, shift) of each input of a concatenation, None where it is copied as it is."""
    target = affine(graph, op.output)
    sources = [affine(graph, name) for name in op.inputs]
    return tuple(
        None if source == target else _scaling(graph, op, source[0] / target[0], 255)
        for source in sources
    )


def mean_requant(graph: Graph, op: Op) -> Pair:
    """(multiplier, shift) of a mean over the plane: sx / (sy * H * W)."""
    area = math.prod(graph.tensors[op.inputs[0]].shape[2:])
    scale_x, _ = affine(graph, op.inputs[0])
    return _scaling(graph, op, scale_x / (affine(graph, op.output)[0] * area), 255 * area)


def product_requant(graph: Graph, op: Op) -> Pair:
    """(multiplier, shift) of a product of two activations: scale * s1 * s2 / sy."""
    assert isinstance(op.attributes, at.Matmul)
    (scale_1, _), (scale_2, _) = (affine(graph, name) for name in op.inputs)
    real = op.attributes.scale * scale_1 * scale_2 / affine(graph, op.output)[0]
    return _scaling(graph, op, real, product_bound(graph, op))


def product_bound(graph: Graph, op: Op) -> int:
    """What the accumulators of a product of two activations never exceed."""
    first, second = (
        magnitude_bound(np.dtype(np.int8), -affine(graph, name)[1]) for name in op.inputs
    )
    return first * second * graph.tensors[op.inputs[0]].shape[-1]


def norm_parameters(graph: Graph, op: Op) -> NormParameters:
    """Scaling of a layer norm: sw / (2^12 * sy), and its epsilon: C^2 * eps / sx^2.

    Raises:
        UnsupportedOpError: too many channels, or integers out of range.
    """
    assert isinstance(op.attributes, at.LayerNorm)
    channels = graph.tensors[op.output].shape[-1]
    if channels > MAX_CHANNELS:
        raise UnsupportedOpError(
            f"{_named(op)}: {channels} channels; integer layer norm takes at most {MAX_CHANNELS}"
        )
    scale = _quantisation(graph, op.inputs[1]).scale[0] / (1 << FRACTION_BITS)
    real = scale / affine(graph, op.output)[0]
    epsilon = channels**2 * op.attributes.eps / affine(graph, op.inputs[0])[0] ** 2
    # an epsilon far above any variance gives the bias, whatever its size
    epsilon = min(math.floor(epsilon + 0.5), 1 << 50)
    return NormParameters(*_scaling(graph, op, real, norm_bound(graph, op)), epsilon)


def norm_bound(graph: Graph, op: Op) -> int:
    """What w * n + b never exceeds: |d| <= sqrt(C (v + 1)) and r >= sqrt(v + 1) / 2."""
    weight, bias = (graph.tensors[name].data for name in op.inputs[1:])
    assert weight is not None and bias is not None
    most = (math.isqrt(4 * len(weight)) + 1) << FRACTION_BITS
    sums = np.abs(weight.astype(np.int64)) * most + np.abs(bias.astype(np.int64))
    return int(sums.max())


def recurrent_parameters(graph: Graph, op: Op) -> RecurrentParameters:
    """Scalings of the gates of a gru or lstm op.

    Raises:
        UnsupportedOpError: a sum could leave int32, or a factor is out of range.
    """
    bounds, scales = recurrent_bounds(graph, op), (affine(graph, op.inputs[0])[0], 2.0**-STATE_BITS)
    found: list[Rows] = []
    for name, bound, scale in zip(op.inputs[1:3], bounds, scales, strict=True):
        weight = graph.tensors[name]
        steps = np.broadcast_to(np.array(_quantisation(graph, name).scale), weight.shape[:1])
        try:
            rows = multiplier_of((steps * scale * (1 << GATE_BITS)).tolist(), _bits(graph))
        except UnsupportedOpError as error:
            raise UnsupportedOpError(f"{_named(op)}: {error}") from error
        _prove(op, int((bound << np.maximum(rows[1], 0)).max()))
        found.append(rows)
    state_requant(graph, op)
    return RecurrentParameters(found[0], found[1])


def recurrent_bounds(graph: Graph, op: Op) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What the sums of a gru or lstm op never exceed, by row: of the input, of the state."""
    zero_point = affine(graph, op.inputs[0])[1]
    found = []
    for weight, bias, most in (
        (op.inputs[1], op.inputs[3], magnitude_bound(np.dtype(np.int8), -zero_point)),
        (op.inputs[2], op.inputs[4], 1 << STATE_BITS),
    ):
        rows, start = graph.tensors[weight].data, graph.tensors[bias].data
        assert rows is not None and start is not None
        found.append(most * weight_sums(rows.astype(np.int8)) + np.abs(start.astype(np.int64)))
    return found[0], found[1]


def state_requant(graph: Graph, op: Op) -> Pair:
    """(multiplier, shift) of the state that leaves a gru or lstm op: 1 / (2^15 * sy)."""
    return _scaling(graph, op, 2.0**-STATE_BITS / affine(graph, op.output)[0], 1 << STATE_BITS)


def activation_table(graph: Graph, op: Op) -> NDArray[np.int8]:
    """Stored output for each stored input -128..127 of an activation op: int8 (256,)."""
    assert isinstance(op.attributes, at.Activation)
    scale_x, zero_x = affine(graph, op.inputs[0])
    scale_y, zero_y = affine(graph, op.output)
    real = scale_x * (np.arange(256, dtype=np.float64) - 128 - zero_x)
    stored = np.floor(_FUNCTIONS[op.attributes.function](real) / scale_y + 0.5) + zero_y
    table: NDArray[np.int8] = np.clip(stored, *_INT8).astype(np.int8)
    return table


def softmax_parameters(graph: Graph, op: Op) -> fixed_point.SoftmaxParameters:
    """Scaling of a softmax op's inputs.

    Raises:
        UnsupportedOpError: the output is not quantised as scale 1/256, zero point -128.
    """
    if affine(graph, op.output) != (1 / 256, -128):
        raise UnsupportedOpError(f"{_named(op)}: its output needs scale 1/256 and zero point -128")
    return fixed_point.softmax_parameters(affine(graph, op.inputs[0])[0])


def kept_quantisation(graph: Graph, op: Op) -> tuple[float, int]:
    """(scale, zero point) of an op that moves or compares stored values without scaling them.

    Raises:
        UnsupportedOpError: the output's quantisation is not the input's.
    """
    source, target = affine(graph, op.inputs[0]), affine(graph, op.output)
    if source != target:
        raise UnsupportedOpError(
            f"{_named(op)}: its output has (scale, zero point) {target}; it must be that of its "
            f"input, {source}"
        )
    return source


def _scaling(graph: Graph, op: Op, real: float, bound: int) -> Pair:
    try:
        multiplier, shift = quantise_multiplier(real, _bits(graph))
    except UnsupportedOpError as error:
        raise UnsupportedOpError(f"{_named(op)}: {error}") from error
    _prove(op, bound << max(shift, 0))
    _prove(op, math.ceil(bound * real) + _ZERO_POINT)
    return multiplier, shift


def _bits(graph: Graph) -> int:
    assert graph.spec is not None
    return graph.spec.rounding.multiplier_bits


def _prove(op: Op, bound: int) -> None:
    if bound >= 1 << 31:
        raise UnsupportedOpError(
            f"{_named(op)}: its accumulator could reach {bound}, int32 holds less than {1 << 31}; "
            "split the layer or calibrate on data with a wider range"
        )


def _quantisation(graph: Graph, name: str) -> Quantisation:
    quantisation = graph.tensors[name].quantisation
    if quantisation is None:
        raise UnsupportedOpError(f"tensor {name!r} is not quantised; call cofit.ir.quantise first")
    return quantisation


def _named(op: Op) -> str:
    return f"op {op.output!r} ({op.kind})"
