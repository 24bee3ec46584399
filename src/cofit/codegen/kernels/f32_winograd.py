"""fp32 convolutions of 7x7 and stride 2 over few channels by minimal filtering.

What many networks begin with is most of a pruned one, for it stays dense and every MAC of it is
executed. Folding 2x2 pixels into one makes it a 4x4 convolution of stride 1, of which a tile of
outputs takes fewer products (`minimal_filter`). The weights are transformed when the program is
emitted; rows of the image are transformed first, whole lines at a time, then columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, Kernel, KernelCode
from cofit.codegen.kernels.f32_conv import pack_outputs
from cofit.codegen.kernels.minimal_filter import MinimalFilter, fold_taps
from cofit.codegen.kernels.shares import count_of, declared, range_of, share_rows
from cofit.codegen.kernels.tile import Tile, clamp, multiply, pretty, split, vector_type
from cofit.codegen.kernels.window import Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op

FOLD = 2
KERNEL = (7, 7)
SIZE = 3  # outputs of a tile; four take 0.86 of the time and round twice as much
TILES = 6  # of a group, times two vectors of outputs: twelve of sixteen registers
ALIGN_BYTES = 64


@dataclass(frozen=True)
class F32Winograd:
    """conv2d 7x7 of stride 2 where a vector holds the channels of two pixels."""

    name = "f32-winograd"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other windows, and machines without vectors."""
        if op.kind != "conv2d":
            return f"{op.kind} is not a convolution"
        win = window(graph, op)
        if (win.kernel, win.stride, win.dilation, win.groups) != (
            KERNEL, (FOLD, FOLD), (1, 1), 1,
        ):  # fmt: skip
            return "it is not 7x7 of stride 2"
        if machine.freestanding or machine.vector_floats < FOLD * win.channels:
            return "a vector does not hold the channels of two pixels"
        if win.outputs % machine.vector_floats:
            return "its outputs are not whole vectors"
        return None

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """None: it is compared with direct code."""
        return [self]

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Lines, tiles, products and outputs, one row of tiles after the other."""
        win = window(graph, op)
        vectors = 2 if win.outputs % (2 * machine.vector_floats) == 0 else 1
        plan = Plan(win, Tile(machine.vector_floats, vectors, TILES))
        weight = np.asarray(graph.tensors[op.inputs[1]].data, np.float32)
        bias = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)
        macs = plan.rows * plan.across * plan.places * plan.channels * win.outputs
        shares = share_rows(machine, plan.rows, macs / (2 * machine.vector_floats))
        first, last = range_of(shares, "rows", plan.rows)
        body = pretty("\n".join([
            vector_type(machine.vector_floats, win.fused),
            *plan.buffers(),
            f"for (int ty = {first}; ty < {last}; ++ty) {{",
            plan.lines(),
            plan.tiles(),
            f"for (int b = 0; b < {plan.blocks}; ++b) {{",
            plan.products(),
            "}",
            "}",
        ]))  # fmt: skip
        return KernelCode(
            declared(shares, body),
            (
                Constant("weight", plan.pack(weight), ALIGN_BYTES),
                Constant("bias", bias, ALIGN_BYTES),
            ),
            scratch_bytes=plan.scratch_bytes,
            variant=f"{SIZE}x{SIZE} outputs",
            shares=count_of(shares),
            bound=plan.bound,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Sizes of a layer, and its C.

    Scratch holds a line of zeros, the transformed lines by place and row of a pair, and the tiles
    by place, tile and channel, all float.

    Attributes:
        window: of the convolution.
        tile: `pixels` tiles of outputs at a time, for `outputs` channels.
    """

    window: Window
    tile: Tile

    @property
    def filter(self) -> MinimalFilter:
        """Of folded pixels."""
        return MinimalFilter(SIZE, -(-KERNEL[0] // FOLD))

    @property
    def places(self) -> int:
        """Products of a tile for each channel and output channel."""
        return self.filter.edge**2

    @property
    def run(self) -> int:
        """Floats of two neighbouring pixels."""
        return FOLD * self.window.channels

    @property
    def channels(self) -> int:
        """Of a folded pixel."""
        return FOLD * self.run

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.window.out_width // SIZE)

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.window.out_height // SIZE)

    @property
    def blocks(self) -> int:
        """Of output channels."""
        return self.window.outputs // self.tile.outputs

    @property
    def wide(self) -> int:
        """Floats of an input row."""
        return self.window.width * self.window.channels

    @property
    def line(self) -> int:
        """Floats of a transformed line: tiles with their margins, and what a vector reads over."""
        tiles = self.run * (SIZE * self.across + self.filter.taps - 1)
        whole = self.window.padding[2] * self.window.channels + self.wide
        return max(tiles, whole) + self.tile.lanes

    @property
    def step(self) -> int:
        """Floats from one place of the tiles to the next: a vector is written over the end."""
        return self.across * self.channels + self.tile.lanes

    @property
    def scratch_bytes(self) -> int:
        """The zeros, the lines and the tiles."""
        edge = self.filter.edge
        return 4 * (self.wide + FOLD * edge * self.line + self.places * self.step)

    def pack(self, weight: NDArray[np.float32]) -> NDArray[np.generic]:
        """(K, C, 7, 7) to [block][place][channel][outputs of a block], rounded once."""
        g = np.asarray(fold_taps(weight.astype(np.float64), FOLD))
        factors = np.einsum("ir,krsc,js->kijc", self.filter.weights, g, self.filter.weights)
        return pack_outputs(factors.reshape(len(weight), -1), 1, self.blocks, self.tile)

    def bound(self, arguments: Sequence[torch.Tensor]) -> torch.Tensor:
        """Largest rounding error of the outputs for an input, weights and bias in float64."""
        x, weight, bias = arguments
        found = self.filter.rounding_bound(x, weight, bias, FOLD, self.window.padding)
        return found[..., : self.window.out_height, : self.window.out_width]

    def buffers(self) -> list[str]:
        """C of the parts of scratch; margins of the lines are written once, as zeros."""
        lines = self.wide + FOLD * self.filter.edge * self.line
        return [
            "float *const zeros = (float *)(void *)scratch;",
            f"float *const lines = zeros + {self.wide};",
            f"float *const tiles = zeros + {lines};",
            f"__builtin_memset(zeros, 0, {lines} * sizeof(float));",
        ]

    def lines(self) -> str:
        """C that transforms the input rows of a row of tiles."""
        win, edge = self.window, self.filter.edge
        top, left = win.padding[0], win.padding[2] * win.channels
        text = [f"for (int f = 0; f < {FOLD}; ++f) {{"]
        for i in range(edge):
            y = f"{FOLD} * ({SIZE} * ty + {i}) + f - {top}"
            text += [
                f"const int y{i} = {y};",
                f"const float *restrict const r{i} = "
                f"y{i} >= 0 && y{i} < {win.height} ? in0 + y{i} * {self.wide} : zeros;",
                f"float *restrict const l{i} = lines + ({i} * {FOLD} + f) * {self.line} + {left};",
            ]
        text.append(f"for (int i = 0; i < {self.wide}; ++i) {{")
        text += [
            f"l{k}[i] = {combined(row, [f'r{i}[i]' for i in range(edge)])};"
            for k, row in enumerate(self.filter.inputs)
        ]
        return "\n".join([*text, "}", "}"])

    def tiles(self) -> str:
        """C that transforms the columns of all tiles of a row."""
        edge = self.filter.edge
        text = [
            f"for (int t = 0; t < {self.across}; ++t)",
            f"for (int k = 0; k < {edge}; ++k)",
            # a vector reaches into the next pair's place, which is written after it
            f"for (int f = 0; f < {FOLD}; ++f) {{",
            f"const float *const x = lines + (k * {FOLD} + f) * {self.line} "
            f"+ t * {SIZE * self.run};",
            f"float *const to = tiles + k * {edge * self.step} + t * {self.channels} "
            f"+ f * {self.run};",
        ]
        text += [f"const vec d{i} = *(const vec *)(x + {i * self.run});" for i in range(edge)]
        text += [
            f"*(vec *)(to + {k * self.step}) = {combined(row, [f'd{i}' for i in range(edge)])};"
            for k, row in enumerate(self.filter.inputs)
        ]
        return "\n".join([*text, "}"])

    def products(self) -> str:
        """C of all products and outputs of block `b`, groups of tiles after each other."""
        text, start = [f"const int k = b * {self.tile.outputs};"], 0
        for size, count in split(self.across, self.tile.pixels):
            stop = start + size * count
            text += [
                f"for (int t = {start}; t < {stop}; t += {size}) {{",
                f"float products[{self.places * size * self.tile.outputs}];",
                self._group(size),
                f"for (int i = 0; i < {size}; ++i) {{",
                self._outputs(size),
                "}",
                "}",
            ]
            start = stop
        return "\n".join(text)

    def _group(self, size: int) -> str:
        """C of the products of `size` tiles from `t` on."""
        tile = self.tile
        names = [(j, i) for i in range(size) for j in range(tile.vectors)]
        per_block = self.places * self.channels * tile.outputs
        return "\n".join([
            f"const float *restrict w = weight + b * {per_block};",
            f"for (int place = 0; place < {self.places}; ++place) {{",
            f"const float *restrict p = tiles + place * {self.step} + t * {self.channels};",
            *(f"vec a{j}_{i} = {{0.0f}};" for j, i in names),
            f"for (int c = 0; c < {self.channels}; ++c, ++p, w += {tile.outputs}) {{",
            multiply(tile, size, self.channels),
            "}",
            f"float *restrict const to = products + place * {size * tile.outputs};",
            *(
                f"*(vec *)(to + {i * tile.outputs + j * tile.lanes}) = a{j}_{i};"
                for j, i in names
            ),
            "}",
        ])  # fmt: skip

    def _outputs(self, size: int) -> str:
        """C of the outputs of the tile `t + i`."""
        win, tile, edge = self.window, self.tile, self.filter.edge
        text = [
            f"const int y = {SIZE} * ty, x = {SIZE} * (t + i);",
            f"float *const o = out + (y * {win.out_width} + x) * {win.outputs} + k;",
            f"for (int j = 0; j < {tile.outputs}; j += {tile.lanes}) {{",
            f"const float *const m = products + i * {tile.outputs} + j;",
        ]
        for r in range(edge):
            text += [
                f"const vec m{r}_{s} = *(const vec *)(m + {(r * edge + s) * size * tile.outputs});"
                for s in range(edge)
            ]
            text += [
                f"const vec s{r}_{n} = {combined(row, [f'm{r}_{s}' for s in range(edge)])};"
                for n, row in enumerate(self.filter.outputs)
            ]
        text.append("const vec add = *(const vec *)(bias + k + j);")
        for n in range(SIZE):
            for q, row in enumerate(self.filter.outputs):
                sums = combined(row, [f"s{r}_{n}" for r in range(edge)])
                at = (q * win.out_width + n) * win.outputs
                text += [
                    f"if (y + {q} < {win.out_height} && x + {n} < {win.out_width}) {{",
                    f"vec v = add + ({sums});",
                    clamp("v", win.fused, tile.lanes),
                    f"*(vec *)(o + {at} + j) = v;",
                    "}",
                ]
        return "\n".join([*(line for line in text if line), "}"])


def combined(factors: NDArray[np.float64], names: Sequence[str]) -> str:
    """C of the sum of `names` times `factors`."""
    terms = []
    for factor, name in zip(factors.tolist(), names, strict=True):
        if factor:
            sign = "-" if factor < 0 else "+"
            terms.append(f"{sign} " + (name if abs(factor) == 1 else f"{abs(factor)!r}f * {name}"))
    return " ".join(terms).removeprefix("+ ")
