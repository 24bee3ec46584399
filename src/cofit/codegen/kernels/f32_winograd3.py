"""fp32 convolutions of 3x3 and stride 1 by minimal filtering, as a product of matrices per place.

Inputs of all tiles of some rows are transformed first, then for each place of a tile the tiles are
multiplied by the transformed weights, and at last the outputs are taken from the products (Lavin
and Gray, Fast Algorithms for Convolutional Neural Networks, 2016). The constants are the
transformed weights, 1.8 or four times as many as those of the convolution, and the sums round a few
times more, so that a formula cannot tell what it is worth: it is tried where layers are tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, Kernel, KernelCode, Residual
from cofit.codegen.kernels.f32_conv import pack_outputs
from cofit.codegen.kernels.f32_winograd import ALIGN_BYTES, combined
from cofit.codegen.kernels.minimal_filter import MinimalFilter, fold_taps
from cofit.codegen.kernels.shares import Shares, count_of, declared, range_of, share_rows
from cofit.codegen.kernels.tile import Tile, clamp, multiply, pretty, split, vector_type
from cofit.codegen.kernels.window import Window, clamps_before, in_place_of, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op

SIZES = (4, 2)
GROUP = 6  # tiles, times two vectors of outputs: twelve of sixteen registers
MOST_TILES = 256  # at a time; more use the weights of a place more often, and fit caches less
LINE_FLOATS = 16


@dataclass(frozen=True)
class F32Winograd3:
    """conv2d 3x3 of stride 1 with whole vectors of inputs and outputs.

    Attributes:
        size: outputs of a tile in each direction.
    """

    size: int = SIZES[0]
    name = "f32-winograd-3x3"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other windows, ragged channels, machines without vectors."""
        if op.kind != "conv2d":
            return f"{op.kind} is not a convolution"
        win = window(graph, op)
        if (win.kernel, win.stride, win.dilation, win.groups) != ((3, 3), (1, 1), (1, 1), 1):
            return "it is not 3x3 of stride 1"
        if machine.freestanding or machine.vector_floats < 8:
            return f"{machine.name} has no vectors of eight floats"
        if win.channels % machine.vector_floats or win.outputs % machine.vector_floats:
            return "its channels are not whole vectors"
        return None

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """Clamped outputs."""
        return clamps_before(op)

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """Both sizes of a tile."""
        return [F32Winograd3(size) for size in SIZES]

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """Tiles, products and outputs, some rows of tiles at a time."""
        win, lanes = window(graph, op, residual), machine.vector_floats
        vectors = 2 if win.outputs % (2 * lanes) == 0 else 1
        plan = Plan(win, self.size, Tile(lanes, vectors, GROUP))
        macs = plan.down * plan.across * plan.places * win.channels * win.outputs
        shares = share_rows(machine, plan.down, macs / (2 * lanes))
        weight = np.asarray(graph.tensors[op.inputs[1]].data, np.float32)
        bias = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)
        rows = plan.rows(plan.down if shares is None else shares.largest)
        return KernelCode(
            declared(shares, pretty(plan.body(rows, shares))),
            (
                Constant("weight", plan.pack(weight), ALIGN_BYTES),
                Constant("bias", bias, ALIGN_BYTES),
            ),
            scratch_bytes=plan.scratch_bytes(rows),
            in_place=in_place_of(win),
            variant=f"{self.size}x{self.size} outputs",
            shares=count_of(shares),
            bound=plan.bound,
        )


