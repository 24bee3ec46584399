"""Ops that only move elements, of any type: concat, slice, pad, transpose, reorderings."""

from __future__ import annotations

import math

from cofit.codegen.c_text import c_type
from cofit.codegen.kernel import KernelCode
from cofit.codegen.layout import logical_order, memory_shape
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, attributes

Shape = tuple[int, ...]


class Move:
    """Exact for floats and for integers whose quantisation stays the same."""

    name = "move"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Integer inputs of another scale or zero point need arithmetic."""
        if op.kind not in ("concat", "slice", "pad", "reshape", "transpose"):
            return f"{op.kind} does more than move elements"
        out = graph.tensors[op.output].quantisation
        for name in op.inputs:
            tensor = graph.tensors[name]
            if tensor.data is not None:
                return f"input {name!r} is a constant"
            if tensor.quantisation != out:
                return f"input {name!r} is quantised otherwise than the output"
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Nested copies of contiguous runs."""
        out = graph.tensors[op.output]
        shapes = [graph.tensors[name].shape for name in op.inputs]
        match op.attributes:
            case attributes.Concat(axis=axis):
                return KernelCode(_concat(shapes, out.shape, axis), variant="concat")
            case attributes.Slice() as cut:
                return KernelCode(_slice(shapes[0], out.shape, cut), variant="slice")
            case attributes.Pad() as pad:
                zero = 0 if out.quantisation is None else out.quantisation.zero_point
                return KernelCode(_pad(shapes[0], out.shape, pad, zero), variant="pad")
            case attributes.Reshape():
                return _reshape(shapes[0], out.shape, c_type(out.dtype), out.nbytes)
            case attributes.Transpose(permutation=order):
                return KernelCode(_transpose(shapes[0], out.shape, order), variant="transpose")
        raise AssertionError(op.kind)


def _pitches(shape: Shape) -> list[int]:
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _copy(counts: Shape, to: list[int], start_to: int, of: list[int], start: int, x: str) -> str:
    """out[start_to + sum i * to] = x[start + sum i * of] for all i below counts."""
    loops, target, origin = [], [str(start_to)], [str(start)]
    for axis, count in enumerate(counts):
        if count == 1:
            continue
        loops.append(f"for (int i{axis} = 0; i{axis} < {count}; ++i{axis})")
        target.append(f"i{axis} * {to[axis]}")
        origin.append(f"i{axis} * {of[axis]}")
    # alone, an indented statement would seem to belong to a loop before it
    inner = "    " if loops else ""
    loops.append(f"{inner}out[{' + '.join(target)}] = {x}[{' + '.join(origin)}];")
    return "\n".join(loops)


def _concat(shapes: list[Shape], out: Shape, axis: int) -> str:
    order = memory_shape(tuple(range(len(out)))).index(axis)
    pitches, start, parts = _pitches(memory_shape(out)), 0, []
    for index, shape in enumerate(shapes):
        counts = memory_shape(shape)
        begin = start * pitches[order]
        parts.append(_copy(counts, pitches, begin, _pitches(counts), 0, f"in{index}"))
        start += shape[axis]
    return "\n".join(parts)


def _slice(shape: Shape, out: Shape, cut: attributes.Slice) -> str:
    pitches = _pitches(memory_shape(shape))
    starts, steps = memory_shape(cut.start), memory_shape(cut.step)
    begin = sum(a * p for a, p in zip(starts, pitches, strict=True))
    strides = [s * p for s, p in zip(steps, pitches, strict=True)]
    counts = memory_shape(out)
    return _copy(counts, _pitches(counts), 0, strides, begin, "in0")


def _pad(shape: Shape, out: Shape, pad: attributes.Pad, zero: int) -> str:
    counts, pitches = memory_shape(shape), _pitches(memory_shape(out))
    before = memory_shape(tuple(b for b, _ in pad.pads))
    begin = sum(b * p for b, p in zip(before, pitches, strict=True))
    fill = f"for (int i = 0; i < {math.prod(out)}; ++i) out[i] = {zero};"
    return f"{fill}\n{_copy(counts, pitches, begin, _pitches(counts), 0, 'in0')}"


def _transpose(shape: Shape, out: Shape, order: Shape) -> str:
    axes = memory_shape(tuple(range(len(shape))))
    pitches = _pitches(memory_shape(shape))
    of = memory_shape(tuple(pitches[axes.index(axis)] for axis in order))
    counts = memory_shape(out)
    return _copy(counts, _pitches(counts), 0, list(of), 0, "in0")


def _reshape(shape: Shape, out: Shape, ctype: str, nbytes: int) -> KernelCode:
    """Through logical order; one of the two reorderings falls away where it is the identity."""
    if logical_order(out):
        return KernelCode(_reorder(shape, "in0", "out", True), variant="from NHWC")
    if logical_order(shape):
        return KernelCode(_reorder(out, "in0", "out", False), variant="to NHWC")
    first = _reorder(shape, "in0", "t", True)
    second = _reorder(out, "t", "out", False)
    body = f"{ctype} *const t = ({ctype} *)scratch;\n{first}\n{second}"
    return KernelCode(body, scratch_bytes=nbytes, variant="NHWC to NHWC")


def _reorder(shape: Shape, x: str, y: str, to_logical: bool) -> str:
    channels, pixels = shape[1], shape[2] * shape[3]
    nchw, nhwc = f"c * {pixels} + p", f"p * {channels} + c"
    read, written = (nhwc, nchw) if to_logical else (nchw, nhwc)
    return f"""\
for (int c = 0; c < {channels}; ++c)
    for (int p = 0; p < {pixels}; ++p)
        {y}[{written}] = {x}[{read}];"""
