"""fp32 convolution and linear with blocks of output channels that share kept positions.

The dense loop with a list of kept positions in place of its counter: per position one load of the
block's weights, one broadcast per pixel. Stripes are blocks of rows of a linear layer; single
weights (csr, N:M) are blocks of one output where pixels cannot be vectorised instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, Kernel, KernelCode, Residual
from cofit.codegen.kernels.block_lists import (
    Lists,
    block_lists,
    fill_idle,
    offset_type,
    part_lists,
    stripe_lists,
)
from cofit.codegen.kernels.encoded import encoding_of, too_dense
from cofit.codegen.kernels.f32_conv import in_parts
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
from cofit.structures import Encoding

FORMATS = ("ocb", "bspc")
DENSITY_LIMIT = 0.95
MOST_IN_CHAINS = 4  # so few accumulators wait for their sums: every other entry gets its own
BLOCK_ENTRIES = 4  # that take as long as the begin and the end of a tile


@dataclass(frozen=True)
class F32Block:
    """Blocks of any size, stripes, and per-weight lists."""

    loops: Loops | None = None
    name = "f32-block"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Only weights stored as ocb or bspc, and sparse enough."""
        encoding = encoding_of(graph, op, FORMATS)
        return encoding if isinstance(encoding, str) else too_dense(encoding, DENSITY_LIMIT)

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """Clamped or idle outputs, and those that stand twice in the lists."""
        encoding = encoding_of(graph, op, FORMATS)
        assert isinstance(encoding, Encoding)
        if encoding.format == "bspc":
            return "some outputs of its stripes are idle or computed twice"
        return clamps_before(op) or keeps_nothing(graph, op)

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """One list of input offsets per block."""
        encoding = encoding_of(graph, op, FORMATS)
        assert isinstance(encoding, Encoding)
        if encoding.format == "bspc":
            lists = stripe_lists(encoding, machine.vector_floats)
            form = f"stripe {encoding.parameters['stripe']}"
            return emit_lists(graph, op, machine, lists, form, loops=self.loops)
        form = f"block {encoding.parameters['out']}x{encoding.parameters['in']}"
        return emit_lists(graph, op, machine, block_lists(encoding), form, residual, self.loops)

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """Other register tiles, parts of the channels and orders of the loops."""
        encoding = encoding_of(graph, op, FORMATS)
        assert isinstance(encoding, Encoding)
        stripes = encoding.format == "bspc"
        lists = stripe_lists(encoding, machine.vector_floats) if stripes else block_lists(encoding)
        if not lists.values.size:
            return [F32Block()]
        win = window(graph, op)
        formula, tiles = _formula(win, machine, lists)
        others = other_loops(formula, tiles, win, _splits(win, machine, lists))
        return [F32Block(), *map(F32Block, others)]


@dataclass(frozen=True, eq=False)
class ListCode:
    """C of the products by one weight.

    Attributes:
        prepare: sets what `loops` needs of tile `b`.
        loops: all pixels of a row of tile `b`.
        tiles: their number.
        constants: that both read.
    """

    prepare: str
    loops: str
    tiles: int
    constants: tuple[Constant, ...]


def keeps_nothing(graph: Graph, op: Op) -> str | None:
    """The reason not to add to outputs that are constants, if they are."""
    return None if np.any(graph.tensors[op.inputs[1]].data) else "it keeps no weights"


