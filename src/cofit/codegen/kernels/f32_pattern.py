"""fp32 convolution with kernel patterns shared by several filters.

The filters of a group are the lanes of a vector. Kernels of one pattern form a run, whose taps are
constants of the code; the list holds input channels only. Where there are vectors and pixels to
fill them, `f32_planes` comes first.
"""

from __future__ import annotations

import numpy as np

from cofit.codegen.kernel import Constant, KernelCode, Residual
from cofit.codegen.kernels.block_lists import offset_type
from cofit.codegen.kernels.encoded import encoding_of, too_dense
from cofit.codegen.kernels.shares import count_of
from cofit.codegen.kernels.tile import (
    Tile,
    choose_tile,
    loop_nest,
    multiply,
    own_rows,
    pixel_loops,
    share_tiles,
)
from cofit.codegen.kernels.window import Window, clamps_before, in_place_of, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, kept_macs
from cofit.structures import Encoding

DENSITY_LIMIT = 0.75


class F32Pattern:
    """fkw encodings of any group; connectivity is one pattern of all positions."""

    name = "f32-pattern"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Only weights stored as fkw, and sparse enough."""
        encoding = encoding_of(graph, op, ("fkw",))
        if isinstance(encoding, str):
            return encoding
        if encoding.parameters["group"] == 1 and machine.vector_floats > 1:
            return "patterns of single filters are vectorised over pixels"
        return too_dense(encoding, DENSITY_LIMIT)

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """Clamped outputs."""
        return clamps_before(op)

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """One loop per pattern inside the register tile."""
        encoding = encoding_of(graph, op, ("fkw",))
        assert isinstance(encoding, Encoding)
        win, group = window(graph, op, residual), encoding.parameters["group"]
        arrays = encoding.arrays
        groups = arrays["offset"].size - 1
        length = arrays["values"].size // (groups * group)
        tile = choose_tile(machine, group, win.out_width, length, block=group, whole=True)
        reorder = arrays["reorder"].astype(np.int64)
        bias = np.zeros(groups * group, np.float32)
        bias[: win.outputs] = np.asarray(graph.tensors[op.inputs[2]].data, np.float32)[reorder]
        costs = np.diff(arrays["offset"].astype(np.int64)) + 1
        shares = share_tiles(
            win, machine, kept_macs(graph, op), costs.tolist(), arrays["values"].nbytes
        )
        rows, patterns = own_rows(win, machine, shares), encoding.parameters["patterns"]
        size = encoding.parameters["entries"] * group
        prepare = (
            f"const int k = b * {group}, n0 = offset[b];\n"
            f"const uint16_t *const run = stride + b * {patterns + 1};\n"
            f"const float *const weights = weight + n0 * {size};"
        )
        body = loop_nest(
            win, rows, tile, groups, arrays["values"].nbytes, prepare,
            pixel_loops(
                win, tile, lambda pixels: _accumulate(win, tile, pixels, encoding), "bias + k",
                scattered=win.outputs,
            ),
            shares,
        )  # fmt: skip
        align = 4 * tile.lanes
        return KernelCode(
            body,
            (
                Constant("offset", arrays["offset"].astype(np.int32)),
                Constant("channel", offset_type(reorder)),
                Constant("index", offset_type(arrays["index"].astype(np.int64))),
                Constant("stride", arrays["stride"].astype(np.uint16)),
                Constant("weight", arrays["values"], align),
                Constant("bias", bias, align),
            ),
            scratch_bytes=win.band_bytes(rows),
            in_place=in_place_of(win),
            variant=f"pattern group {group}, {tile.outputs} outputs x {tile.pixels} pixels",
            shares=count_of(shares),
        )


def taps(mask: int, columns: int) -> list[tuple[int, int]]:
    """(r, s) of the positions in a pattern."""
    return [divmod(bit, columns) for bit in range(mask.bit_length()) if mask >> bit & 1]


def _accumulate(win: Window, tile: Tile, pixels: int, encoding: Encoding) -> str:
    group, entries = encoding.parameters["group"], encoding.parameters["entries"]
    lines = [
        "const float *restrict w = weights;",
        "const "
        + ("uint16_t" if win.channels < 65536 else "int32_t")
        + " *restrict c = index + n0;",
    ]
    for pattern in range(encoding.parameters["patterns"]):
        mask = encoding.parameters[f"pattern{pattern}"]
        lines.append(
            f"for (int n = run[{pattern}]; n < run[{pattern + 1}]; "
            f"++n, ++c, w += {entries * group}) {{"
        )
        lines.append("const float *restrict p = q + *c;")
        for entry, (r, s) in enumerate(taps(mask, win.kernel[1])):
            lines += [
                "{",
                multiply(
                    tile, pixels, win.pixel, f"(p + {win.offset(0, r, s)})",
                    f"(w + {entry * group})",
                ),
                "}",
            ]  # fmt: skip
        lines.append("}")
    return "\n".join(lines)
