"""Exact integer sums of products through floating-point convolutions.

A sum whose terms and partial sums are integers below 2^24 (2^53) in magnitude is exact in float32
(float64), in any order and with fused multiply-add. The bound is proven from the actual weights:
every partial sum is at most max|x + offset| * sum|w|.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cofit.ir.attributes import Pads

Ints = NDArray[np.signedinteger[Any]]
Int64 = NDArray[np.int64]
Exact = type[np.float32] | type[np.float64]


def magnitude_bound(dtype: np.dtype[np.signedinteger[Any]], offset: int) -> int:
    """Largest |x + offset| over all x of an integer dtype."""
    limits = np.iinfo(dtype)
    return max(abs(int(limits.min) + offset), abs(int(limits.max) + offset))


def weight_sums(weight: Ints) -> Int64:
    """Sum of |w| for each output channel; weight (K, ...) gives (K,)."""
    sums: Int64 = np.abs(weight.astype(np.int64)).reshape(weight.shape[0], -1).sum(axis=1)
    return sums


def conv_sums(
    x: Ints,
    weight: Ints,
    *,
    input_offset: int,
    stride: tuple[int, int] = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Int64:
    """Sums of (x + input_offset) * weight; padding adds nothing.

    Args:
        x: (N, C, H, W) int8 or int16.
        weight: (K, C/groups, R, S), any integers.
        input_offset: minus the zero point of x.
        stride: rows, columns.
        padding: top, bottom, left, right.
        dilation: rows, columns.
        groups: number of channel groups; C for a depthwise convolution.

    Returns:
        (N, K, H', W') int64.
    """
    dtype = exact_dtype(x, weight, input_offset)
    top, bottom, left, right = padding
    centred = F.pad(_tensor(x, dtype) + input_offset, (left, right, top, bottom))
    # NNPACK would pick Winograd or FFT convolutions, whose intermediate values are not integers
    with torch.backends.nnpack.flags(enabled=False):
        sums = F.conv2d(
            centred,
            _tensor(weight, dtype),
            stride=stride,
            dilation=dilation,
            groups=groups,
        )
    result: Int64 = sums.to(torch.int64).numpy()
    return result


def matrix_sums(x: Ints, weight: Ints, *, input_offset: int) -> Int64:
    """Sums of (x + input_offset) * weight: x (..., C), weight (K, C) give (..., K) int64."""
    dtype = exact_dtype(x, weight, input_offset)
    centred = _tensor(x, dtype) + input_offset
    result: Int64 = (centred @ _tensor(weight, dtype).T).to(torch.int64).numpy()
    return result


def exact_dtype(x: Ints, weight: Ints, input_offset: int) -> Exact:
    """float32 where every partial sum is at most 2^24, else float64 (2^53)."""
    bound = magnitude_bound(x.dtype, input_offset) * int(weight_sums(weight).max(initial=0))
    assert bound <= 1 << 53
    return np.float32 if bound <= 1 << 24 else np.float64


def _tensor(values: Ints, dtype: Exact) -> torch.Tensor:
    return torch.from_numpy(values.astype(dtype, order="C"))
