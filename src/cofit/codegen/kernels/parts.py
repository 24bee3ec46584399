"""Parts of the input channels, so that what a tile reads of one lies in the L1."""

from __future__ import annotations

from dataclasses import replace

from cofit.codegen.kernels.tile import L1_BYTES, Tile
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine

LEAST_PART = 8  # channels, to be worth a round of partial sums
LEAST_TILES = 4  # that share a part's weights, to be worth it


def can_split(window: Window, machine: Machine) -> bool:
    """Whether channels may be taken in parts, with partial sums in the output.

    Whole vectors of outputs are needed, to begin with them; a 1x1 kernel reads each input once.
    """
    return (
        machine.vector_floats > 1
        and window.groups == 1
        and window.kernel != (1, 1)
        and window.outputs % machine.vector_floats == 0
    )


def split_channels(window: Window, tile: Tile, weight_bytes: float) -> Window:
    """The window with as few parts as let a tile's weights and inputs of a part lie in the L1.

    Args:
        window: the convolution.
        tile: its register tile.
        weight_bytes: of one tile of outputs and one input channel.
    """
    if window.out_height * window.out_width < LEAST_TILES * tile.pixels:
        return window
    rows, columns = window.reach
    pixels = rows * ((tile.pixels - 1) * window.stride[1] + columns)
    return parts_for(window, weight_bytes + 4 * pixels)


def parts_for(window: Window, channel_bytes: float) -> Window:
    """The window with as few equal parts as have at most `L1_BYTES` of so many bytes a channel.

    Where even the least part has more, it is the least.
    """
    best = window
    for parts in range(1, window.channels // LEAST_PART + 1):
        if window.channels % parts == 0:
            best = replace(window, parts=parts)
            if best.held * channel_bytes <= L1_BYTES:
                break
    return best
