"""The padded input of an int8 convolution on a CPU with vectors, in bands, and what walks over it.

The input is widened to int16 without its zero point, or made unsigned, once per layer, a band of
padded rows at a time. Which of the two depends on the products that the CPU adds up at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernels.s8_layer import window_text
from cofit.codegen.kernels.shares import Shares, declared, range_of
from cofit.codegen.kernels.tile import Tile, choose_tile, split
from cofit.codegen.kernels.window import BAND_BYTES_HOST, Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.ir.integer import affine

MAX_FOLDED = 128  # pixels of a row whose sums stay in the L1 cache
SLACK = 16  # elements before and behind a plane that a kernel may read and multiply by zero


@dataclass(frozen=True)
class Grain:
    """Products that one instruction adds up for each row of its vectors.

    Attributes:
        width: neighbouring elements of an entry.
        rows: that a vector has; rows of weights are padded to a multiple of this.
        element: C type of the elements of a plane.
        element_bytes: of one.
        lay: C function that lays out a band of the plane.
        kernel: prefix of the C functions that compute.
        support: files that these are in.
        macs_per_cycle: as two vectors are multiplied at once.
    """

    width: int
    rows: int
    element: str
    element_bytes: int
    lay: str
    kernel: str
    support: tuple[str, ...]
    macs_per_cycle: int


PAIRS = Grain(2, 8, "int16_t", 2, "s8_plane", "s8_host", ("s8_host_plane.h", "s8_host_list.h"), 32)
QUADS = Grain(4, 16, "uint8_t", 1, "s8_quad_plane", "s8_quad", ("s8_host_quads.h",), 128)
PAIR_TILE = Tile(lanes=8, vectors=2, pixels=6)
WIDE_PAIR_TILE = Tile(lanes=16, vectors=1, pixels=12)


def pair_tile(machine: Machine) -> Tile:
    """Sums of sixteen rows that the registers hold, as one vector or two."""
    return WIDE_PAIR_TILE if machine.vector_floats >= WIDE_PAIR_TILE.lanes else PAIR_TILE


@dataclass(frozen=True)
class Plane:
    """The widened input of a convolution: bands of padded rows in scratch.

    Attributes:
        window: the sliding window.
        offset: minus the zero point of the input.
        grain: what its elements are.
        tile: sums that are kept in registers.
    """

    window: Window
    offset: int
    grain: Grain = PAIRS
    tile: Tile = PAIR_TILE

    @property
    def above(self) -> int:
        """What elements are greater by than inputs without zero point."""
        return 0 if self.grain is PAIRS else 128 - self.offset

    @property
    def rows(self) -> int:
        """Output rows of a band."""
        w = self.window
        fit = (
            BAND_BYTES_HOST // (self.grain.element_bytes * max(w.row, 1)) - w.reach[0]
        ) // w.stride[0] + 1
        return max(1, min(w.out_height, fit))

    @property
    def elements(self) -> int:
        """Of a band, slack included, such that what follows is aligned to 64 bytes."""
        w = self.window
        height = (self.rows - 1) * w.stride[0] + w.reach[0]
        return -(-(height * w.row + 2 * SLACK) // 64) * 64

    @property
    def scratch_bytes(self) -> int:
        """A band, and the sums of a tile's rows at all pixels of an output row."""
        return self.sums_at + 4 * self.tile.outputs * self.window.out_width

    @property
    def sums_at(self) -> int:
        """Where in scratch the sums begin."""
        return self.grain.element_bytes * self.elements

    @property
    def variant(self) -> str:
        """Text of the tile, where it was chosen for the layer."""
        chosen = self.grain is QUADS
        return f", {self.tile.outputs} x {self.tile.pixels} pixels" if chosen else ""

    def walk(self, access: str, wide: bool = False) -> str:
        """C declaration of the `s8_walk` named `walk`; `wide` weights are int16."""
        w = self.window
        pixels, larger = split(w.out_width, self.tile.pixels)[0]
        return (
            f"static const s8_walk walk = {{.row = {w.stride[0] * w.row}, .pixel = {w.pixel}, "
            f".columns = {w.out_width},\n    .larger = {larger}, .pixels = {pixels}, "
            f".access = {access}, .wide = {int(wide)}}};"
        )

    def loop(self, body: str, shares: Shares | None = None) -> str:
        """C over all bands; `body` computes outputs [y0, y1) from `plane`, with `sums` at hand."""
        w, element = self.window, self.grain.element
        first, last = range_of(shares, "rows", w.out_height)
        own = shares if shares is not None and shares.axis == "rows" else None
        stop = "end" if own is None else "stop"  # `end` is that of the share
        lines = [
            window_text(w, self.offset, w.channels),
            f"{element} *const plane = ({element} *)(void *)scratch + {SLACK};",
            f"int32_t *const sums = (int32_t *)(void *)(scratch + {self.sums_at});",
            f"for (int32_t y0 = {first}; y0 < {last}; y0 += {self.rows}) {{",
            f"    const int32_t {stop} = y0 + {self.rows};",
            f"    const int32_t y1 = {stop} < {last} ? {stop} : {last};",
            f"    {self.grain.lay}(&window, in0, y0, y1, {w.padding[3]}, plane);",
            *(f"    {line}" for line in body.splitlines()),
            "}",
        ]
        return declared(own, "\n".join(lines))

    def entries(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """(entries of the runs at `places`): the place of each one's first element."""
        return (places[:, None] + np.arange(0, self.run, self.grain.width)).ravel()

    def places(self) -> NDArray[np.int64]:
        """(taps, runs of neighbours in a window): the place of every run's first element."""
        w = self.window
        down = np.arange(w.kernel[0]) * w.dilation[0] * w.row
        across = np.arange(1 if self.merged else w.kernel[1]) * w.dilation[1] * w.channels
        return (down[:, None] + across).ravel()

    @property
    def merged(self) -> bool:
        """Whether the elements of a window's row are neighbours."""
        w = self.window
        return w.groups == 1 and (w.dilation[1] == 1 or w.kernel[1] == 1)

    @property
    def run(self) -> int:
        """Neighbouring elements at each of `places`."""
        w = self.window
        return w.channels // w.groups * (w.kernel[1] if self.merged else 1)


def plane_of(graph: Graph, op: Op, tile: Tile = PAIR_TILE) -> Plane:
    """Plane of a conv2d or linear op, in pairs."""
    return Plane(_folded(window(graph, op)), -affine(graph, op.inputs[0])[1], tile=tile)


def quads_of(graph: Graph, op: Op, machine: Machine, block: int | None = None) -> Plane:
    """Plane of a conv2d or linear op in fours; `block` rows have a list in common, or all."""
    plane = replace(plane_of(graph, op), grain=QUADS)
    w = plane.window
    entries = w.kernel[0] * w.kernel[1] * w.channels // w.groups // QUADS.width
    tile = choose_tile(machine, w.outputs // w.groups, w.out_width, entries, block)
    return replace(plane, tile=tile)


def _folded(w: Window) -> Window:
    """A long row of pixels as several equal shorter ones, where nothing tells rows apart."""
    plain = w.kernel == (1, 1) and w.stride == (1, 1) and not any(w.padding)
    longest = min(BAND_BYTES_HOST // (2 * w.channels), MAX_FOLDED)
    if not plain or w.height > 1 or w.width <= longest:
        return w
    width = max(
        (d for d in range(PAIR_TILE.pixels, longest + 1) if w.width % d == 0), default=w.width
    )
    rows = w.width // width
    return replace(w, height=rows, width=width, out_height=rows, out_width=width)
