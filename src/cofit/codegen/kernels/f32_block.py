"""fp32 convolution and linear with blocks of output channels that share kept positions.

The dense loop with a list of kept positions in place of its counter: per position one load of the
block's weights, one broadcast per pixel. Stripes are blocks of rows of a linear layer; single
weights (csr, N:M) are blocks of one output where pixels cannot be vectorised instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.encoded import encoding_of, too_dense
from cofit.codegen.kernels.f32_conv import in_parts
from cofit.codegen.kernels.tile import (
    Tile,
    can_split,
    choose_tile,
    loop_nest,
    multiply,
    pixel_loops,
    split_channels,
)
from cofit.codegen.kernels.window import Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.structures import Encoding

Array = NDArray[np.generic]
DENSITY_LIMIT = 0.95


@dataclass(frozen=True, eq=False)
class Lists:
    """Kept positions per block of `out` outputs: block i has entries start[i] to start[i + 1].

    Attributes:
        out: outputs of a block.
        start: (blocks + 1,).
        channel: (n,) input channel, and kernel position `r`, `s` of each entry.
        values: (n, out).
    """

    out: int
    start: Array
    channel: NDArray[np.int64]
    r: NDArray[np.int64]
    s: NDArray[np.int64]
    values: Array

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.start.size - 1


class F32Block:
    """Blocks of any size, stripes, and per-weight lists."""

    name = "f32-block"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Only weights stored as ocb, and sparse enough."""
        encoding = encoding_of(graph, op, ("ocb",))
        return encoding if isinstance(encoding, str) else too_dense(encoding, DENSITY_LIMIT)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One list of input offsets per block."""
        encoding = encoding_of(graph, op, ("ocb",))
        assert isinstance(encoding, Encoding)
        form = f"block {encoding.parameters['out']}x{encoding.parameters['in']}"
        return emit_lists(graph, op, machine, block_lists(encoding), form)


def block_lists(encoding: Encoding) -> Lists:
    """Lists of an ocb encoding; input channels of a block become entries of their own."""
    _, channels, rows, columns = (*encoding.shape, 1, 1)[:4]
    out, width = encoding.parameters["out"], encoding.parameters["in"]
    count = encoding.arrays["count"].astype(np.int64)
    index = encoding.arrays["index"].astype(np.int64)
    values = encoding.arrays["values"].reshape(-1, out, width)
    owner = np.repeat(np.arange(count.size), count)
    area = rows * columns
    channel = (index // area * width)[:, None] + np.arange(width)
    inside = channel < channels  # columns beyond a ragged edge are not stored
    repeat = np.broadcast_to
    tap = repeat((index % area)[:, None], channel.shape)[inside]
    per_block = np.bincount(repeat(owner[:, None], channel.shape)[inside], minlength=count.size)
    return Lists(
        out,
        np.concatenate([[0], np.cumsum(per_block)]),
        channel[inside],
        tap // columns,
        tap % columns,
        values.transpose(0, 2, 1)[inside],
    )


def emit_lists(graph: Graph, op: Op, machine: Machine, lists: Lists, form: str) -> KernelCode:
    """Register tiles of one block's outputs × pixels, over the block's list."""
    win = window(graph, op)
    length = lists.channel.size // max(lists.blocks, 1)
    split = can_split(win, machine) and win.outputs % lists.out == 0 and lists.out > 1
    tile = choose_tile(machine, lists.out, win.out_width, 0 if split else length, block=lists.out)
    if split:
        win = split_channels(win, tile, 4 * tile.outputs * length / win.channels)
        lists = part_lists(lists, win)
    blocks = lists.blocks // win.parts
    passes = lists.out // tile.outputs  # a block wider than the registers is read several times
    per_pass = lists.values.reshape(-1, passes, tile.outputs)
    bias = np.zeros(blocks * lists.out, np.float32)
    bias[: win.outputs] = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)
    offsets = offset_type(
        np.array([win.offset(0, 1, 0), win.offset(0, 0, 1), 1])
        @ np.stack([lists.r, lists.s, lists.channel])
    )
    rows = win.band_rows(machine)
    prepare = [f"const int k = b * {tile.outputs};"]
    block = "b" if passes == 1 else f"b / {passes}"
    if win.parts > 1:
        block = f"part * {blocks} + {block}"
    shift = "" if passes == 1 else f" + b % {passes} * {tile.outputs}"
    prepare += [
        f"const int n0 = start[{block}], n1 = start[{block} + 1];",
        f"const float *const weights = weight + n0 * {lists.out}{shift};",
    ]
    body = loop_nest(
        win, rows, tile, blocks * passes, lists.values.nbytes, "\n".join(prepare),
        pixel_loops(
            win, tile, lambda pixels: _accumulate(win, tile, pixels, lists.out), "bias + k"
        ),
    )  # fmt: skip
    align = 4 * tile.lanes
    return KernelCode(
        body,
        (
            Constant("start", lists.start.astype(np.int32)),
            Constant("index", offsets),
            Constant("weight", per_pass, align),
            Constant("bias", bias, align),
        ),
        scratch_bytes=win.band_bytes(rows),
        variant=f"{form}, {tile.outputs} outputs x {tile.pixels} pixels{in_parts(win)}",
    )


def part_lists(lists: Lists, win: Window) -> Lists:
    """Lists by part of the input channels, then by block; channels count from the part's first."""
    owner = np.repeat(np.arange(lists.blocks), np.diff(lists.start))
    return collect(
        lists.out,
        win.parts * lists.blocks,
        lists.channel // win.held * lists.blocks + owner,
        lists.channel % win.held,
        lists.r,
        lists.s,
        lists.values,
    )


def collect(
    out: int,
    blocks: int,
    owner: NDArray[np.int64],
    channel: NDArray[np.int64],
    r: NDArray[np.int64],
    s: NDArray[np.int64],
    values: Array,
) -> Lists:
    """Lists of entries in any order, `owner` being the block of each."""
    order = np.argsort(owner, kind="stable")
    count = np.bincount(owner, minlength=blocks)
    return Lists(
        out,
        np.concatenate([[0], np.cumsum(count)]),
        channel[order],
        r[order],
        s[order],
        values[order],
    )


def offset_type(offsets: NDArray[np.int64]) -> Array:
    """Offsets as uint16 where they fit, else int32."""
    small = offsets.size == 0 or int(offsets.max()) < 65536
    return offsets.astype(np.uint16 if small else np.int32)


def _accumulate(win: Window, tile: Tile, pixels: int, pitch: int) -> str:
    return "\n".join([
        "const float *restrict w = weights;",
        f"for (int n = n0; n < n1; ++n, w += {pitch}) {{",
        "const float *restrict p = q + index[n];",
        multiply(tile, pixels, win.pixel),
        "}",
    ])  # fmt: skip
