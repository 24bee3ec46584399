"""The integer meaning of a quantised graph, in NumPy: what every compiled int8 program must equal.

Every formula is in the table of `cofit.ir.integer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cofit.core import DataError, ModelError
from cofit.ir import attributes as at
from cofit.ir.integer import parameters as of
from cofit.ir.integer.accumulate import Ints
from cofit.ir.integer.conv import conv2d
from cofit.ir.integer.elementwise import Pair, add, lookup, mul, rescale
from cofit.ir.integer.epilogue import Epilogue
from cofit.ir.integer.layernorm import layer_norm
from cofit.ir.integer.matmul import batch_matmul, linear
from cofit.ir.integer.pool import avg_pool, global_mean, max_pool
from cofit.ir.integer.recurrent import recurrent
from cofit.ir.integer.softmax import softmax
from cofit.ir.types import DType, Graph, Op

_BLOCK = 32  # images at a time, so that accumulators stay near the cache


def run_integer(graph: Graph, inputs: Mapping[str, Ints], keep: bool = False) -> dict[str, Ints]:
    """Run a quantised graph on a batch.

    Args:
        graph: an integer graph (see `cofit.ir.quantise`).
        inputs: int8 (tokens: int32) by name, shape (N, ...) where the graph says (1, ...).
        keep: return every activation, not only the outputs.

    Raises:
        DataError: an input is missing or has another type or shape.
        ModelError: the graph is not an integer graph.
        UnsupportedOpError: an op's integers could overflow or cannot be represented; naming it.
    """
    if graph.spec is None:
        raise ModelError(f"graph {graph.name!r} is a float graph; quantise it first")
    batch = _check_inputs(graph, inputs)
    blocks = []
    for start in range(0, max(batch, 1), _BLOCK):
        values = {name: inputs[name][start : start + _BLOCK] for name in graph.inputs}
        for op in graph.ops:
            values[op.output] = apply(graph, op, [_operand(graph, values, n) for n in op.inputs])
        blocks.append({n: v for n, v in values.items() if keep or n in graph.outputs})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def apply(graph: Graph, op: Op, args: list[Ints]) -> Ints:
    """One op of an integer graph on stored values (N, ...)."""
    x = args[0]
    match op.attributes:
        case at.Conv2d() as conv:
            return conv2d(
                x, args[1], args[2], _epilogue(graph, op, of.conv_requant(graph, op)),
                input_offset=_offset(graph, op.inputs[0]), stride=conv.stride,
                padding=conv.padding, dilation=conv.dilation, groups=conv.groups,
            )  # fmt: skip
        case at.Linear():
            epilogue = _epilogue(graph, op, of.conv_requant(graph, op))
            return linear(x, args[1], args[2], epilogue, input_offset=_offset(graph, op.inputs[0]))
        case at.Add():
            requant = of.add_requant(graph, op)
            epilogue = _epilogue(graph, op, requant.output)
            return add(x, args[1], requant, epilogue, offsets=_offsets(graph, op))
        case at.Mul():
            epilogue = _epilogue(graph, op, of.mul_requant(graph, op))
            return mul(x, args[1], epilogue, offsets=_offsets(graph, op))
        case at.Concat() as concat:
            return np.concatenate(_same_quantisation(graph, op, args), axis=concat.axis)
        case at.MaxPool2d() as pool:
            of.kept_quantisation(graph, op)
            return max_pool(
                x, kernel=pool.kernel, stride=pool.stride, padding=pool.padding,
                bounds=of.output_bounds(graph, op),
            )  # fmt: skip
        case at.AvgPool2d() as pool:
            _, zero_point = of.kept_quantisation(graph, op)
            return avg_pool(
                x, kernel=pool.kernel, stride=pool.stride, padding=pool.padding,
                bounds=of.output_bounds(graph, op),
                fill=zero_point if pool.count_padding else None,
            )  # fmt: skip
        case at.GlobalMean() as mean:
            epilogue = _epilogue(graph, op, of.mean_requant(graph, op))
            means = global_mean(x, epilogue, input_offset=_offset(graph, op.inputs[0]))
            return means[:, :, None, None] if mean.keep else means
        case at.Reshape() as reshape:
            of.kept_quantisation(graph, op)
            return x.reshape(x.shape[0], *reshape.shape[1:])
        case at.Slice() as cut:
            of.kept_quantisation(graph, op)
            index = [slice(a, b, s) for a, b, s in zip(cut.start, cut.stop, cut.step, strict=True)]
            return x[(slice(None), *index[1:])]
        case at.Pad() as pad:
            _, zero_point = of.kept_quantisation(graph, op)
            return np.pad(x, pad.pads, constant_values=zero_point)
        case at.Activation():
            return lookup(x, of.activation_table(graph, op))
        case at.Softmax():
            return softmax(x, of.softmax_parameters(graph, op))
        case at.Matmul() as product:
            epilogue = _epilogue(graph, op, of.product_requant(graph, op))
            left, right = _offsets(graph, op)
            factor = np.swapaxes(args[1], -1, -2) if product.transposed else args[1]
            return batch_matmul(x, factor, epilogue, left_offset=left, right_offset=right)
        case at.Transpose() as transpose:
            of.kept_quantisation(graph, op)
            return np.transpose(x, transpose.permutation)
        case at.LayerNorm():
            parameters = of.norm_parameters(graph, op)
            epilogue = _epilogue(graph, op, (parameters.multiplier, parameters.shift))
            return layer_norm(x, args[1], args[2], parameters, epilogue)
        case at.Embedding():
            return args[1][np.clip(x, 0, len(args[1]) - 1)]
        case at.Gru() | at.Lstm() as cell:
            return recurrent(
                "gru" if isinstance(cell, at.Gru) else "lstm",
                args,
                of.recurrent_parameters(graph, op),
                _epilogue(graph, op, of.state_requant(graph, op)),
                input_offset=_offset(graph, op.inputs[0]),
            )


def quantise_input(graph: Graph, x: NDArray[np.float32], name: str | None = None) -> Ints:
    """Stored values of real inputs, as compiled programs convert them.

    clamp(rint(x * float32(1 / scale)) + zero_point), every step in float32, halves to even;
    tokens as int32.

    Args:
        graph: an integer graph.
        x: float32 (N, ...).
        name: which input; may be left out if there is one.

    Raises:
        DataError: x holds a NaN.
    """
    if graph.tensors[name or graph.inputs[0]].dtype is DType.I32:
        return x.astype(np.int32)
    scale, zero_point = of.affine(graph, name or graph.inputs[0])
    if np.isnan(x).any():
        raise DataError(f"input {name or graph.inputs[0]!r} holds NaN; clean the data")
    scaled = np.rint(x.astype(np.float32) * np.float32(1 / scale)) + np.float32(zero_point)
    stored: Ints = np.clip(scaled, -128, 127).astype(np.int8)
    return stored


def dequantise_output(graph: Graph, q: Ints, name: str | None = None) -> NDArray[np.float32]:
    """Real values of stored outputs: (q - zero_point) * float32(scale) in float32."""
    scale, zero_point = of.affine(graph, name or graph.outputs[0])
    return (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def _epilogue(graph: Graph, op: Op, requant: tuple[ArrayLike, ArrayLike]) -> Epilogue:
    assert graph.spec is not None
    return Epilogue(
        requant[0],
        requant[1],
        of.affine(graph, op.output)[1],
        of.output_bounds(graph, op),
        graph.spec.rounding,
    )


def _offset(graph: Graph, name: str) -> int:
    """Minus the zero point of an activation."""
    return -of.affine(graph, name)[1]


def _offsets(graph: Graph, op: Op) -> Pair:
    """Minus the zero points of the two inputs of an op."""
    return _offset(graph, op.inputs[0]), _offset(graph, op.inputs[1])


def _same_quantisation(graph: Graph, op: Op, args: list[Ints]) -> list[Ints]:
    requants = of.concat_requant(graph, op)
    return [
        x
        if requant is None
        else rescale(x, _epilogue(graph, op, requant), input_offset=_offset(graph, name))
        for x, name, requant in zip(args, op.inputs, requants, strict=True)
    ]


def _operand(graph: Graph, values: dict[str, Ints], name: str) -> Ints:
    if name in values:
        return values[name]
    data = graph.tensors[name].data
    assert data is not None
    return cast(Ints, data)


def _check_inputs(graph: Graph, inputs: Mapping[str, Ints]) -> int:
    sizes = set()
    for name in graph.inputs:
        shape, dtype = graph.tensors[name].shape, graph.tensors[name].dtype.value
        if name not in inputs:
            raise DataError(f"input {name!r} of graph {graph.name!r} is missing")
        x = inputs[name]
        if x.dtype != dtype or x.shape[1:] != shape[1:]:
            raise DataError(
                f"input {name!r} is {x.dtype} {x.shape}; it must be {dtype} (N, "
                f"{', '.join(map(str, shape[1:]))})"
            )
        sizes.add(len(x))
    if len(sizes) != 1:
        raise DataError(f"inputs of graph {graph.name!r} have the batch sizes {sorted(sizes)}")
    return sizes.pop()
