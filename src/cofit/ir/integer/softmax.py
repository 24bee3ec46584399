"""Softmax in fixed point: Q5.26 differences, Q0.31 exponentials, a Newton reciprocal.

The algorithm of gemmlowp as TFLite and CMSIS-NN use it. Differences from the row's maximum are
scaled to Q5.26; exp on a quarter-unit interval is a polynomial, the rest a product of constants
exp(-2^k); sums are held with 12 bits of headroom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.ir.integer.requantise import Int64, quantise_multiplier

_INTEGER_BITS = 5  # of the Q5.26 differences
_SUM_BITS = 12  # headroom of the sum of exponentials
_INT32_MAX = (1 << 31) - 1
_EXP_MINUS_EIGHTH = 1895147668  # exp(-1/8) in Q0.31
_THIRD = 715827883  # 1/3 in Q0.31
_EXP_MINUS_POWER = tuple(round(math.exp(-(2.0**k)) * 2**31) for k in range(-2, 5))
_48_OVER_17 = 1515870810  # Q2.29
_MINUS_32_OVER_17 = -1010580540  # Q2.29


@dataclass(frozen=True)
class SoftmaxParameters:
    """Scaling of differences to Q5.26 and the least difference whose exponential is not zero."""

    multiplier: int
    shift: int
    diff_min: int


def softmax_parameters(scale: float) -> SoftmaxParameters:
    """Parameters for int8 inputs of a scale (beta = 1).

    Scales outside [2^-27, 16) act as the nearest end of that range: beyond it one step of the
    input already makes an exponential that rounds to zero, below it no step makes a difference.
    """
    real = min(max(scale * (1 << (31 - _INTEGER_BITS)), 0.5), _INT32_MAX / 2)
    multiplier, shift = quantise_multiplier(real)
    radius = ((1 << _INTEGER_BITS) - 1) * 2.0 ** (31 - _INTEGER_BITS - shift)
    return SoftmaxParameters(multiplier, shift, -math.floor(radius))


def softmax(x: NDArray[np.int8], parameters: SoftmaxParameters) -> NDArray[np.int8]:
    """Softmax over the last axis; output scale 1/256, zero point -128."""
    diff = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    counted = diff >= parameters.diff_min
    # a difference that is not counted may not fit Q5.26; it is replaced before it is scaled
    shifted = np.where(counted, diff, 0) << parameters.shift
    exponential = exp_on_negative(high_product(shifted, parameters.multiplier))
    total = np.where(counted, rounded_shift(exponential, _SUM_BITS), 0).sum(-1, keepdims=True)
    headroom = 31 - np.floor(np.log2(total)).astype(np.int64)
    reciprocal = one_over_one_plus((total << headroom) - (1 << 31))
    scaled = rounded_shift(high_product(reciprocal, exponential), _SUM_BITS - headroom + 23)
    q = np.where(counted, scaled - 128, -128)
    return np.clip(q, -128, 127).astype(np.int8)


def exponential_table(parameters: SoftmaxParameters) -> NDArray[np.int32]:
    """Exponentials in Q0.31 of the differences -255..0: int32 (256,), zero where not counted."""
    diff = np.arange(-255, 1, dtype=np.int64)
    counted = diff >= parameters.diff_min
    shifted = np.where(counted, diff, 0) << parameters.shift
    exponential = exp_on_negative(high_product(shifted, parameters.multiplier))
    return np.where(counted, exponential, 0).astype(np.int32)


def high_product(a: Int64, b: Int64 | int) -> Int64:
    """2 * a * b / 2^32 of two int32, halves away from zero, saturating."""
    product = a * np.int64(b)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    quotient = np.sign(nudged) * (np.abs(nudged) >> 31)  # C truncates towards zero
    saturated: Int64 = np.minimum(quotient, _INT32_MAX)
    return saturated


def rounded_shift(values: Int64, bits: Int64 | int) -> Int64:
    """Quotients by 2^bits, halves away from zero."""
    mask = (np.int64(1) << np.asarray(bits, np.int64)) - 1
    return (values >> bits) + ((values & mask) > (mask >> 1) + (values < 0))


def exp_on_negative(values: Int64) -> Int64:
    """Exponentials of Q5.26 numbers <= 0, in Q0.31."""
    quarter = 1 << 24
    modulo = (values & (quarter - 1)) - quarter
    rest = modulo - values
    x = (modulo << 5) + (1 << 28)  # in (-1/8, 1/8]
    x2 = high_product(x, x)
    x3 = high_product(x2, x)
    x4 = rounded_shift(high_product(x2, x2), 2)
    series = x + rounded_shift(high_product(x4 + x3, _THIRD) + x2, 1)
    result = _EXP_MINUS_EIGHTH + high_product(series, _EXP_MINUS_EIGHTH)
    for bit, factor in enumerate(_EXP_MINUS_POWER, start=24):
        result = np.where(rest & (1 << bit), high_product(result, factor), result)
    return np.where(values == 0, _INT32_MAX, result)


def one_over_one_plus(values: Int64) -> Int64:
    """1 / (1 + x) of Q0.31 numbers in [0, 1), in Q0.31, by three Newton steps."""
    total = values + _INT32_MAX
    half = (total + 1) >> 1
    x = _48_OVER_17 + high_product(half, _MINUS_32_OVER_17)
    for _ in range(3):
        error = (1 << 29) - high_product(half, x)
        x = x + np.clip(high_product(x, error) << 2, -(1 << 31), _INT32_MAX)
    doubled: Int64 = np.clip(x << 1, -(1 << 31), _INT32_MAX)
    return doubled
