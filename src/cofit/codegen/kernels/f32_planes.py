"""fp32 convolution with single weights or shared patterns, vectorised over pixels.

The padded input is laid out as one plane per channel and stride phase, so that every tap is a
shifted contiguous read. A tile is T vectors of consecutive pixels of all output channels: per kept
position T reads, and for each of the F filters that share it one broadcast and T multiply-adds.
Channels are taken in parts whose piece of the planes lies in the L1 while all filters use it. Tiles
are computed over the flattened plane; the pixels at the end of each plane row that are no outputs
are dropped when the tile is turned back to NHWC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, Kernel, KernelCode, Residual, Sides
from cofit.codegen.kernels.block_lists import Lists, offset_type, part_lists
from cofit.codegen.kernels.encoded import encoding_of, too_dense
from cofit.codegen.kernels.f32_block import emit_lists, keeps_nothing
from cofit.codegen.kernels.f32_conv import in_parts
from cofit.codegen.kernels.f32_elementwise import FUNCTIONS
from cofit.codegen.kernels.plane_lists import MOST_SHARED, shared_lists, single_lists
from cofit.codegen.kernels.plane_loops import (
    PlaneLoops,
    Planes,
    PlaneTile,
    is_shared,
    other_plane_loops,
    plane_formula,
)
from cofit.codegen.kernels.plane_sides import close_tile, copy_row, open_band, open_tile
from cofit.codegen.kernels.shares import Shares, count_of, declared, range_of, share_rows
from cofit.codegen.kernels.tile import clamp, pretty, vector_type
from cofit.codegen.kernels.window import Window, clamps_before, window
from cofit.codegen.layout import PlaneLayout, plane_layout
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, kept_macs
from cofit.ir.attributes import Fused
from cofit.structures import Encoding

DENSITY_LIMIT = 0.45  # above it, dense code is faster
SHARED_DENSITY_LIMIT = 0.75
FORMATS = ("csr", "nm", "fkw")


@dataclass(frozen=True)
class F32Planes:
    """csr, N:M and fkw of any group."""

    loops: PlaneLoops | None = None
    source: PlaneLayout | None = field(default=None, repr=False)
    target: PlaneLayout | None = field(default=None, repr=False)
    name = "f32-planes"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Shared patterns of few pixels, or without vectors, are computed filter by filter."""
        encoding = encoding_of(graph, op, FORMATS)
        if isinstance(encoding, str):
            return encoding
        shared = encoding.format == "fkw" and encoding.parameters["group"] > 1
        few = _too_few(window(graph, op), machine)
        if shared and few:
            return few
        if encoding.format == "fkw" and machine.vector_floats == 1:
            return "without vectors, patterns have a kernel of their own"
        return too_dense(encoding, SHARED_DENSITY_LIMIT if shared else DENSITY_LIMIT)

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """Clamped outputs, or constant ones."""
        return clamps_before(op) or keeps_nothing(graph, op)

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """Planes where there are vectors to fill, else one list per output."""
        encoding = encoding_of(graph, op, FORMATS)
        assert isinstance(encoding, Encoding)
        win, form, macs = window(graph, op, residual), encoding.format, kept_macs(graph, op)
        bias = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)
        shared, order = is_shared(encoding), np.arange(win.outputs)
        if not shared and _too_few(win, machine):
            return emit_lists(graph, op, machine, single_lists(encoding), form, residual)
        if shared:
            order = encoding.arrays["reorder"].astype(np.int64)
            form = f"{form} group {encoding.parameters['group']}"
        shares = share_rows(machine, win.out_height, macs / machine.vector_floats)
        loops = self.loops or plane_formula(encoding, win, machine, shares)
        lists = shared_lists(encoding, loops.filters) if shared else single_lists(encoding)
        sides = (self.source, self.target)
        return _emit(win, machine, lists, order, bias, form, shares, loops, *sides)

    def sides(self, graph: Graph, op: Op, machine: Machine) -> Sides | None:
        """Both sides, of whole groups of filters over rows of pixels."""
        encoding, win = encoding_of(graph, op, FORMATS), window(graph, op)
        assert isinstance(encoding, Encoding)
        shape = graph.tensors[op.output].shape
        if len(shape) != 4 or shape[2] != win.out_height or shape[3] != win.out_width:
            return None
        if _too_few(win, machine) or (is_shared(encoding) and win.outputs % MOST_SHARED):
            return None
        return Sides(plane_layout(win.out_height, Planes(win, 1).width), turns=True)

    def laid_out(self, source: PlaneLayout | None, target: PlaneLayout | None) -> Kernel:
        """Copies rows from planes, and stores tiles in planes."""
        return replace(self, source=source, target=target)

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """Other tiles, bands and parts."""
        encoding = encoding_of(graph, op, FORMATS)
        assert isinstance(encoding, Encoding)
        win = window(graph, op)
        if not is_shared(encoding) and _too_few(win, machine):
            return [F32Planes()]
        macs = kept_macs(graph, op) / machine.vector_floats
        shares = share_rows(machine, win.out_height, macs)
        formula = plane_formula(encoding, win, machine, shares)
        return [
            F32Planes(),
            *map(F32Planes, other_plane_loops(formula, encoding, win, machine, shares)),
        ]


