"""Golden cases as graphs of one op, so that compiled programs can be held against them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.core import UnsupportedOpError
from cofit.ir import attributes as at
from cofit.ir.integer.accumulate import Ints
from cofit.ir.integer.epilogue import Bounds, Epilogue
from cofit.ir.integer.golden import (
    GoldenCase,
    golden_conv,
    golden_linear,
    golden_pool,
    nchw,
)
from cofit.ir.types import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor

_INT8 = (-128, 127)


@dataclass(frozen=True, eq=False)
class GoldenGraph:
    """A case as a graph of one op.

    Graphs know only ReLU-like clamps; `bounds` lie within int8, so clamping the graph's stored
    output to them gives `expected` (a batch along axis 0).
    """

    graph: Graph
    inputs: dict[str, NDArray[np.int8]]
    expected: NDArray[np.int8]
    bounds: Bounds


def golden_graph(case: GoldenCase) -> GoldenGraph:
    """An int8 convolution, linear, pooling, addition, softmax or padding case as a one-op graph.

    Scales are chosen so that the case's multipliers and shifts come out exactly: those of input
    and output are 1, a weight's is multiplier / 2^31 * 2^shift.

    Raises:
        UnsupportedOpError: a graph cannot say the case (int16 activations, a zero point outside
            int8, asymmetric weights, an operator that graphs do not have).
    """
    builder = _BUILDERS.get(case.kind)
    if builder is None or case.expected.dtype != np.int8:
        raise UnsupportedOpError(f"golden case {case.name!r} ({case.kind}) has no one-op graph")
    return builder(case)


def _conv(case: GoldenCase) -> GoldenGraph:
    conv = golden_conv(case)
    constants = _weighted(case, conv.weight, conv.bias, conv.epilogue)
    offsets = (-conv.input_offset, conv.epilogue.output_offset)
    return _one_op(case, conv.attributes, (conv.x,), conv.expected, _unit(*offsets), constants)


def _linear(case: GoldenCase) -> GoldenGraph:
    linear = golden_linear(case)
    if linear.filter_offset:
        raise UnsupportedOpError(f"golden case {case.name!r} has asymmetric weights")
    constants = _weighted(case, linear.weight, linear.bias, linear.epilogue)
    offsets = (-linear.input_offset, linear.epilogue.output_offset)
    return _one_op(case, at.Linear(), (linear.x,), linear.expected, _unit(*offsets), constants)


def _max_pool(case: GoldenCase) -> GoldenGraph:
    x, window, expected = golden_pool(case)
    return _one_op(case, at.MaxPool2d(*window), (x,), expected, _unit(0, 0))


def _avg_pool(case: GoldenCase) -> GoldenGraph:
    x, window, expected = golden_pool(case)
    return _one_op(case, at.AvgPool2d(*window), (x,), expected, _unit(0, 0))


def _add(case: GoldenCase) -> GoldenGraph:
    c = case.config
    inputs = (case.array("input1").reshape(1, -1), case.array("input2").reshape(1, -1))
    first, second = (_real(c[f"INPUT{i}_MULT"], c[f"INPUT{i}_SHIFT"]) for i in (1, 2))
    # a graph scales to t = 2 * max(s1, s2), so the larger input's factor is always 1/2
    if max(first, second) != 0.5 or c["LEFT_SHIFT"] != 20:
        raise UnsupportedOpError(f"golden case {case.name!r} scales its inputs otherwise")
    output = _real(c["OUTPUT_MULT"], c["OUTPUT_SHIFT"]) * 2**20
    quantisations = [
        Quantisation((2 * first,), -c["INPUT1_OFFSET"]),
        Quantisation((2 * second,), -c["INPUT2_OFFSET"]),
        Quantisation((2 / output,), c["OUTPUT_OFFSET"]),
    ]
    return _one_op(case, at.Add(), inputs, case.expected.reshape(1, -1), quantisations)


def _softmax(case: GoldenCase) -> GoldenGraph:
    c = case.config
    scale = _real(c["INPUT_MULT"], c["INPUT_LEFT_SHIFT"]) / 2**26
    x = case.array("input").reshape(-1, c["ROW_SIZE"])
    quantisations = [Quantisation((scale,), 0), Quantisation((1 / 256,), -128)]
    return _one_op(case, at.Softmax(), (x,), case.expected.reshape(x.shape), quantisations)


def _pad(case: GoldenCase) -> GoldenGraph:
    c = case.config
    pads = tuple((c[f"PRE_PAD_{axis}"], c[f"POST_PAD_{axis}"]) for axis in "NCHW")
    x = nchw(case.array("input_tensor"), c["INPUT_H"], c["INPUT_W"], c["INPUT_C"])
    height, width = x.shape[2] + sum(pads[2]), x.shape[3] + sum(pads[3])
    expected = nchw(case.expected, height, width, x.shape[1] + sum(pads[1]))
    return _one_op(case, at.Pad(pads), (x,), expected, _unit(c["PAD_VALUE"], c["PAD_VALUE"]))


_BUILDERS: dict[str, Callable[[GoldenCase], GoldenGraph]] = {
    "conv2d": _conv,
    "linear": _linear,
    "maxpool2d": _max_pool,
    "avgpool2d": _avg_pool,
    "add": _add,
    "softmax": _softmax,
    "pad": _pad,
}


def _one_op(
    case: GoldenCase,
    attributes: at.Attributes,
    inputs: tuple[Ints, ...],
    expected: Ints,
    quantisations: list[Quantisation],
    constants: tuple[Tensor, ...] = (),
) -> GoldenGraph:
    """`quantisations` of the inputs and, last, of the output."""
    names = tuple(f"x{i}" for i in range(len(inputs)))
    for quantisation in quantisations:
        if not _INT8[0] <= quantisation.zero_point <= _INT8[1]:
            raise UnsupportedOpError(
                f"golden case {case.name!r} has the zero point {quantisation.zero_point}, "
                "which int8 does not hold"
            )
    tensors = [
        Tensor(name, (1, *values.shape[1:]), DType.I8, quantisation)
        for name, values, quantisation in zip(
            (*names, "y"), (*inputs, expected), quantisations, strict=True
        )
    ]
    op = Op("y", attributes, (*names, *(constant.name for constant in constants)))
    graph = Graph.build(
        case.name,
        names,
        ("y",),
        (op,),
        {t.name: t for t in (*tensors, *constants)},
        QuantSpec(Rounding.DOUBLE),
    )
    held: Any = dict(zip(names, inputs, strict=True))
    stored = expected.astype(np.int8)
    return GoldenGraph(
        graph, held, stored, _INT8 if case.kind in ("softmax", "pad") else case.bounds
    )


def _weighted(
    case: GoldenCase, weight: Ints, bias: Ints | None, epilogue: Epilogue
) -> tuple[Tensor, Tensor]:
    multiplier, shift = np.atleast_1d(epilogue.multiplier), np.atleast_1d(epilogue.shift)
    scale = tuple(_real(int(m), int(s)) for m, s in zip(multiplier, shift, strict=True))
    bits = 4 if "int4" in case.name else 8
    if bias is None:
        bias = np.zeros(len(weight), np.int32)
    return (
        Tensor("w", weight.shape, DType.I8, Quantisation(scale, 0, bits), weight),
        Tensor("b", bias.shape, DType.I32, Quantisation(scale, 0, 32), bias.astype(np.int32)),
    )


def _unit(*zero_points: int) -> list[Quantisation]:
    return [Quantisation((1.0,), zero_point) for zero_point in zero_points]


def _real(multiplier: int, shift: int) -> float:
    return multiplier / 2**31 * 2.0**shift
