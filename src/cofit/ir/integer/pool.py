"""Pooling of int8 and int16 activations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cofit.ir.attributes import Pads
from cofit.ir.integer.accumulate import Int64, Ints
from cofit.ir.integer.epilogue import Bounds, Epilogue


def max_pool(
    x: Ints,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Pads,
    bounds: Bounds,
) -> Ints:
    """Maximum of each window of x (N, C, H, W); padding never wins; clamped to `bounds`."""
    least = np.iinfo(x.dtype).min
    best = None
    for tap in _taps(_padded(x, padding, int(least)), kernel, stride):
        best = tap.copy() if best is None else np.maximum(best, tap, out=best)
    assert best is not None
    return best.clip(*bounds)


def avg_pool(
    x: Ints,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Pads,
    bounds: Bounds,
    fill: int | None = None,
) -> Ints:
    """Mean of each window of x (N, C, H, W), rounded half away from zero, clamped to `bounds`.

    Padding is left out of sum and count; with `fill` (the zero point) it takes part in both.
    """
    padded = _padded(x.astype(np.int32), padding, fill or 0)
    sums = _window_sums(padded, kernel, stride)
    if fill is None:
        inside = _padded(np.ones((1, 1, *x.shape[2:]), np.int32), padding, 0)
        count = _window_sums(inside, kernel, stride)
    else:
        count = np.array(kernel[0] * kernel[1])
    return divide_half_away(sums, count).clip(*bounds).astype(x.dtype)


def global_mean(x: Ints, epilogue: Epilogue, *, input_offset: int) -> Ints:
    """Mean over the plane of x (N, C, H, W), 1 / (H * W) in the epilogue's factor: (N, C)."""
    sums = x.sum(axis=(2, 3), dtype=np.int64) + input_offset * x.shape[2] * x.shape[3]
    return epilogue(sums, x.dtype)


def divide_half_away(sums: Int64, count: Int64) -> Int64:
    """Quotients rounded to nearest, halves away from zero, as C's truncating division does it."""
    magnitude = (np.abs(sums) + count // 2) // count
    quotients: Int64 = np.sign(sums) * magnitude
    return quotients


def _padded(x: Ints, padding: Pads, value: int) -> Ints:
    top, bottom, left, right = padding
    pads = ((0, 0), (0, 0), (top, bottom), (left, right))
    return np.pad(x, pads, constant_values=value) if any(padding) else x


def _window_sums(x: Ints, kernel: tuple[int, int], stride: tuple[int, int]) -> Int64:
    first, *rest = _taps(x, kernel, stride)
    sums = first.astype(np.int64)
    for tap in rest:
        sums += tap
    return sums


def _taps(x: Ints, kernel: tuple[int, int], stride: tuple[int, int]) -> Iterator[Ints]:
    """For each position in the window, that element of every window."""
    rows = (x.shape[2] - kernel[0]) // stride[0] * stride[0] + 1
    columns = (x.shape[3] - kernel[1]) // stride[1] * stride[1] + 1
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            yield x[:, :, r : r + rows : stride[0], s : s + columns : stride[1]]