@dataclass(frozen=True)
class Plan:
    """Sizes of a layer, and its C.

    Scratch holds the padded input rows, the transformed tiles by place, tile and channel, and the
    products by place, tile and output channel.

    Attributes:
        window: of the convolution.
        size: outputs of a tile in each direction.
        tile: `pixels` tiles of outputs at a time, for `outputs` channels.
    """

    window: Window
    size: int
    tile: Tile

    @property
    def filter(self) -> MinimalFilter:
        """The transforms."""
        return MinimalFilter(self.size, 3)

    @property
    def places(self) -> int:
        """Products of a tile for each channel and output channel."""
        return self.filter.edge**2

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.window.out_width // self.size)

    @property
    def down(self) -> int:
        """Rows of tiles."""
        return -(-self.window.out_height // self.size)

    @property
    def blocks(self) -> int:
        """Of output channels."""
        return self.window.outputs // self.tile.outputs

    @property
    def padded(self) -> Window:
        """The window on an image that whole tiles cover."""
        win, (top, _, left, _) = self.window, self.window.padding
        bottom = self.size * self.down + 2 - top - win.height
        right = self.size * self.across + 2 - left - win.width
        return Window(
            win.channels, win.height, win.width, win.outputs, self.size * self.down,
            self.size * self.across, win.kernel, padding=(top, bottom, left, right),
        )  # fmt: skip

    def rows(self, most: int) -> int:
        """Rows of tiles at a time, of `most`: near-equal ones of at most `MOST_TILES` tiles."""
        parts = -(-most // max(1, MOST_TILES // self.across))
        return -(-most // parts)

    def _step(self, rows: int, channels: int) -> int:
        """Floats from place to place: an odd number of lines, which spreads them over a cache."""
        lines = -(-rows * self.across * channels // LINE_FLOATS)
        return (lines | 1) * LINE_FLOATS

    def _parts(self, rows: int) -> tuple[int, int, int]:
        """Floats of the padded rows, the tiles and the products, whole lines."""
        band = self.padded.band_bytes(self.size * rows) // 4
        tiles, products = (
            self.places * self._step(rows, n) for n in (self.window.channels, self.window.outputs)
        )
        return -(-band // LINE_FLOATS) * LINE_FLOATS, tiles, products

    def scratch_bytes(self, rows: int) -> int:
        """Of all parts."""
        return 4 * sum(self._parts(rows))

    def pack(self, weight: NDArray[np.float32]) -> NDArray[np.generic]:
        """(K, C, 3, 3) to [place][block][channel][outputs of a block], rounded once."""
        g = np.asarray(fold_taps(weight.astype(np.float64), 1))
        factors = np.einsum("ir,krsc,js->ijkc", self.filter.weights, g, self.filter.weights)
        by_place = factors.reshape(self.places, *factors.shape[2:])
        return np.stack([pack_outputs(each, 1, self.blocks, self.tile)[0] for each in by_place])

    def bound(self, arguments: Sequence[torch.Tensor]) -> torch.Tensor:
        """Largest rounding error of the outputs for an input, weights and bias in float64."""
        x, weight, bias = arguments
        found = self.filter.rounding_bound(x, weight, bias, 1, self.window.padding)
        return found[..., : self.window.out_height, : self.window.out_width]

    def body(self, rows: int, shares: Shares | None) -> str:
        """The whole layer, so many rows of tiles at a time."""
        first, last = range_of(shares, "rows", self.down)
        band, tiles, _ = self._parts(rows)
        return "\n".join([
            vector_type(self.tile.lanes, self.window.fused),
            f"float *const tiles = (float *)(void *)scratch + {band};",
            f"float *const products = tiles + {tiles};",
            f"for (int ty = {first}; ty < {last}; ty += {rows}) {{",
            f"const int count = ({last} - ty < {rows} ? {last} - ty : {rows}) * {self.across};",
            f"const int y0 = ty * {self.size};",
            self._band(),
            self._tiles(rows),
            f"for (int place = 0; place < {self.places}; ++place)",
            f"for (int b = 0; b < {self.blocks}; ++b) {{",
            self._products(rows),
            "}",
            self._outputs(rows),
            "}",
        ])  # fmt: skip

    def _band(self) -> str:
        """C that lays out the input rows of all tiles, if they need padding."""
        band = self.padded
        if not band.copied:
            return band.band_code()
        return f"const int y1 = y0 + count / {self.across} * {self.size};\n{band.band_code()}"

    def _tiles(self, rows: int) -> str:
        """C that transforms the inputs of all tiles, a vector of channels at a time."""
        edge, channels = self.filter.edge, self.window.channels
        step, row = self._step(rows, channels), self.padded.row
        text = [
            "for (int t = 0; t < count; ++t) {",
            f"const float *const d = x + t / {self.across} * {self.size * row} "
            f"+ t % {self.across} * {self.size * channels};",
            f"for (int c = 0; c < {channels}; c += {self.tile.lanes}) {{",
        ]
        for s in range(edge):
            text += [
                f"const vec d{r}_{s} = *(const vec *)(d + {r * row + s * channels} + c);"
                for r in range(edge)
            ]
            text += [
                f"const vec u{k}_{s} = {combined(row_, [f'd{r}_{s}' for r in range(edge)])};"
                for k, row_ in enumerate(self.filter.inputs)
            ]
        text.append(f"float *const to = tiles + t * {channels} + c;")
        for k in range(edge):
            text += [
                f"*(vec *)(to + {(k * edge + n) * step}) = "
                f"{combined(row_, [f'u{k}_{s}' for s in range(edge)])};"
                for n, row_ in enumerate(self.filter.inputs)
            ]
        return "\n".join([*text, "}", "}"])

    def _products(self, rows: int) -> str:
        """C of the products of block `b` at a place, groups of tiles after each other."""
        tile, channels, start = self.tile, self.window.channels, 0
        size = channels * tile.outputs
        text = [f"const float *const weights = weight + (place * {self.blocks} + b) * {size};"]
        for group, number in split(rows * self.across, tile.pixels):
            names = [(j, i) for i in range(group) for j in range(tile.vectors)]
            stop = start + group * number
            at = f"products + place * {self._step(rows, self.window.outputs)}"
            text += [
                # what lies behind the last tile is not taken to outputs
                f"for (int t = {start}; t < {stop} && t < count; t += {group}) {{",
                "const float *restrict w = weights;",
                f"const float *restrict p = tiles + place * {self._step(rows, channels)} "
                f"+ t * {channels};",
                *(f"vec a{j}_{i} = {{0.0f}};" for j, i in names),
                f"for (int c = 0; c < {channels}; ++c, ++p, w += {tile.outputs}) {{",
                multiply(tile, group, channels),
                "}",
                f"float *restrict const to = {at} + t * {self.window.outputs} "
                f"+ b * {tile.outputs};",
                *(
                    f"*(vec *)(to + {i * self.window.outputs + j * tile.lanes}) = a{j}_{i};"
                    for j, i in names
                ),
                "}",
            ]
            start = stop
        return "\n".join(text)

    def _outputs(self, rows: int) -> str:
        """C that takes the outputs of all tiles from their products."""
        win, edge, size = self.window, self.filter.edge, self.size
        step = self._step(rows, win.outputs)
        text = [
            "for (int t = 0; t < count; ++t) {",
            f"const int y = y0 + t / {self.across} * {size}, x1 = t % {self.across} * {size};",
            f"for (int k = 0; k < {win.outputs}; k += {self.tile.lanes}) {{",
            f"const float *const m = products + t * {win.outputs} + k;",
        ]
        for r in range(edge):
            text += [
                f"const vec m{r}_{s} = *(const vec *)(m + {(r * edge + s) * step});"
                for s in range(edge)
            ]
            text += [
                f"const vec s{r}_{n} = {combined(row, [f'm{r}_{s}' for s in range(edge)])};"
                for n, row in enumerate(self.filter.outputs)
            ]
        text += [
            "const vec add = *(const vec *)(bias + k);",
            f"const int at = (y * {win.out_width} + x1) * {win.outputs} + k;",
        ]
        for q, row in enumerate(self.filter.outputs):
            for n in range(size):
                sums = combined(row, [f"s{r}_{n}" for r in range(edge)])
                where = f"at + {(q * win.out_width + n) * win.outputs}"
                text += [
                    f"if (y + {q} < {win.out_height} && x1 + {n} < {win.out_width}) {{",
                    f"vec v = add + ({sums});",
                    f"v += *(const vec *)({win.addend} + {where});" if win.addend else "",
                    clamp("v", win.fused, self.tile.lanes),
                    f"*(vec *)(out + {where}) = v;",
                    "}",
                ]
        return "\n".join([*(line for line in text if line), "}", "}"])
