"""Output shape of every op kind, and its multiply-accumulates."""

from __future__ import annotations

import math

from cofit.ir import attributes as at
from cofit.ir.types import Graph, Op

Shape = tuple[int, ...]


def window_output(
    size: Shape, kernel: Shape, stride: Shape, pads: at.Pads, dilation: Shape = (1, 1)
) -> tuple[int, int]:
    """Output (H, W) of a sliding window; zero or less where the window does not fit."""
    height = (size[0] + pads[0] + pads[1] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    width = (size[1] + pads[2] + pads[3] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    return height, width


def output_shape(attributes: at.Attributes, shapes: tuple[Shape, ...]) -> Shape:
    """Shape that the op's output must have.

    Raises:
        ValueError: the inputs do not fit the op (the text says how).
    """
    x = shapes[0]
    match attributes:
        case at.Conv2d():
            weight = shapes[1]
            if len(x) != 4 or len(weight) != 4:
                raise ValueError(f"conv2d needs a 4-D input and weight, got {x} and {weight}")
            if x[1] != weight[1] * attributes.groups or weight[0] % attributes.groups:
                raise ValueError(
                    f"conv2d input {x}, weight {weight}, groups {attributes.groups} do not fit"
                )
            out = window_output(
                x[2:], weight[2:], attributes.stride, attributes.padding, attributes.dilation
            )
            return _windowed(x[0], weight[0], out)
        case at.Linear():
            if x[-1] != shapes[1][1]:
                raise ValueError(f"linear input {x} and weight {shapes[1]} do not fit")
            return (*x[:-1], shapes[1][0])
        case at.Add() | at.Mul():
            _check_broadcast(x, shapes[1], attributes.kind)
            return x
        case at.Concat():
            rest = {(*s[: attributes.axis], *s[attributes.axis + 1 :]) for s in shapes}
            if len(rest) != 1 or attributes.axis < 1:
                raise ValueError(f"concat of {shapes} along axis {attributes.axis} does not fit")
            total = sum(s[attributes.axis] for s in shapes)
            return (*x[: attributes.axis], total, *x[attributes.axis + 1 :])
        case at.MaxPool2d() | at.AvgPool2d():
            pads, kernel = attributes.padding, attributes.kernel
            if max(pads[:2]) >= kernel[0] or max(pads[2:]) >= kernel[1]:
                raise ValueError(
                    f"{attributes.kind} padding {pads} is not smaller than its kernel {kernel}"
                )
            return _windowed(x[0], x[1], window_output(x[2:], kernel, attributes.stride, pads))
        case at.GlobalMean():
            return (x[0], x[1], 1, 1) if attributes.keep else (x[0], x[1])
        case at.Reshape():
            if math.prod(x) != math.prod(attributes.shape):
                raise ValueError(
                    f"reshape of {x} to {attributes.shape} changes the number of elements"
                )
            return attributes.shape
        case at.Slice():
            spans = zip(attributes.start, attributes.stop, attributes.step, strict=True)
            cut = tuple(len(range(*span)) for span in spans)
            if 0 in cut:
                raise ValueError(f"slice of {x} is empty: {cut}")
            return cut
        case at.Pad():
            if min(n for pads in attributes.pads for n in pads) < 0:
                raise ValueError(f"pads {attributes.pads} are negative; use a slice to cut")
            return tuple(n + sum(pads) for n, pads in zip(x, attributes.pads, strict=True))
        case at.Softmax():
            _check_rows(x, "softmax")
            return x
        case at.Matmul(transposed=transposed):
            _check_rows(x, "matmul")
            return _product(x, shapes[1], transposed)
        case at.Transpose(permutation=order):
            if sorted(order) != list(range(len(x))) or order[0] != 0:
                raise ValueError(
                    f"permutation {order} of {x} must hold every axis, the batch first"
                )
            return tuple(x[axis] for axis in order)
        case at.LayerNorm():
            _check_rows(x, "layernorm")
            if any(shape != x[-1:] for shape in shapes[1:]):
                raise ValueError(f"layernorm of {x} needs a weight and a bias of {x[-1:]}")
            return x
        case at.Embedding():
            return (*x, shapes[1][1])
        case at.Gru():
            return _recurrent(shapes, 3)
        case at.Lstm():
            return _recurrent(shapes, 4)
        case at.Activation():
            return x


def _check_rows(x: Shape, kind: str) -> None:
    """Elements of the last axis must be neighbours in memory; those of an image are channels."""
    if len(x) == 4:
        raise ValueError(f"{kind} of the image {x}; give it rows, for example (1, T, C)")


def macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates of the dense op.

    They are those by a weight, and those of products of two activations; 0 for all other ops.
    """
    out = graph.tensors[op.output].shape
    if isinstance(op.attributes, at.Matmul):
        return math.prod(out) * graph.tensors[op.inputs[0]].shape[-1]
    return _positions(op, out) * sum(weight.size for weight in graph.weights(op))


def kept_macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates that are left to execute.

    A weight without a structure runs dense, zeros and all; of one with a structure, the non-zeros
    count.
    """
    if isinstance(op.attributes, at.Matmul):
        return macs(graph, op)
    kept = sum(
        weight.size
        if weight.data is None or weight.structure is None
        else int((weight.data != 0).sum())
        for weight in graph.weights(op)
    )
    return _positions(op, graph.tensors[op.output].shape) * kept


def _positions(op: Op, out: Shape) -> int:
    """How often each weight of an op is used."""
    return math.prod(out[2:]) if op.kind == "conv2d" else math.prod(out[:-1])


def _product(x: Shape, y: Shape, transposed: bool) -> Shape:
    inner, columns = (y[-1], y[-2]) if transposed else (y[-2], y[-1])
    if x[:-2] != y[:-2] or x[-1] != inner or len(x) < 3:
        raise ValueError(f"matmul of {x} and {y}, transposed {transposed}, does not fit")
    return (*x[:-1], columns)


def _recurrent(shapes: tuple[Shape, ...], gates: int) -> Shape:
    """Output of a recurrent layer over a sequence."""
    x, hidden = shapes[0], shapes[2][-1]
    rows = gates * hidden
    fits: tuple[Shape, ...] = ((rows, x[-1]), (rows, hidden), (rows,), (rows,))
    if gates == 3 and len(shapes) == 6:
        fits = (*fits, (x[0], 1, hidden))
    if len(x) != 3 or shapes[1:] != fits:
        raise ValueError(f"a recurrent layer over {x} does not fit weights of {shapes[1:]}")
    return (*x[:2], hidden)


def _windowed(batch: int, channels: int, out: tuple[int, int]) -> Shape:
    if min(out) < 1:
        raise ValueError(f"the kernel is larger than the padded input (output would be {out})")
    return (batch, channels, *out)


def _check_broadcast(x: Shape, y: Shape, kind: str) -> None:
    padded = (1,) * (len(x) - len(y)) + y
    if len(y) > len(x) or any(b not in (a, 1) for a, b in zip(x, padded, strict=True)):
        raise ValueError(f"{kind} of {x} and {y}: the second must equal or broadcast to the first")
