"""From accumulators to stored integers: requantise, add the output offset, clamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cofit.ir.integer.requantise import Int64, requantise, requantise_wide
from cofit.ir.types import Rounding

Bounds = tuple[int, int]
"""Least and greatest stored output, both included."""


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What follows an accumulation.

    Attributes:
        multiplier: int32, one or one per output channel.
        shift: int32, like `multiplier`.
        output_offset: zero point of the output.
        bounds: clamp of the stored output.
        rounding: of the requantisation.
        wide: 64-bit accumulators with a 16-bit multiplier (int16 kernels with int64 biases).
    """

    multiplier: ArrayLike
    shift: ArrayLike
    output_offset: int
    bounds: Bounds
    rounding: Rounding = Rounding.DOUBLE
    wide: bool = False

    def __call__(self, acc: Int64, channel_axis: int = -1) -> Int64:
        """Stored outputs of accumulators whose channels lie along `channel_axis`."""
        multiplier, shift = (
            _along(values, channel_axis, acc.ndim) for values in (self.multiplier, self.shift)
        )
        if self.wide:
            scaled = requantise_wide(acc, multiplier, shift)
        else:
            scaled = requantise(acc, multiplier, shift, self.rounding)
        return clamp(scaled + self.output_offset, self.bounds)


def clamp(values: Int64, bounds: Bounds) -> Int64:
    """Values limited to `bounds`."""
    limited: Int64 = np.clip(values, *bounds)
    return limited


def _along(values: ArrayLike, axis: int, rank: int) -> NDArray[np.int64]:
    array = np.asarray(values, np.int64)
    if array.ndim == 0:
        return array
    shape = [1] * rank
    shape[axis] = array.size
    return array.reshape(shape)
