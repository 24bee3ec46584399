"""Planes of channels and the tiles that are computed over them, and how to choose both.

A kernel decides how many filters and vectors of pixels a tile has, of how many input channels the
sums of a part are, and how many output rows are computed from one band of planes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernels.block_lists import Lists
from cofit.codegen.kernels.parts import parts_for
from cofit.codegen.kernels.plane_lists import MOST_SHARED
from cofit.codegen.kernels.shares import Shares
from cofit.codegen.kernels.window import Window
from cofit.codegen.layout import plane_layout
from cofit.codegen.machine import Machine
from cofit.structures import Encoding

PLANES_BYTES = 400 * 1024  # planes of a band stay in a core's L2
LEAST_ROWS = 4  # of a band: those around it are turned into planes twice


@dataclass(frozen=True)
class Planes:
    """Planes of a band of `rows` output rows, `phases` per channel."""

    win: Window
    rows: int

    @property
    def height(self) -> int:
        """Rows of a plane."""
        return self.rows + (self.win.reach[0] - 1) // self.win.stride[0]

    @property
    def width(self) -> int:
        """Columns of a plane."""
        return self.win.out_width + (self.win.reach[1] - 1) // self.win.stride[1]

    @property
    def size(self) -> int:
        """Elements from plane to plane: an odd number of lines, which spreads them over a cache."""
        return plane_layout(self.height, self.width).size

    @property
    def phases(self) -> int:
        """Planes of a channel."""
        return math.prod(self.win.stride)

    @property
    def pixels(self) -> int:
        """Of the flattened plane, from the first output to the last."""
        return (self.rows - 1) * self.width + self.win.out_width

    def offsets(self, lists: Lists) -> NDArray[np.int64]:
        """Element offset of each entry from the pixel (0, 0) of its part's first plane."""
        (sh, sw), (dh, dw) = self.win.stride, self.win.dilation
        y, x = lists.r * dh, lists.s * dw
        phase = y % sh * sw + x % sw
        plane = lists.channel * self.phases + phase
        return plane * self.size + y // sh * self.width + x // sw


@dataclass(frozen=True)
class PlaneTile:
    """`filters` × `vectors` accumulators of `lanes` pixels."""

    lanes: int
    filters: int
    vectors: int

    @property
    def pixels(self) -> int:
        """Of a tile."""
        return self.lanes * self.vectors


@dataclass(frozen=True)
class PlaneLoops:
    """The decisions of one kernel.

    Attributes:
        filters: of a tile, that share their kept positions.
        vectors: of pixels in a tile.
        parts: of the input channels.
        rows: of outputs in a band.
    """

    filters: int
    vectors: int
    parts: int
    rows: int


def is_shared(encoding: Encoding) -> bool:
    """Whether several filters have the same kept positions."""
    return encoding.format == "fkw" and encoding.parameters["group"] > 1


def plane_formula(
    encoding: Encoding,
    win: Window,
    machine: Machine,
    shares: Shares | None,
    most: int = MOST_SHARED,
) -> PlaneLoops:
    """What is decided without a clock, for at most so many filters at a time."""
    filters = math.gcd(encoding.parameters["group"], most) if is_shared(encoding) else 1
    planes = _band(win, win.out_height if shares is None else shares.largest)
    tile = _choose(machine, filters, planes.pixels)
    # of one channel: the rows a tile reads, and the weights of one group of filters
    reads = win.kernel[0] * 4 * (tile.pixels + win.kernel[1])
    parts = parts_for(win, reads + 4 * win.kernel[1]).parts
    return PlaneLoops(filters, tile.vectors, parts, planes.rows)


def other_plane_loops(
    formula: PlaneLoops, encoding: Encoding, win: Window, machine: Machine, shares: Shares | None
) -> list[PlaneLoops]:
    """Decisions other than the formula's, each of which differs from it in one or two."""
    fewer = plane_formula(encoding, win, machine, shares, 2)
    most_rows = win.out_height if shares is None else shares.largest
    vectors = [formula.vectors + step for step in (-1, 1, -2, 2, -4, 4)]
    parts = [formula.parts * 2, formula.parts // 2, formula.parts * 4, formula.parts // 4, 1]
    rows = [formula.rows * 2, -(-formula.rows // 2), most_rows, -(-formula.rows // 4)]
    registers = machine.vector_registers
    single = [
        *(replace(formula, parts=count) for count in parts),
        *(replace(formula, vectors=count) for count in vectors),
        *(replace(formula, rows=count) for count in rows),
        fewer,
    ]
    double = [replace(a, parts=count) for a in single[5:] for count in parts[:2]]
    return [
        loops
        for loops in dict.fromkeys([*single, *double])
        if loops != formula
        and 0 < loops.vectors * loops.filters < registers
        and loops.parts > 0 and win.channels % loops.parts == 0
        and 0 < loops.rows <= most_rows
    ]  # fmt: skip


def _choose(machine: Machine, filters: int, pixels: int) -> PlaneTile:
    """As many vectors as the registers hold beside the inputs (read once) and a broadcast.

    One filter takes its inputs from memory.
    """
    registers, lanes = machine.vector_registers, machine.vector_floats
    most = registers - 4 if filters == 1 else (registers - 1) // (filters + 1)
    vectors = -(-pixels // lanes)
    tiles = -(-vectors // most)
    return PlaneTile(lanes, filters, -(-vectors // tiles) if tiles < 4 else most)


def _band(win: Window, most: int) -> Planes:
    """As many output rows, of the `most` of a thread, as keep the planes within bounds."""
    best = Planes(win, min(LEAST_ROWS, most))
    for rows in range(best.rows + 1, most + 1):
        planes = Planes(win, rows)
        if 4 * planes.size * planes.phases * win.channels > PLANES_BYTES:
            break
        best = planes
    bands = -(-most // best.rows)
    return Planes(win, -(-most // bands))
