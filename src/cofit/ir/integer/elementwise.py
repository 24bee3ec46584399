"""Element-wise kernels on int8 and int16 activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.ir.integer.accumulate import Ints
from cofit.ir.integer.epilogue import Epilogue
from cofit.ir.integer.requantise import requantise

Pair = tuple[int, int]
"""A (multiplier, shift)."""


@dataclass(frozen=True)
class AddRequant:
    """The two input scalings of an addition, and the headroom they are computed with.

    Each input is shifted left by `left_shift` bits and scaled to the common scale; the sum is
    scaled by `output`.
    """

    first: Pair
    second: Pair
    output: Pair
    left_shift: int


def add(x: Ints, y: Ints, requant: AddRequant, epilogue: Epilogue, *, offsets: Pair) -> Ints:
    """Sum of two activations of different scales; `epilogue` carries `requant.output`.

    `offsets` are minus the zero points of x and y; y may broadcast to x.
    """
    scaled = [
        requantise((v.astype(np.int64) + offset) << requant.left_shift, *pair, epilogue.rounding)
        for v, offset, pair in zip((x, y), offsets, (requant.first, requant.second), strict=True)
    ]
    return epilogue(scaled[0] + scaled[1], x.dtype)


def mul(x: Ints, y: Ints, epilogue: Epilogue, *, offsets: Pair) -> Ints:
    """Product of two activations; `offsets` are minus their zero points; y may broadcast to x."""
    product = (x.astype(np.int64) + offsets[0]) * (y.astype(np.int64) + offsets[1])
    return epilogue(product, x.dtype)


def rescale(x: Ints, epilogue: Epilogue, *, input_offset: int) -> Ints:
    """The same real numbers in another quantisation."""
    return epilogue(x.astype(np.int64) + input_offset, x.dtype)


def lookup(x: NDArray[np.int8], table: NDArray[np.int8]) -> NDArray[np.int8]:
    """table[x + 128]: any function of one int8 variable; table (256,)."""
    return table[x.astype(np.int16) + 128]


def maximum(x: Ints, y: Ints) -> Ints:
    """Greater of two activations of one quantisation; they broadcast."""
    return np.maximum(x, y)


def minimum(x: Ints, y: Ints) -> Ints:
    """Lesser of two activations of one quantisation; they broadcast."""
    return np.minimum(x, y)
