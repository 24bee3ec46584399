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
            if len(x) not in (2, 3):
                raise ValueError(f"softmax of {x}; only of (1, C) and (1, T, C)")
            return x
        case at.Activation():
            return x


def macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates of the dense op (0 for those that multiply nothing by a weight)."""
    weight = graph.weight(op)
    if weight is None:
        return 0
    out = graph.tensors[op.output].shape
    positions = math.prod(out[2:]) if op.kind == "conv2d" else math.prod(out[:-1])
    return positions * weight.size


def kept_macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates that are left to execute.

    A weight without a structure runs dense, zeros and all; of one with a structure, the non-zeros
    count.
    """
    weight = graph.weight(op)
    if weight is None or weight.data is None:
        return 0
    if weight.structure is None:
        return macs(graph, op)
    return macs(graph, op) * int((weight.data != 0).sum()) // max(weight.size, 1)


def _windowed(batch: int, channels: int, out: tuple[int, int]) -> Shape:
    if min(out) < 1:
        raise ValueError(f"the kernel is larger than the padded input (output would be {out})")
    return (batch, channels, *out)


def _check_broadcast(x: Shape, y: Shape, kind: str) -> None:
    padded = (1,) * (len(x) - len(y)) + y
    if len(y) > len(x) or any(b not in (a, 1) for a, b in zip(x, padded, strict=True)):
        raise ValueError(f"{kind} of {x} and {y}: the second must equal or broadcast to the first")
