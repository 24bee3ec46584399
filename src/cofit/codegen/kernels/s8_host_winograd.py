"""int8 convolutions on a CPU with vectors, with a quarter or a third of the products.

Winograd's minimal filtering with 2x2 or 4x4 outputs, in integers: weights transformed by a multiple
of the usual matrix give 4 or 576 times the convolution, exactly (see `s8_host_winograd.h`). They
are transformed at run time, so that the program holds no more than the int8 weights. Source: Lavin
and Gray, Fast Algorithms for Convolutional Neural Networks, 2016.

3x3 kernels of stride 1 are such, and so is what many networks begin with: a 7x7 kernel of stride 2
over few channels is a 4x4 kernel of stride 1 over an image in which 2x2 pixels are one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cofit.codegen.kernel import Kernel, KernelCode, Residual
from cofit.codegen.kernels.minimal_filter import fold_taps
from cofit.codegen.kernels.s8_host import dense_rows
from cofit.codegen.kernels.s8_host_layer import (
    MACS_PER_CYCLE,
    TILE_ROWS,
    call_of,
    host_layer,
    host_support,
    in_place_of,
    no_vectors,
    reject_sum,
)
from cofit.codegen.kernels.s8_host_plane import SLACK, pair_tile
from cofit.codegen.kernels.s8_layer import (
    accumulator_bound,
    reject_weighted,
    weight_values,
    window_text,
)
from cofit.codegen.kernels.shares import count_of, share_outputs
from cofit.codegen.kernels.tile import split
from cofit.codegen.kernels.window import Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.ir.integer import affine

SIZES = (4, 2)  # outputs of a tile in each direction, of 3x3 kernels
FOLDED_SIZE = 3  # of the 4x4 kernels that 7x7 ones become
FOLD = 2
FOLDED_CHANNELS = range(2, 5)  # one channel has too few products, four pixels of five no vector
MIN_CHANNELS = 16  # inputs and outputs; below, transforms of windows and outputs dominate
TRANSFORM = 4  # tiles whose products take as long as the transform of the weights
MARGIN = 1.3  # time of one of its products, all else included, to that of a direct one
QUAD_MARGIN = 2.6  # and to one of four bytes at once
SCALE_BITS = {4: 6, 3: 6, 2: 2}  # that accumulators are shifted left by, modulo 2^32
WEIGHTS_BYTES = 32 << 20  # of transformed weights in the arena, at most
WHOLE_BYTES = 640 * 1024  # of transformed windows: about what a core's L2 holds
PART_BYTES = 40 * 1024  # and what its L1 holds


@dataclass(frozen=True)
class S8HostWinograd:
    """conv2d 3x3, stride 1, or 7x7, stride 2, on few channels, where no structure saves more.

    Attributes:
        size: outputs of a tile in each direction; decided by `Tiling.cost` if None.
    """

    size: int | None = None
    name = "s8-host-dense-winograd"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, other windows, large sums, small and large layers."""
        reason = no_vectors(machine) or reject_weighted(graph, op)
        if reason is not None:
            return reason
        w = window(graph, op)
        if (w.dilation, w.groups) != ((1, 1), 1):
            return "it is dilated or grouped"
        if (w.kernel, w.stride) == ((3, 3), (1, 1)):
            if w.channels < MIN_CHANNELS:
                return f"it has fewer than {MIN_CHANNELS} channels"
        elif (w.kernel, w.stride) != ((7, 7), (FOLD, FOLD)):
            return "it is neither 3x3 of stride 1 nor 7x7 of stride 2"
        elif machine.quads:
            return "7x7 kernels take no less time so than with products of four bytes at once"
        elif w.channels not in FOLDED_CHANNELS:
            return f"7x7 kernels on {w.channels} channels need few products, or no longer fit"
        elif int(weight_values(graph, op).min()) == -128:
            return "a weight of -128 may not fit when transformed"
        if w.outputs < MIN_CHANNELS:
            return f"it has fewer than {MIN_CHANNELS} outputs"
        tiling = self._tiling(graph, op, machine)
        return tiling if isinstance(tiling, str) else None

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """Sums that float32 gets wrong."""
        return reject_sum(graph, residual)

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """One call."""
        w = window(graph, op)
        t = self._tiling(graph, op, machine)
        assert isinstance(t, Tiling)
        taps = fold_taps(weight_values(graph, op), t.fold)
        even = np.pad(taps, ((0, 0), (0, 0), (0, 0), (0, t.channels % 2)))
        rows = dense_rows(even.reshape(1, w.outputs, -1))
        # a thread transforms all windows, but only the weights of its own outputs
        cycles = t.cost * w.channels * w.outputs / MACS_PER_CYCLE
        shares = share_outputs(machine, [1.0] * -(-w.outputs // TILE_ROWS), cycles)
        if shares is not None:
            t = replace(t, window=replace(w, outputs=shares.largest * TILE_ROWS))
        declaration, constants = host_layer(graph, op, rows, shares=shares, residual=residual)
        pixels, larger = split(t.tiles, pair_tile(machine).pixels)[0]
        fields = {
            "size": t.size, "fold": t.fold, "channels": w.channels, "padded": t.padded,
            "pairs": t.pairs,
            "line": t.line, "across": t.across, "down": t.down, "tiles": t.tiles,
            "larger": larger, "group": pixels, "height": w.out_height, "width": w.out_width,
        }  # fmt: skip
        items = ", ".join(f".{name} = {value}" for name, value in fields.items())
        plane, weights, tiles, sums = t.offsets
        body = "\n".join([
            declaration,
            # rows of whole pixels of the fold
            window_text(
                replace(w, kernel=(t.fold * t.taps,) * 2),
                -affine(graph, op.inputs[0])[1], w.channels,
            ),
            f"static const s8_winograd shape = {{{items}}};",
            f"int16_t *const plane = (int16_t *)(void *)(scratch + {plane});",
            f"int16_t *const transformed = (int16_t *)(void *)(scratch + {weights});",
            f"int16_t *const tiles = (int16_t *)(void *)(scratch + {tiles});",
            f"int32_t *const sums = (int32_t *)(void *)(scratch + {sums});",
            call_of(
                shares,
                f"s8_host_winograd(&shape, {{layer}}, &window, {t.right}, in0, plane, transformed, "
                "tiles, sums, {to});",
                op,
                residual,
            ),
        ])  # fmt: skip
        support = host_support(graph, "s8_host_winograd.h")
        return KernelCode(
            body, constants, support, t.scratch_bytes, variant=f"{t.size}x{t.size} outputs",
            in_place=in_place_of(op, residual) if t.rows % t.down == 0 else (),
            shares=count_of(shares),
        )  # fmt: skip

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """Other sizes of a tile."""
        formula = self._tiling(graph, op, machine)
        others = (S8HostWinograd(size) for size in SIZES)
        return [self, *(
            other for other in others
            if isinstance(formula, Tiling) and other.size != formula.size
            and other.reject(graph, op, machine) is None
        )]  # fmt: skip

    def _tiling(self, graph: Graph, op: Op, machine: Machine) -> Tiling | str:
        """The tiles that take least time, or why there are none."""
        w = window(graph, op)
        bound = int(accumulator_bound(graph, op).max())
        sizes = SIZES if w.stride == (1, 1) else (FOLDED_SIZE,)
        wanted = [size for size in sizes if self.size in (None, size)]
        exact = [size for size in wanted if bound << SCALE_BITS[size] < 1 << 31]
        if not exact:
            return "its accumulators may exceed int32 when scaled"
        best = min((Tiling(w, size) for size in exact), key=lambda tiling: tiling.cost)
        products = math.prod(w.kernel) * w.out_height * w.out_width * _kept(graph, op)
        margin = QUAD_MARGIN if machine.quads else MARGIN
        if margin * best.cost >= products:
            return "its products, transforms included, take longer than those of its kept weights"
        if best.weights_bytes > WEIGHTS_BYTES:
            return f"its transformed weights exceed {WEIGHTS_BYTES} bytes"
        return best


def _kept(graph: Graph, op: Op) -> float:
    """Share of the weights that a structured kernel multiplies."""
    dense = graph.tensors[op.inputs[1]].structure is None
    return 1.0 if dense else float((weight_values(graph, op) != 0).mean())


@dataclass(frozen=True)
class Tiling:
    """How a convolution is cut into tiles of outputs, and what lies in scratch.

    Attributes:
        window: the sliding window.
        size: outputs of a tile in each direction.
    """

    window: Window
    size: int

    @property
    def fold(self) -> int:
        """Pixels that make one, in each direction."""
        return self.window.stride[0]

    @property
    def taps(self) -> int:
        """Weights of a kernel in each direction, of pixels so folded."""
        return -(-self.window.kernel[0] // self.fold)

    @property
    def channels(self) -> int:
        """Channels of such pixels."""
        return self.fold**2 * self.window.channels

    @property
    def places(self) -> int:
        """Products for each tile, channel and output channel."""
        return (self.size + self.taps - 1) ** 2

    @property
    def cost(self) -> int:
        """Products for each channel of the image and output channel, transforms included."""
        return self.fold**2 * self.places * (self.across * self.rows + TRANSFORM)

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.window.out_width // self.size)

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.window.out_height // self.size)

    @property
    def down(self) -> int:
        """Rows of tiles at a time: all, or equal parts of which the last may overlap another."""
        line = 2 * self.places * self.padded * self.across
        most = max(1, (WHOLE_BYTES if self.rows * line <= WHOLE_BYTES else PART_BYTES) // line)
        parts = -(-self.rows // most)
        return -(-self.rows // parts)

    @property
    def tiles(self) -> int:
        """Tiles at a time."""
        return self.across * self.down

    @property
    def padded(self) -> int:
        """Channels of a tile, whole vectors of int16."""
        return -(-self.channels // 16) * 16

    @property
    def pairs(self) -> int:
        """Pairs of channels."""
        return (self.channels + 1) // 2

    @property
    def right(self) -> int:
        """Columns of padding on the right, such that whole tiles cover a row."""
        return self._columns - self.window.padding[2] - self.window.width

    @property
    def _columns(self) -> int:
        """Of the plane."""
        return self.fold * (self.size * self.across + self.taps - 1)

    @property
    def line(self) -> int:
        """Elements of a row of the plane."""
        return self._columns * self.window.channels

    @property
    def weights_bytes(self) -> int:
        """Bytes of transformed weights: of 16 rows where all tiles are at hand, else of all."""
        groups = 1 if self.down == self.rows else -(-self.window.outputs // TILE_ROWS)
        return 2 * groups * self.places * _step(2 * TILE_ROWS * self.pairs)

    @property
    def _parts(self) -> tuple[int, ...]:
        """Bytes of the plane, the transformed weights, the tiles and the sums."""
        return (
            2 * (self.fold * (self.size * self.down + self.taps - 1) * self.line + SLACK),
            self.weights_bytes,
            2 * self.places * _step(self.tiles * self.padded),
            4 * self.size**2 * self.tiles * TILE_ROWS,
        )

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where in scratch they lie, each aligned to 64 bytes."""
        ends = np.cumsum([-(-part // 64) * 64 for part in self._parts])
        return (0, *ends[:-1].tolist())

    @property
    def scratch_bytes(self) -> int:
        """All of them."""
        return int(sum(-(-part // 64) * 64 for part in self._parts))


def _step(elements: int) -> int:
    """As `s8_winograd_step`."""
    return (-(-elements // 32) | 1) * 32
