"""From accumulators to stored integers: requantise, add the output offset, clamp."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cofit.ir.integer.accumulate import Ints
from cofit.ir.integer.requantise import Int64, requantise, requantise_wide
from cofit.ir.types import Rounding

Bounds = tuple[int, int]
"""Least and greatest stored output, both included."""

_CACHED = 1 << 15  # accumulators worked on at a time, so that temporaries stay in the L2 cache


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

    def __call__(self, acc: Int64, dtype: DTypeLike, channel_axis: int = -1) -> Ints:
        """Stored outputs of accumulators (N, ...) whose channels lie along `channel_axis`."""
        multiplier, shift = (
            _along(values, channel_axis, acc.ndim) for values in (self.multiplier, self.shift)
        )
        stored: Ints = np.empty(acc.shape, dtype)
        step = max(1, _CACHED // max(1, math.prod(acc.shape[1:])))
        for start in range(0, len(acc), step):
            part = slice(start, start + step)
            if self.wide:
                scaled = requantise_wide(acc[part], multiplier, shift)
            else:
                scaled = requantise(acc[part], multiplier, shift, self.rounding)
            scaled += self.output_offset
            stored[part] = np.clip(scaled, *self.bounds, out=scaled)
        return stored


def _along(values: ArrayLike, axis: int, rank: int) -> NDArray[np.int64]:
    array = np.asarray(values, np.int64)
    if array.ndim == 0:
        return array
    shape = [1] * rank
    shape[axis] = array.size
    return array.reshape(shape)
