"""Fully connected layers and products of two activations."""

from __future__ import annotations

import numpy as np

from cofit.ir.integer.accumulate import Ints, matrix_sums
from cofit.ir.integer.epilogue import Epilogue


def linear(
    x: Ints,
    weight: Ints,
    bias: Ints | None,
    epilogue: Epilogue,
    *,
    input_offset: int,
    filter_offset: int = 0,
) -> Ints:
    """Fully connected layer: x (..., C), weight (K, C), bias (K,) give (..., K) of x's dtype.

    `filter_offset` is minus the zero point of asymmetric weights.
    """
    shifted = weight.astype(np.int16) + np.int16(filter_offset) if filter_offset else weight
    acc = matrix_sums(x, shifted, input_offset=input_offset)
    if bias is not None:
        acc += bias.astype(np.int64)
    return epilogue(acc, x.dtype)


def batch_matmul(
    left: Ints, right: Ints, epilogue: Epilogue, *, left_offset: int, right_offset: int
) -> Ints:
    """Product of (..., M, C) and (..., C, N), leading axes broadcast: (..., M, N), left's dtype.

    int16 operands accumulate in 64 bits: give an epilogue with `wide`.
    """
    # at most 2^15 * 2^15 * C: exact in float64 below C = 2^23
    acc = (left.astype(np.float64) + left_offset) @ (right.astype(np.float64) + right_offset)
    return epilogue(acc.astype(np.int64), left.dtype)
