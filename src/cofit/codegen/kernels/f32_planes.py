"""fp32 convolution with single weights or patterns of one filter, vectorised over pixels.

The padded input is laid out as one plane per channel and stride phase, so that every tap is a
shifted contiguous read. A tile is T vectors of consecutive pixels of all output channels: per kept
weight one broadcast and T multiply-adds. Tiles are computed over the flattened plane; the pixels
at the end of each plane row that are no outputs are dropped when the tile is turned back to NHWC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.encoded import encoding_of, too_dense
from cofit.codegen.kernels.f32_block import Lists, emit_lists, offset_type
from cofit.codegen.kernels.tile import clamp, pretty, vector_type
from cofit.codegen.kernels.window import Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.structures import Encoding

DENSITY_LIMIT = 0.45  # above it, dense code is faster
PLANES_BYTES = 192 * 1024  # planes of a band stay in a core's L2
FORMATS = ("csr", "nm", "fkw")


class F32Planes:
    """csr, N:M and fkw of group 1."""

    name = "f32-planes"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Shared patterns have a faster kernel; without vectors patterns have one too."""
        encoding = encoding_of(graph, op, FORMATS)
        if isinstance(encoding, str):
            return encoding
        if encoding.format == "fkw" and (
            encoding.parameters["group"] != 1 or machine.vector_floats == 1
        ):
            return "patterns are vectorised over filters, or not at all"
        return too_dense(encoding, DENSITY_LIMIT)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Planes where there are vectors to fill, else one list per output."""
        encoding = encoding_of(graph, op, FORMATS)
        assert isinstance(encoding, Encoding)
        win, lists = window(graph, op), single_lists(encoding)
        form = encoding.format
        if machine.vector_floats == 1 or win.out_width * win.out_height < machine.vector_floats:
            return emit_lists(graph, op, machine, lists, form)
        bias = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)
        return _emit(win, machine, lists, bias, form)


def single_lists(encoding: Encoding) -> Lists:
    """One list per output channel, in order of channel and position."""
    outputs, _, rows, columns = (*encoding.shape, 1, 1)[:4]
    if encoding.format == "csr":
        count = encoding.arrays["count"].astype(np.int64)
        position = encoding.arrays["index"].astype(np.int64)
        values = encoding.arrays["values"]
    else:
        weight = encoding.decode().reshape(outputs, -1)
        owner, position = np.nonzero(weight)
        count = np.bincount(owner, minlength=outputs)
        values = weight[owner, position]
    area = rows * columns
    return Lists(
        1,
        np.concatenate([[0], np.cumsum(count)]),
        position // area,
        position % area // columns,
        position % columns,
        values.reshape(-1, 1),
    )


@dataclass(frozen=True)
class _Planes:
    """Planes of a band of `rows` output rows, `phases` per channel."""

    win: Window
    rows: int

    @property
    def height(self) -> int:
        return self.rows + (self.win.reach[0] - 1) // self.win.stride[0]

    @property
    def width(self) -> int:
        return self.win.out_width + (self.win.reach[1] - 1) // self.win.stride[1]

    @property
    def size(self) -> int:
        """Elements of one plane."""
        return self.height * self.width

    @property
    def phases(self) -> int:
        return math.prod(self.win.stride)

    def offsets(self, lists: Lists) -> NDArray[np.int64]:
        """Element offset of each entry from the pixel (0, 0) of the first plane."""
        (sh, sw), (dh, dw) = self.win.stride, self.win.dilation
        y, x = lists.r * dh, lists.s * dw
        phase = y % sh * sw + x % sw
        plane = lists.channel * self.phases + phase
        return plane * self.size + y // sh * self.width + x // sw


def _emit(
    win: Window, machine: Machine, lists: Lists, bias: NDArray[np.float32], form: str
) -> KernelCode:
    lanes = machine.vector_floats
    vectors = machine.vector_registers // 2 - 2  # the rest holds broadcasts and loads
    planes = _band(win)
    pixels = (planes.rows - 1) * planes.width + win.out_width
    vectors = min(vectors, -(-pixels // lanes))
    tile = vectors * lanes
    held = win.channels * planes.phases * planes.size + tile  # the last tile reads past the planes
    text = "\n".join([
        vector_type(lanes, win.fused),
        "float *const x = (float *)scratch;",
        f"float *const t = x + {held};",
        f"for (int y0 = 0; y0 < {win.out_height}; y0 += {planes.rows}) {{",
        _fill(win, planes),
        f"for (int i0 = 0; i0 < {pixels}; i0 += {tile}) {{",
        _tile(win, lanes, vectors),
        _turn(win, planes, tile),
        "}",
        "}",
    ])  # fmt: skip
    return KernelCode(
        pretty(text),
        (
            Constant("start", lists.start.astype(np.int32)),
            Constant("index", offset_type(planes.offsets(lists))),
            Constant("weight", lists.values),
            Constant("bias", bias),
        ),
        scratch_bytes=4 * (held + tile * win.outputs),
        variant=f"{form}, {vectors} vectors of {lanes} pixels",
    )


def _band(win: Window) -> _Planes:
    """As many output rows as keep the planes within bounds."""
    best = _Planes(win, 1)
    for rows in range(1, win.out_height + 1):
        planes = _Planes(win, rows)
        if 4 * planes.size * planes.phases * win.channels > PLANES_BYTES:
            break
        best = planes
    bands = -(-win.out_height // best.rows)
    return _Planes(win, -(-win.out_height // bands))


def _fill(win: Window, planes: _Planes) -> str:
    """Copy the band into planes, channel by channel; outside the input lies zero."""
    (sh, sw), (top, _, left, _) = win.stride, win.padding
    column = f"j * {sw} + b - {left}"
    return "\n".join([
        f"for (int a = 0; a < {sh}; ++a)",
        f"for (int b = 0; b < {sw}; ++b)",
        f"for (int i = 0; i < {planes.height}; ++i) {{",
        f"const int h = (y0 + i) * {sh} + a - {top};",
        f"float *const to = x + (a * {sw} + b) * {planes.size} + i * {planes.width};",
        f"for (int j = 0; j < {planes.width}; ++j) {{",
        f"const int w = {column};",
        f"if (h < 0 || h >= {win.height} || w < 0 || w >= {win.width}) {{",
        f"for (int c = 0; c < {win.channels}; ++c) "
        f"to[c * {planes.phases * planes.size} + j] = 0.0f;",
        "} else {",
        f"const float *const from = in0 + (h * {win.width} + w) * {win.channels};",
        f"for (int c = 0; c < {win.channels}; ++c) "
        f"to[c * {planes.phases * planes.size} + j] = from[c];",
        "}",
        "}",
        "}",
    ])  # fmt: skip


def _tile(win: Window, lanes: int, vectors: int) -> str:
    """All output channels of one tile of pixels, into `t`."""
    names = range(vectors)
    return "\n".join([
        f"for (int k = 0; k < {win.outputs}; ++k) {{",
        "const float *restrict const q = x + i0;",
        "vec v = {0.0f};",
        "v += bias[k];",
        "vec " + ", ".join(f"a{j} = v" for j in names) + ";",
        "for (int n = start[k]; n < start[k + 1]; ++n) {",
        "const float *restrict const p = q + index[n];",
        "const float w = weight[n];",
        *(f"a{j} += w * *(const vec *)(p + {j * lanes});" for j in names),
        "}",
        *(text for j in names if (text := clamp(f"a{j}", win.fused, lanes))),
        f"float *const o = t + k * {vectors * lanes};",
        *(f"*(vec *)(o + {j * lanes}) = a{j};" for j in names),
        "}",
    ])  # fmt: skip


def _turn(win: Window, planes: _Planes, tile: int) -> str:
    """From `t` (channel, pixel) to NHWC; pixels that are no outputs are skipped."""
    return "\n".join([
        f"for (int j = 0; j < {tile}; ++j) {{",
        f"const int y = y0 + (i0 + j) / {planes.width}, w = (i0 + j) % {planes.width};",
        f"if (w >= {win.out_width} || (i0 + j) / {planes.width} >= {planes.rows} "
        f"|| y >= {win.out_height}) continue;",
        f"float *restrict const o = out + (y * {win.out_width} + w) * {win.outputs};",
        f"for (int k = 0; k < {win.outputs}; ++k) o[k] = t[k * {tile} + j];",
        "}",
    ])  # fmt: skip
