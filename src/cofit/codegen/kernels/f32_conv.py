"""Dense fp32 convolution and linear: a direct convolution over NHWC in register tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, Kernel, KernelCode, Residual
from cofit.codegen.kernels.loops import Loops, other_loops
from cofit.codegen.kernels.parts import can_split, split_channels
from cofit.codegen.kernels.shares import count_of
from cofit.codegen.kernels.tile import (
    Tile,
    loop_nest,
    multiply,
    own_rows,
    pixel_loops,
    ranked_tiles,
    share_tiles,
    takes_rows_first,
)
from cofit.codegen.kernels.window import Window, clamps_before, in_place_of, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, kept_macs

Array = NDArray[np.generic]


@dataclass(frozen=True)
class F32Conv:
    """Every conv2d and linear op with float weights, whatever its zeros."""

    loops: Loops | None = None
    name = "f32-dense"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Only the kind matters."""
        return None if op.kind in ("conv2d", "linear") else f"{op.kind} is not a convolution"

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """Clamped outputs."""
        return clamps_before(op)

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """The loop nest with packed weights [group][block][tap and channel][outputs of a tile]."""
        win = window(graph, op, residual)
        loops = self.loops or _formula(win, machine)[0]
        tile, win = loops.tile(machine.vector_floats), replace(win, parts=loops.parts)
        group_out = win.outputs // win.groups
        blocks = -(-group_out // tile.outputs)
        weight = np.asarray(graph.tensors[op.inputs[1]].data, np.float32)
        parts = np.split(weight, win.parts, axis=1)
        packed = np.stack([pack_outputs(taps_last(w), win.groups, blocks, tile) for w in parts])
        bias = pack_outputs(
            np.asarray(graph.tensors[op.inputs[2]].data, np.float32)[:, None],
            win.groups, blocks, tile,
        )  # fmt: skip
        shares = share_tiles(win, machine, kept_macs(graph, op), [1.0] * blocks, packed.nbytes)
        rows = own_rows(win, machine, shares)
        index = f"g * {blocks} + b" if win.groups > 1 else "b"
        at = f"(part * {blocks} + b)" if win.parts > 1 else f"({index})"
        per_block = packed.size // (win.parts * win.groups * blocks)
        body = loop_nest(
            win, rows, tile, blocks, packed.nbytes,
            f"const int k = b * {tile.outputs};\n"
            f"const float *const weights = weight + {at} * {per_block};",
            pixel_loops(
                win, tile, lambda pixels: accumulate_dense(win, tile, pixels),
                f"bias + ({index}) * {tile.outputs}",
            ),
            shares, rows_first=loops.rows_first,
        )  # fmt: skip
        align = 4 * tile.lanes
        return KernelCode(
            body,
            (Constant("weight", packed, align), Constant("bias", bias, align)),
            scratch_bytes=win.band_bytes(rows),
            in_place=in_place_of(win),
            variant=f"{tile.outputs} outputs x {tile.pixels} pixels{in_parts(win)}",
            shares=count_of(shares),
        )

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """Other register tiles, parts of the channels and orders of the loops."""
        win = window(graph, op)
        formula, tiles = _formula(win, machine)
        others = other_loops(formula, tiles, win, can_split(win, machine))
        return [F32Conv(), *map(F32Conv, others)]


def _formula(win: Window, machine: Machine) -> tuple[Loops, list[Tile]]:
    """What is decided without a clock, and the tiles that were to choose from."""
    group_out, splits = win.outputs // win.groups, can_split(win, machine)
    entries = 0 if splits else win.entries
    tiles = ranked_tiles(machine, group_out, win.out_width, entries, even=splits)
    tile = tiles[0]
    if splits:
        win = split_channels(win, tile, 4 * math.prod(win.kernel) * tile.outputs)
    nbytes = 4 * win.entries * win.groups * (-(-group_out // tile.outputs) * tile.outputs)
    rows_first = takes_rows_first(win, nbytes)
    return Loops(tile.vectors, tile.pixels, win.parts, rows_first), tiles


def in_parts(win: Window) -> str:
    """What a variant says of parts."""
    return f", {win.parts} parts" if win.parts > 1 else ""


def taps_last(weight: Array) -> Array:
    """(K, C, R, S) or (K, C) -> (K, R * S * C), the order in which NHWC is read."""
    if weight.ndim == 4:
        weight = weight.transpose(0, 2, 3, 1)
    return weight.reshape(weight.shape[0], -1)


def pack_outputs(weight: Array, groups: int, blocks: int, tile: Tile) -> Array:
    """(K, N) -> [group][block][N][outputs of a tile], zeros where K is ragged."""
    length = weight.shape[1]
    per_group = weight.shape[0] // groups
    packed = np.zeros((groups, blocks * tile.outputs, length), np.float32)
    packed[:, :per_group] = weight.reshape(groups, per_group, length)
    return np.ascontiguousarray(
        packed.reshape(groups, blocks, tile.outputs, length).transpose(0, 1, 3, 2)
    )


def accumulate_dense(win: Window, tile: Tile, pixels: int) -> str:
    """Loops over taps and channels; a row of taps is one run where it is contiguous."""
    per_group = win.held // win.groups
    rows, columns = win.kernel
    contiguous = win.groups == 1 and win.dilation[1] == 1
    runs, run = (1, columns * per_group) if contiguous else (columns, per_group)
    lines = ["const float *restrict w = weights;"]
    if rows > 1:
        lines.append(f"for (int r = 0; r < {rows}; ++r) {{")
    if runs > 1:
        lines.append(f"for (int s = 0; s < {runs}; ++s) {{")
    offset = "".join(
        [
            f" + r * {win.offset(0, 1, 0)}" if rows > 1 else "",
            f" + s * {win.offset(0, 0, 1)}" if runs > 1 else "",
        ]
    )
    lines += [
        f"const float *restrict p = q{offset};",
        f"for (int c = 0; c < {run}; ++c, ++p, w += {tile.outputs}) {{",
        multiply(tile, pixels, win.pixel),
        "}",
        "}" if runs > 1 else "",
        "}" if rows > 1 else "",
    ]
    return "\n".join(line for line in lines if line)
