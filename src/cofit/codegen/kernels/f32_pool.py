"""fp32 pooling over NHWC: the window clipped to the input, channels innermost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cofit.codegen.c_text import number
from cofit.codegen.kernel import Kernel, KernelCode, Sides
from cofit.codegen.kernels.shares import count_of, declared, range_of, share_rows
from cofit.codegen.kernels.tile import pretty
from cofit.codegen.layout import PlaneLayout, plane_layout
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, attributes

LANES_PER_CYCLE = 8  # of the compiler's vectors
MOST_TAPS = 9  # of a window whose code is straight


@dataclass(frozen=True)
class F32Pool:
    """maxpool2d, avgpool2d and globalmean."""

    source: PlaneLayout | None = field(default=None, repr=False)
    target: PlaneLayout | None = field(default=None, repr=False)
    name = "f32-pool"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Any pooling."""
        known = ("maxpool2d", "avgpool2d", "globalmean")
        return None if op.kind in known else f"{op.kind} is not pooling"

    def sides(self, graph: Graph, op: Op, machine: Machine) -> Sides | None:
        """Windows that nothing clips."""
        x, y = graph.tensors[op.inputs[0]].shape, graph.tensors[op.output].shape
        if not isinstance(op.attributes, attributes.MaxPool2d | attributes.AvgPool2d):
            return None
        if any(op.attributes.padding) or not _inside(op.attributes, x, y):
            return None
        return Sides(plane_layout(y[2], y[3]), turns=False)

    def laid_out(self, source: PlaneLayout | None, target: PlaneLayout | None) -> Kernel:
        """Pixels of one channel after the other."""
        return F32Pool(source, target)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Loops over output pixels and their windows."""
        if self.source is not None and self.target is not None:
            return _planes(graph, op, machine, self.source, self.target)
        channels = graph.tensors[op.inputs[0]].shape[1]
        if isinstance(op.attributes, attributes.GlobalMean):
            return KernelCode(_mean(graph.tensors[op.inputs[0]].shape), variant="mean")
        assert isinstance(op.attributes, attributes.MaxPool2d | attributes.AvgPool2d)
        attrs = op.attributes
        x, y = graph.tensors[op.inputs[0]].shape, graph.tensors[op.output].shape
        maximum = isinstance(attrs, attributes.MaxPool2d)
        counted = isinstance(attrs, attributes.AvgPool2d) and attrs.count_padding
        area = attrs.kernel[0] * attrs.kernel[1]
        count = str(area) if counted else "((y1 - y0) * (x1 - x0))"
        each = "o[c] = p[c] > o[c] ? p[c] : o[c];" if maximum else "o[c] += p[c];"
        first = f"in0[(y0 * {x[3]} + x0) * {channels} + c]" if maximum else "0.0f"
        shares = share_rows(machine, y[2], graph.tensors[op.output].size * area / LANES_PER_CYCLE)
        first_row, last_row = range_of(shares, "rows", y[2])
        lines = [
            f"for (int i = {first_row}; i < {last_row}; ++i) {{",
            clipped("y", "i", attrs.stride[0], attrs.padding[0], attrs.kernel[0], x[2]),
            f"for (int j = 0; j < {y[3]}; ++j) {{",
            clipped("x", "j", attrs.stride[1], attrs.padding[2], attrs.kernel[1], x[3]),
            f"float *restrict const o = out + (i * {y[3]} + j) * {channels};",
            *(
                [whole_window(attrs.kernel, x[3], channels), "continue;", "}"]
                if maximum and area <= MOST_TAPS
                else []
            ),
            f"for (int c = 0; c < {channels}; ++c) o[c] = {first};",
            "for (int h = y0; h < y1; ++h) {",
            "for (int w = x0; w < x1; ++w) {",
            f"const float *restrict const p = in0 + (h * {x[3]} + w) * {channels};",
            f"for (int c = 0; c < {channels}; ++c) {each}",
            "}",
            "}",
        ]
        if not maximum:
            lines.append(f"const float scale = 1.0f / (float){count};")
            lines.append(f"for (int c = 0; c < {channels}; ++c) o[c] *= scale;")
        body = pretty("\n".join([*lines, "}", "}"]))
        variant = "max" if maximum else "average"
        return KernelCode(declared(shares, body), variant=variant, shares=count_of(shares))


def _inside(
    pool: attributes.MaxPool2d | attributes.AvgPool2d, x: tuple[int, ...], y: tuple[int, ...]
) -> bool:
    reaches = (
        (count - 1) * stride + kernel
        for count, stride, kernel in zip(y[2:], pool.stride, pool.kernel, strict=True)
    )
    return all(reach <= size for reach, size in zip(reaches, x[2:], strict=True))


def _planes(
    graph: Graph, op: Op, machine: Machine, source: PlaneLayout, target: PlaneLayout
) -> KernelCode:
    """Windows over planes of channels, none of them clipped."""
    assert isinstance(op.attributes, attributes.MaxPool2d | attributes.AvgPool2d)
    attrs, y = op.attributes, graph.tensors[op.output].shape
    maximum, area = isinstance(attrs, attributes.MaxPool2d), attrs.kernel[0] * attrs.kernel[1]
    shares = share_rows(machine, y[2], graph.tensors[op.output].size * area / LANES_PER_CYCLE)
    first_row, last_row = range_of(shares, "rows", y[2])
    first, *taps = (
        f"p[j * {attrs.stride[1]} + {r * source.pitch + s}]" for r, s in np.ndindex(attrs.kernel)
    )
    each = "v = {0} > v ? {0} : v;" if maximum else "v += {0};"
    scale = "" if maximum else f" * {number(1.0 / area)}"
    body = pretty("\n".join([
        f"for (int c = 0; c < {y[1]}; ++c)",
        f"for (int i = {first_row}; i < {last_row}; ++i) {{",
        f"const float *restrict const p = in0 + c * {source.size} "
        f"+ i * {attrs.stride[0] * source.pitch};",
        f"float *restrict const o = out + c * {target.size} + i * {target.pitch};",
        f"for (int j = 0; j < {y[3]}; ++j) {{",
        f"float v = {first};",
        *(each.format(tap) for tap in taps),
        f"o[j] = v{scale};",
        "}",
        "}",
    ]))  # fmt: skip
    variant = f"{'max' if maximum else 'average'}, in planes"
    return KernelCode(declared(shares, body), variant=variant, shares=count_of(shares))


def whole_window(kernel: tuple[int, int], width: int, channels: int) -> str:
    """Opens the case of a window that nothing clips: its maximum in one pass over the channels."""
    first, *others = (f"p[{(r * width + s) * channels} + c]" for r, s in np.ndindex(kernel))
    return "\n".join([
        f"if (y1 - y0 == {kernel[0]} && x1 - x0 == {kernel[1]}) {{",
        f"const float *restrict const p = in0 + (y0 * {width} + x0) * {channels};",
        f"for (int c = 0; c < {channels}; ++c) {{",
        f"float m = {first};",
        *(f"m = {tap} > m ? {tap} : m;" for tap in others),
        "o[c] = m;",
        "}",
    ])  # fmt: skip


def clipped(axis: str, index: str, stride: int, before: int, kernel: int, size: int) -> str:
    """Declarations of `axis`0 and `axis`1, the window of output `index` inside the input."""
    low = f"{index} * {stride} - {before}" if before else f"{index} * {stride}"
    return (
        f"const int {axis}0 = {low} > 0 ? {low} : 0;\n"
        f"const int {axis}1 = {low} + {kernel} < {size} ? {low} + {kernel} : {size};"
    )


def _mean(shape: tuple[int, ...]) -> str:
    channels, pixels = shape[1], shape[2] * shape[3]
    return f"""\
for (int c = 0; c < {channels}; ++c) out[c] = 0.0f;
for (int i = 0; i < {pixels}; ++i)
    for (int c = 0; c < {channels}; ++c) out[c] += in0[i * {channels} + c];
for (int c = 0; c < {channels}; ++c) out[c] *= {number(1.0 / pixels)};"""
