"""fp32 convolution and linear whose removed output channels are not computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.block_lists import fill_idle, offset_type
from cofit.codegen.kernels.encoded import encoding_of, too_dense
from cofit.codegen.kernels.f32_conv import accumulate_dense, pack_outputs, taps_last
from cofit.codegen.kernels.shares import Shares, count_of, filled_range, range_of
from cofit.codegen.kernels.tile import (
    choose_tile,
    loop_nest,
    own_rows,
    pixel_loops,
    share_tiles,
)
from cofit.codegen.kernels.window import Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, kept_macs
from cofit.structures import Encoding

DENSITY_LIMIT = 0.95


class F32Channel:
    """`kept` encodings: the dense loop over kept channels; the others are their bias."""

    name = "f32-channel"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Only weights stored as kept channels."""
        encoding = encoding_of(graph, op, ("kept",))
        return encoding if isinstance(encoding, str) else too_dense(encoding, DENSITY_LIMIT)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Every output pixel starts as the activated biases; kept channels overwrite theirs."""
        encoding = encoding_of(graph, op, ("kept",))
        assert isinstance(encoding, Encoding)
        win = window(graph, op)
        kept = encoding.arrays["kept"].astype(np.int64)
        bias = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)
        fill, rest = fill_idle(win, bias)
        if not kept.size:
            return KernelCode(f"(void)in0;\n{fill}", (rest,), variant="no channel kept")
        tile = choose_tile(machine, kept.size, win.out_width, win.entries)
        blocks = -(-kept.size // tile.outputs)
        values = encoding.arrays["values"].reshape(kept.size, *encoding.shape[1:])
        packed = pack_outputs(taps_last(values), 1, blocks, tile)
        shares = share_tiles(win, machine, kept_macs(graph, op), [1.0] * blocks, packed.nbytes)
        rows, align = own_rows(win, machine, shares), 4 * tile.lanes
        body = loop_nest(
            win, rows, tile, blocks, packed.nbytes,
            f"const int k = b * {tile.outputs};\n"
            f"const float *const weights = weight + b * {packed.size // blocks};",
            pixel_loops(
                win, tile, lambda pixels: accumulate_dense(win, tile, pixels), "bias + k",
                scattered=kept.size,
            ),
            shares, _fill(win, shares, kept, tile.outputs),
        )  # fmt: skip
        return KernelCode(
            body,
            (
                rest,
                Constant("channel", offset_type(kept)),
                Constant("weight", packed, align),
                Constant("bias", pack_outputs(bias[kept][:, None], 1, blocks, tile), align),
            ),
            scratch_bytes=win.band_bytes(rows),
            variant=f"{kept.size} of {win.outputs} channels, {tile.outputs} x {tile.pixels} pixels",
            shares=count_of(shares),
        )


def _fill(win: Window, shares: Shares | None, kept: NDArray[np.int64], height: int) -> str:
    """C that sets the outputs of a share to what their biases alone give."""
    top, bottom = range_of(shares, "rows", win.out_height)
    declaration, first, last = filled_range(shares, kept, height, win.outputs)
    return "\n".join([
        *([declaration] if declaration else []),
        f"for (int i = {top} * {win.out_width}; i < {bottom} * {win.out_width}; ++i)",
        f"for (int j = {first}; j < {last}; ++j) out[i * {win.outputs} + j] = rest[j];",
    ])  # fmt: skip
