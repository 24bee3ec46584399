"""Layer norm in integers: no division by a standard deviation that is not one of integers.

For a row of C stored values x:

    d = C * x - sum(x)                          exact; the zero point falls out
    v = floor(sum(d^2) / C) + e                 e = round(C^2 * eps / sx^2)
    r = max(isqrt(v), 1)
    n = d * 2^12 / r, rounded half away from zero, so that n / 2^12 is (x - mean) / sigma
    y = clamp(R(w * n + b) + zy)                w of 12 bits, b at the scale of w / 2^12

A constant row has d = 0 and gives the bias exactly. Source: the scaled layer norm of TinyFormer
(Yang et al., 2025), with the epsilon that float networks have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.ir.integer.accumulate import Ints
from cofit.ir.integer.epilogue import Epilogue
from cofit.ir.integer.requantise import Int64

FRACTION_BITS = 12  # of (x - mean) / sigma
WEIGHT_BITS = 12  # with the sign
MAX_CHANNELS = 2048  # 255 * C * 2^12 fits uint32
BIAS_BOUND = 1 << 28


@dataclass(frozen=True)
class NormParameters:
    """Multiplier, shift and the epsilon in units of d^2."""

    multiplier: int
    shift: int
    epsilon: int


def layer_norm(
    x: Ints, weight: Ints, bias: Ints, parameters: NormParameters, epilogue: Epilogue
) -> NDArray[np.int8]:
    """Layer norm over the last axis of int8 x (..., C); weight int16 (C,), bias int32 (C,)."""
    wide = x.astype(np.int64)
    count = x.shape[-1]
    d = count * wide - wide.sum(-1, keepdims=True)
    variance = (d * d).sum(-1, keepdims=True) // count + parameters.epsilon
    root = np.maximum(square_root(variance), 1)
    size = ((np.abs(d) << FRACTION_BITS) + (root >> 1)) // root
    acc = weight.astype(np.int64) * np.where(d < 0, -size, size) + bias.astype(np.int64)
    return epilogue(acc, np.int8).astype(np.int8, copy=False)


def square_root(values: Int64) -> Int64:
    """Floor of the square roots of numbers below 2^52."""
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= root * root > values
    found: Int64 = root + ((root + 1) * (root + 1) <= values)
    return found