def _too_few(win: Window, machine: Machine) -> str | None:
    pixels, lanes = win.out_width * win.out_height, machine.vector_floats
    return f"{pixels} pixels fill no vector of {lanes}" if lanes == 1 or pixels < lanes else None


def _emit(
    win: Window,
    machine: Machine,
    lists: Lists,
    order: NDArray[np.int64],
    bias: NDArray[np.float32],
    form: str,
    shares: Shares | None,
    loops: PlaneLoops,
    source: PlaneLayout | None,
    target: PlaneLayout | None,
) -> KernelCode:
    """Filter `order[i]` has the i-th weights of the lists."""
    first, last = range_of(shares, "rows", win.out_height)
    planes = Planes(win, loops.rows)
    tile = PlaneTile(machine.vector_floats, loops.filters, loops.vectors)
    win = replace(win, parts=loops.parts)
    groups, held = lists.blocks, win.channels * planes.phases * planes.size + tile.pixels
    lists = part_lists(lists, win)
    rest = np.arange(win.outputs, groups * lists.out)  # a ragged group fills up with nothing
    channel = np.concatenate([order, rest])
    padded = np.zeros(channel.size, np.float32)
    padded[: win.outputs] = bias[order]
    text = "\n".join([
        vector_type(tile.lanes, _fused(win)),
        "float *const x = (float *)scratch;",
        f"float *const t = x + {held};",  # the last tile reads past the planes
        f"for (int y0 = {first}; y0 < {last}; y0 += {planes.rows}) {{",
        _fill(win, planes, source),
        *([open_band(planes, last)] if target else []),
        f"for (int i0 = 0; i0 < {'pixels' if target else planes.pixels}; i0 += {tile.pixels}) {{",
        *([open_tile(tile, target)] if target else []),
        _tile(win, planes, tile, groups, target),
        close_tile(win, planes, tile, target) if target else _turn(win, planes, tile, last),
        "}",
        "}",
    ])  # fmt: skip
    constants = [
        Constant("start", lists.start.astype(np.int32)),
        Constant("index", offset_type(planes.offsets(lists))),
        Constant("weight", lists.values),
        Constant("bias", padded),
    ]
    if lists.out > 1:
        constants.append(Constant("channel", offset_type(channel)))
    return KernelCode(
        declared(shares, pretty(text)),
        tuple(constants),
        ("f32_turn.h",),
        scratch_bytes=4 * (held + tile.pixels * channel.size),
        variant=f"{form}, {tile.filters} filters x {tile.vectors} vectors of {tile.lanes} pixels"
        + in_parts(win)
        + (", from planes" if source else "")
        + (", to planes" if target else ""),
        shares=count_of(shares),
    )