def emit_lists(
    graph: Graph, op: Op, machine: Machine, lists: Lists, form: str,
    residual: Residual | None = None, loops: Loops | None = None,
) -> KernelCode:  # fmt: skip
    """Register tiles of one block's outputs × pixels, over the block's list."""
    win = window(graph, op, residual)
    bias = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)
    if not lists.values.size:
        fill, rest = fill_idle(win, bias)
        return KernelCode(f"(void)in0;\n{fill}", (rest,), variant=f"{form}, nothing kept")
    loops = loops or _formula(win, machine, lists)[0]
    tile = loops.tile(math.gcd(lists.out, machine.vector_floats))
    if _splits(win, machine, lists):
        win = replace(win, parts=loops.parts)
        lists = part_lists(lists, win)
    code = list_code(win, tile, lists, bias)
    shares = None  # rows that stand twice would be written by two threads
    if lists.rows is None:
        entries = np.diff(lists.start).reshape(win.parts, -1).sum(axis=0)
        costs = np.repeat(entries + BLOCK_ENTRIES, lists.out // tile.outputs).tolist()
        shares = share_tiles(win, machine, kept_macs(graph, op), costs, lists.values.nbytes)
    rows = own_rows(win, machine, shares)
    body = loop_nest(
        win, rows, tile, code.tiles, lists.values.nbytes, code.prepare, code.loops, shares,
        rows_first=loops.rows_first,
    )  # fmt: skip
    constants = code.constants
    if lists.leaves_idle(win.outputs):
        fill, rest = fill_idle(win, bias)
        body, constants = f"{fill}\n{body}", (rest, *constants)
    return KernelCode(
        body,
        constants,
        scratch_bytes=win.band_bytes(rows),
        in_place=in_place_of(win),
        variant=f"{form}, {tile.outputs} outputs x {tile.pixels} pixels{in_parts(win)}",
        shares=count_of(shares),
    )


def _splits(win: Window, machine: Machine, lists: Lists) -> bool:
    return can_split(win, machine) and win.outputs % lists.out == 0 and lists.out > 1


def _formula(win: Window, machine: Machine, lists: Lists) -> tuple[Loops, list[Tile]]:
    """What is decided without a clock, and the tiles that were to choose from."""
    splits, length = _splits(win, machine, lists), lists.channel.size // max(lists.blocks, 1)
    entries = 0 if splits else length
    tiles = ranked_tiles(machine, lists.out, win.out_width, entries, block=lists.out)
    tile = tiles[0]
    if splits:
        win = split_channels(win, tile, 4 * tile.outputs * length / win.channels)
    rows_first = takes_rows_first(win, lists.values.nbytes)
    return Loops(tile.vectors, tile.pixels, win.parts, rows_first), tiles


def list_code(
    win: Window, tile: Tile, lists: Lists, bias: NDArray[np.float32], suffix: str = "",
    target: str = "out",
) -> ListCode:  # fmt: skip
    """The products of a window by the weights of lists, part by part.

    Args:
        win: whose input lies at `x`.
        tile: its outputs divide those of a block.
        lists: by part, then by block.
        bias: of every output.
        suffix: of the names of constants.
        target: C pointer to the outputs; where `lists` has rows, idle ones are left as they are.
    """
    blocks = lists.blocks // win.parts
    passes = lists.out // tile.outputs  # a block wider than the registers is read several times
    padding = blocks * lists.out - len(bias)
    start = np.pad(bias, (0, padding)) if lists.rows is None else bias[lists.rows]
    offsets = offset_type(
        np.array([win.offset(0, 1, 0), win.offset(0, 0, 1), 1])
        @ np.stack([lists.r, lists.s, lists.channel])
    )
    prepare = [f"const int k = b * {tile.outputs};"]
    block = "b" if passes == 1 else f"b / {passes}"
    if win.parts > 1:
        block = f"part * {blocks} + {block}"
    shift = "" if passes == 1 else f" + b % {passes} * {tile.outputs}"
    prepare += [
        f"const int n0 = start{suffix}[{block}], n1 = start{suffix}[{block} + 1];",
        f"const float *const weights = weight{suffix} + n0 * {lists.out}{shift};",
    ]

    def products(pixels: int, later: int = 0) -> str:
        """Of the entry so many after `n`, added to accumulators of its own; closes a brace."""
        at, to = (f" + {later * lists.out}", "e") if later else ("", "a")
        entry = f"n + {later}" if later else "n"
        return "\n".join([
            f"const float *restrict p = q + index{suffix}[{entry}];",
            multiply(tile, pixels, win.pixel, w=f"w{at}", to=to),
            "}",
        ])  # fmt: skip

    def accumulate(pixels: int) -> str:
        places = [f"{j}_{i}" for i in range(pixels) for j in range(tile.vectors)]
        if tile.lanes == 1 or len(places) > MOST_IN_CHAINS:
            return "\n".join([
                "const float *restrict w = weights;",
                f"for (int n = n0; n < n1; ++n, w += {lists.out}) {{",
                products(pixels),
            ])  # fmt: skip
        return "\n".join([
            "const float *restrict w = weights;",
            f"vec {', '.join(f'e{place} = {{0.0f}}' for place in places)};",
            "int n = n0;",
            f"for (; n + 1 < n1; n += 2, w += {2 * lists.out}) {{",
            "{",
            products(pixels),
            "{",
            products(pixels, 1),
            "}",
            "if (n < n1) {",
            products(pixels),
            *(f"a{place} += e{place};" for place in places),
        ])  # fmt: skip

    align = 4 * tile.lanes
    constants = [
        Constant(f"start{suffix}", lists.start.astype(np.int32)),
        Constant(f"index{suffix}", offsets),
        Constant(f"weight{suffix}", lists.values, align),
        Constant(f"bias{suffix}", start, align),
    ]
    scattered = None
    if lists.rows is not None:
        scattered = lists.rows.size
        constants.append(Constant(f"channel{suffix}", offset_type(lists.rows)))
    loops = pixel_loops(
        win, tile, accumulate, f"bias{suffix} + k", scattered, target, f"channel{suffix}"
    )
    return ListCode("\n".join(prepare), loops, blocks * passes, tuple(constants))
