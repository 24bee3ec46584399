"""C that reads a layer's input from planes of channels, and leaves its output in such.

A tile of pixels is then stored where it belongs, without a turn: the rows of the output lie as far
apart as those of the planes it is computed on, with something meaningless between them.
"""

from __future__ import annotations

from cofit.codegen.kernels.f32_elementwise import FUNCTIONS
from cofit.codegen.kernels.plane_loops import Planes, PlaneTile
from cofit.codegen.kernels.window import Window
from cofit.codegen.layout import PlaneLayout


def copy_row(
    win: Window, planes: Planes, source: PlaneLayout, first: int, count: int, start: int
) -> str:
    """C that copies so many pixels of input row `h` to column `first` of each plane at `to`.

    Args:
        win: the convolution.
        planes: of the band.
        source: how the input lies.
        first: column in the plane.
        count: of the row's pixels, `win.stride[1]` apart.
        start: the first pixel.
    """
    each, step = f"to + c * {planes.phases * planes.size} + {first}", win.stride[1]
    row = f"in0 + c * {source.size} + h * {source.pitch} + {start}"
    loop = f"for (int c = 0; c < {win.channels}; ++c)"
    if step == 1:
        return f"{loop} __builtin_memcpy({each}, {row}, {count} * sizeof(float));"
    return f"{loop}\nfor (int i = 0; i < {count}; ++i) ({each})[i] = ({row})[i * {step}];"


def open_band(planes: Planes, last: str) -> str:
    """C of the pixels of the band at `y0` that are before row `last`, and of where they go."""
    rows = f"({last} - y0 < {planes.rows} ? {last} - y0 : {planes.rows})"
    return "\n".join([
        f"const int pixels = ({rows} - 1) * {planes.width} + {planes.win.out_width};",
        f"float *const band = out + y0 * {planes.width};",
    ])  # fmt: skip


def open_tile(tile: PlaneTile, target: PlaneLayout) -> str:
    """C of `to` and `apart`, where channels of the tile at `i0` are stored.

    In place, unless the tile ends behind the band: there other rows lie, or another channel.
    """
    return "\n".join([
        f"const int whole = i0 + {tile.pixels} <= pixels;",
        "float *const to = whole ? band + i0 : t;",
        f"const int apart = whole ? {target.size} : {tile.pixels};",
    ])  # fmt: skip


def close_tile(win: Window, planes: Planes, tile: PlaneTile, target: PlaneLayout) -> str:
    """C that adds the residual to the tile at `to`, and takes it to its place from `t`."""
    lines = [f"const int n = whole ? {tile.pixels} : pixels - i0;"] if win.addend else []
    if win.addend:
        lines += [
            f"for (int c = 0; c < {win.outputs}; ++c) {{",
            "float *const o = to + c * apart;",
            f"const float *const z = {win.addend} + c * {target.size} + y0 * {planes.width} + i0;",
            "for (int i = 0; i < n; ++i) {",
            "const float v = o[i] + z[i];",
            f"o[i] = {FUNCTIONS.get(win.fused, 'v')};",
            "}",
            "}",
        ]
    lines += [
        "if (!whole)",
        f"for (int c = 0; c < {win.outputs}; ++c)",
        f"__builtin_memcpy(band + c * {target.size} + i0, t + c * {tile.pixels}, "
        "(pixels - i0) * sizeof(float));",
    ]
    return "\n".join(lines)