def _fill(win: Window, planes: Planes, source: PlaneLayout | None) -> str:
    """Turn or copy the band into planes, row by row; outside the input lies zero."""
    (sh, sw), (top, _, left, _) = win.stride, win.padding
    pitch = planes.phases * planes.size
    clear = "for (int c = 0; c < {}; ++c) __builtin_memset(to + c * {}{}, 0, {} * sizeof(float));"
    lines = [
        f"for (int a = 0; a < {sh}; ++a)",
        f"for (int i = 0; i < {planes.height}; ++i) {{",
        f"const int h = (y0 + i) * {sh} + a - {top};",
    ]
    for b in range(sw):
        # plane columns [first, last) hold input columns j * sw + b - left
        first = max(0, -(-(left - b) // sw))
        last = max(first, min(planes.width, -(-(win.width + left - b) // sw)))
        start, count = first * sw + b - left, last - first
        turn = (
            f"f32_turn(in0 + (h * {win.width} + {start}) * {win.channels}, "
            f"{sw * win.channels}, {count}, {win.channels}, to + {first}, {pitch});"
        )
        lines += [
            "{",
            f"float *const to = x + (a * {sw} + {b}) * {planes.size} + i * {planes.width};",
            f"if (h < 0 || h >= {win.height}) {{",
            clear.format(win.channels, pitch, "", planes.width),
            "} else {",
            clear.format(win.channels, pitch, "", first) if first else "",
            copy_row(win, planes, source, first, count, start) if source else turn,
            clear.format(win.channels, pitch, f" + {last}", planes.width - last)
            if last < planes.width
            else "",
            "}",
            "}",
        ]
    return "\n".join(line for line in [*lines, "}"] if line)


def _tile(
    win: Window, planes: Planes, tile: PlaneTile, groups: int, target: PlaneLayout | None
) -> str:
    """All output channels of one tile of pixels, into `t` or their places, part by part."""
    filters, vectors = range(tile.filters), range(tile.vectors)
    names = [(f, j) for f in filters for j in vectors]
    split, single = win.parts > 1, tile.filters == 1
    part = f" + part * {win.held * planes.phases * planes.size}" if split else ""
    lines = [
        f"for (int b = 0; b < {groups}; ++b) {{",
        f"const float *restrict const q = x + i0{part};",
        f"const int list = part * {groups} + b;" if split else "const int list = b;",
    ]
    for f in filters:
        k = "b" if single else f"b * {tile.filters} + {f}"
        row = "b" if single else f"channel[{k}]"
        place = f"to + {row} * apart" if target else f"t + {row} * {tile.pixels}"
        lines.append(f"float *const o{f} = {place};")
        lines.append("vec " + ", ".join(f"a{f}_{j}" for j in vectors) + ";")
        fresh = [f"vec v = {{0.0f}}; v += bias[{k}];", *(f"a{f}_{j} = v;" for j in vectors)]
        sums = [f"a{f}_{j} = *(const vec *)(o{f} + {j * tile.lanes});" for j in vectors]
        lines += (
            ["if (part == 0) {", *fresh, "} else {", *sums, "}"] if split else ["{", *fresh, "}"]
        )
    lines += [
        "for (int n = start[list]; n < start[list + 1]; ++n) {",
        "const float *restrict const p = q + index[n];",
        *(f"const vec p{j} = *(const vec *)(p + {j * tile.lanes});" for j in vectors if not single),
    ]
    if not single:
        lines.append(f"const float *w = weight + n * {tile.filters};")
    for f in filters:
        lines.append("{")
        lines.append(f"const float v = {'weight[n]' if single else f'w[{f}]'};")
        lines += [
            f"a{f}_{j} += v * " + (f"*(const vec *)(p + {j * tile.lanes});" if single else f"p{j};")
            for j in vectors
        ]
        if f + 1 < tile.filters:
            lines.append('__asm__ volatile("" : "+r"(w));')
        lines.append("}")
    lines.append("}")
    clamps = [text for f, j in names if (text := clamp(f"a{f}_{j}", _fused(win), tile.lanes))]
    if split and clamps:
        clamps = [f"if (part == {win.parts - 1}) {{", *clamps, "}"]
    lines += clamps
    lines += [f"*(vec *)(o{f} + {j * tile.lanes}) = a{f}_{j};" for f, j in names]
    lines.append("}")
    if split:
        lines = [f"for (int part = 0; part < {win.parts}; ++part) {{", *lines, "}"]
    return "\n".join(lines)


def _fused(win: Window) -> Fused:
    """Activation of a tile; that of a residual follows once pixels are turned."""
    return "none" if win.addend else win.fused


def _turn(win: Window, planes: Planes, tile: PlaneTile, last: str) -> str:
    """From `t` (channel, pixel) to NHWC, by plane rows before `last`; only pixels of outputs."""
    width, at = planes.width, f"((y0 + r) * {win.out_width} + w0) * {win.outputs}"
    add = []
    if win.addend:  # what was turned just now lies in the L1
        add = [
            f"float *const o = out + {at};",
            f"const float *const z = {win.addend} + {at};",
            f"for (int i = 0; i < (w1 - w0) * {win.outputs}; ++i) {{",
            "const float v = o[i] + z[i];",
            f"o[i] = {FUNCTIONS.get(win.fused, 'v')};",
            "}",
        ]
    return "\n".join([
        f"for (int r = i0 / {width}; r * {width} < i0 + {tile.pixels} && r < {planes.rows}"
        f" && y0 + r < {last}; ++r) {{",
        f"const int w0 = r * {width} < i0 ? i0 - r * {width} : 0, end = i0 + {tile.pixels} "
        f"- r * {width};",
        f"const int w1 = end < {win.out_width} ? end : {win.out_width};",
        "if (w0 < w1) {",
        f"f32_turn(t + r * {width} + w0 - i0, {tile.pixels}, {win.outputs}, w1 - w0, "
        f"out + {at}, {win.outputs});",
        *add,
        "}",
        "}",
    ])  # fmt: skip
