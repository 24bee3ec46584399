"""An array of T_m x T_n multipliers in an FPGA: utilisation, buffers, search, and imbalance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import TargetError
from cofit.targets.platforms.work import ACTIVATION_BITS, WEIGHT_BITS, LayerWork, Mask

ACCUMULATOR_BITS = 32
Number = int | NDArray[np.int64]


@dataclass(frozen=True)
class Tile:
    """Filters and channels that the array works on at once."""

    filters: int
    channels: int


def utilisation(filters: int, channels: int, tile: Tile) -> float:
    """Share of the multipliers that have work, over all passes of a dense layer."""
    passes = -(-filters // tile.filters) * -(-channels // tile.channels)
    return filters * channels / (passes * tile.filters * tile.channels)


def cycles(work: LayerWork, filters: Number, channels: Number) -> Number:
    """Cycles of a dense layer on arrays of such sides: one tap of one pixel per pass and cycle."""
    passes = -(-work.filters // filters) * -(-work.channels // channels)
    found: Number = passes * work.taps * work.height * work.width
    return found


def buffer_bits(work: LayerWork, filters: Number, channels: Number, rows: int = 1) -> Number:
    """Bits of the double-buffered tiles of inputs, weights and sums, `rows` output rows at once."""
    side = round(work.taps**0.5)
    strip = (rows + side - 1) * (work.width + side - 1)
    inputs = channels * strip * ACTIVATION_BITS[work.precision]
    weights = filters * channels * work.taps * WEIGHT_BITS[work.precision]
    sums = filters * rows * work.width * ACCUMULATOR_BITS
    found: Number = 2 * (inputs + weights + sums)
    return found


def best_tile(works: Sequence[LayerWork], multipliers: float, bram_bits: float) -> Tile:
    """The array with the fewest cycles over all layers, by trying every one that fits.

    Args:
        works: layers of one precision.
        multipliers: MACs per cycle that the fabric has room for.
        bram_bits: of all buffers.

    Raises:
        TargetError: none fits.
    """
    most = int(multipliers)
    top_m = max(1, min(most, max(work.filters for work in works)))
    top_n = max(1, min(most, max(work.channels for work in works)))
    filters, channels = (
        grid.ravel()
        for grid in np.meshgrid(np.arange(1, top_m + 1), np.arange(1, top_n + 1), indexing="ij")
    )
    small = filters * channels <= most
    filters, channels = filters[small], channels[small]
    fits = np.ones(len(filters), bool)
    total = np.zeros(len(filters), np.int64)
    for work in works:
        fits &= np.asarray(buffer_bits(work, filters, channels)) <= bram_bits
        total += cycles(work, filters, channels)
    if not fits.any():
        raise TargetError(
            f"no array fits {most} multipliers and {bram_bits / 8e3:.0f} KB of buffers for layers "
            f"{', '.join(work.name for work in works[:3])}; choose a larger device or narrower "
            "layers"
        )
    filters, channels, total = filters[fits], channels[fits], total[fits]
    best = np.lexsort((filters * channels, total))[0]
    return Tile(int(filters[best]), int(channels[best]))


def balance(kept: Mask, lanes: int, taps_together: int) -> float:
    """Share of the lanes' time that is work: mean over largest work, summed over steps.

    Every lane takes a filter; `lanes` filters go together, and wait for the slowest of them after
    every `taps_together` columns of the mask, when all move to the next input tile. Lanes without a
    filter count as not there.

    Args:
        kept: (M, C) weights that are not zero.
        lanes: T_m.
        taps_together: columns of a step: T_n channels times the taps of a kernel.
    """
    waiting = worked = 0
    for first in range(0, len(kept), lanes):
        group = kept[first : first + lanes]
        padded = np.pad(group, ((0, 0), (0, -group.shape[1] % taps_together)))
        work = padded.reshape(len(group), -1, taps_together).sum(2)
        worked += int(work.sum())
        waiting += int(work.max(0).sum()) * len(group)
    return worked / waiting if waiting else 1.0
