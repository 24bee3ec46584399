"""Depthwise fp32 convolution (groups == channels == outputs): vectors of channels, NHWC."""

from __future__ import annotations

import numpy as np

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.shares import count_of, declared, range_of, share_rows
from cofit.codegen.kernels.tile import clamp, own_rows, pretty, split, vector_type
from cofit.codegen.kernels.window import Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, kept_macs

PIXELS = 6  # accumulators of one vector of channels; each weight is read once for all


class F32Depthwise:
    """Depthwise convolution with one output per channel."""

    name = "f32-depthwise"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """One filter per channel is required."""
        if op.kind != "conv2d":
            return f"{op.kind} is not a convolution"
        win = window(graph, op)
        if not win.groups == win.channels == win.outputs:
            return f"{win.groups} groups of {win.channels} channels are not depthwise"
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Weights as [tap][channel]; whole vectors first, the channels left over one by one."""
        win = window(graph, op)
        weight = np.asarray(graph.tensors[op.inputs[1]].data, np.float32)
        taps = np.ascontiguousarray(weight.reshape(win.channels, -1).T)
        bias = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)
        lanes = machine.vector_floats
        shares = share_rows(machine, win.out_height, kept_macs(graph, op) / lanes)
        first, last = range_of(shares, "rows", win.out_height)
        rows = own_rows(win, machine, shares)
        whole = win.channels // lanes * lanes
        parts = []
        if whole:
            parts.append(_channels(win, lanes, 0, whole))
        if whole < win.channels:
            parts.append(_channels(win, 1, whole, win.channels))
        body = "\n".join([
            f"for (int y0 = {first}; y0 < {last}; y0 += {rows}) {{",
            win.band_end(rows, last),
            win.band_code(),
            "for (int y = y0; y < y1; ++y) {",
            *parts,
            "}",
            "}",
        ])  # fmt: skip
        return KernelCode(
            declared(shares, pretty(body)),
            (Constant("weight", taps, 4 * lanes), Constant("bias", bias, 4 * lanes)),
            scratch_bytes=win.band_bytes(rows),
            variant=f"{lanes} channels x {PIXELS} pixels",
            shares=count_of(shares),
        )


def _channels(win: Window, lanes: int, first: int, last: int) -> str:
    """One output row of channels [first, last) in steps of `lanes`."""
    lines = [
        "{",
        vector_type(lanes, win.fused),
        f"for (int c = {first}; c < {last}; c += {lanes}) {{",
    ]
    start = 0
    for pixels, count in split(win.out_width, PIXELS):
        stop = start + pixels * count
        lines += [
            f"for (int i = {start}; i < {stop}; i += {pixels}) {{",
            f"const float *restrict const q = x + (y - y0) * {win.stride[0] * win.row}"
            f" + i * {win.pixel} + c;",
            f"float *restrict const o = out + (y * {win.out_width} + i) * {win.channels} + c;",
            "const vec v = *(const vec *)(bias + c);",
            "vec " + ", ".join(f"a{i} = v" for i in range(pixels)) + ";",
            f"for (int r = 0; r < {win.kernel[0]}; ++r) {{",
            f"for (int s = 0; s < {win.kernel[1]}; ++s) {{",
            f"const int tap = r * {win.kernel[1]} + s;",
            f"const vec w = *(const vec *)(weight + tap * {win.channels} + c);",
            f"const float *restrict const p = q + r * {win.offset(0, 1, 0)}"
            f" + s * {win.offset(0, 0, 1)};",
            *(f"a{i} += w * *(const vec *)(p + {i * win.pixel});" for i in range(pixels)),
            "}",
            "}",
            *(text for i in range(pixels) if (text := clamp(f"a{i}", win.fused, lanes))),
            *(f"*(vec *)(o + {i * win.channels}) = a{i};" for i in range(pixels)),
            "}",
        ]
        start = stop
    return "\n".join(line for line in [*lines, "}", "}"] if line)
