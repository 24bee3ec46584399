"""Scaling an int32 accumulator by a real number with integers only.

A positive real m is held as (multiplier, shift) with m = multiplier / 2^31 * 2^shift,
multiplier in [2^30, 2^31), the convention of TFLite and CMSIS-NN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cofit.core import UnsupportedOpError
from cofit.ir.types import Rounding

Int64 = NDArray[np.int64]


def quantise_multiplier(real: float, bits: int = 31) -> tuple[int, int]:
    """(multiplier, shift) nearest to a real factor, with `bits` significant bits at most.

    Raises:
        UnsupportedOpError: the factor is not positive and finite, or its shift leaves [-31, 30].
    """
    if not (math.isfinite(real) and real > 0):
        raise UnsupportedOpError(f"requantisation factor {real} is not a positive finite number")
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << bits) + 0.5) << (31 - bits)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:  # smaller than the least int32 weight of an accumulator: always rounds to zero
        multiplier, shift = 0, 0
    if shift > 30:
        raise UnsupportedOpError(
            f"requantisation factor {real} needs a left shift of {shift}, the most is 30; "
            "calibrate on data with a wider range"
        )
    return multiplier, shift


def multiplier_of(
    reals: Sequence[float], bits: int = 31
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`quantise_multiplier` over a sequence, as two int32 arrays."""
    pairs = [quantise_multiplier(real, bits) for real in reals]
    return (
        np.array([multiplier for multiplier, _ in pairs], np.int32),
        np.array([shift for _, shift in pairs], np.int32),
    )


def requantise(
    acc: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, rounding: Rounding
) -> Int64:
    """Scale accumulators; all arguments broadcast together.

    Double rounding: t = (acc * 2^max(shift,0) * multiplier + 2^30) >> 31, then a right shift by
    max(-shift, 0) rounding half away from zero. Single and short rounding:
    ((acc * multiplier) >> (30 - shift) + 1) >> 1. The product with 2^max(shift,0) must fit int32,
    as it must in C; `ir.integer` proves accumulators in range.
    """
    mult64 = np.asarray(multiplier, np.int64)
    shift64 = np.asarray(shift, np.int64)
    if rounding is not Rounding.DOUBLE:
        scaled: Int64 = (np.asarray(acc, np.int64) * mult64) >> (30 - shift64)
        scaled += 1
        scaled >>= 1
        return scaled
    high: Int64 = np.asarray(acc, np.int64) * (mult64 << np.maximum(shift64, 0))
    high += 1 << 30
    high >>= 31
    right = np.maximum(-shift64, 0)
    # half of 2^right, less one below zero: a tie then goes away from zero
    away = (high >> 63) * (right > 0)
    high += (np.int64(1) << right) >> 1
    high += away
    high >>= right
    return high


def requantise_wide(acc: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> Int64:
    """Scale 64-bit accumulators of int16 kernels, with the multiplier reduced to 16 bits.

    ((acc * m16) >> (14 - shift) + 1) >> 1 with m16 = round(multiplier / 2^16), at most 2^15 - 1:
    the rule of CMSIS-NN and TFLite for int16 activations with int64 biases.
    """
    mult64 = np.asarray(multiplier, np.int64)
    reduced = np.minimum((mult64 + (1 << 15)) >> 16, 0x7FFF)
    scaled = (np.asarray(acc, np.int64) * reduced) >> (14 - np.asarray(shift, np.int64))
    result: Int64 = (scaled + 1) >> 1
    return result
