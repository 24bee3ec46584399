"""packed: levels of 1 to 8 bits with one scale per output channel.

`codes`: `level + Q` of every weight in `bits` bits, lowest bit first, without gaps, the whole
padded to a byte; at one bit 0 is -1 and 1 is 1. `scale[K]`: upper halves of float32. Further arrays
are carried along.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cofit.structures.contract import Array, Encoding

HALF = 16


def encode(
    level: NDArray[np.int8], scale: NDArray[np.float32], bits: int, more: Mapping[str, Array]
) -> Encoding:
    """Store levels.

    Args:
        level: (K, ...), from -Q to Q with Q = 2^(bits-1) - 1; -1 and 1 at one bit.
        scale: (K,), whose low 16 bits are zero.
        bits: 1 to 8.
        more: arrays to store with them.
    """
    codes = (level > 0).ravel() if bits == 1 else level.ravel().astype(np.int16) + _top(bits)
    spread = codes.astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8) & 1
    arrays: dict[str, Array] = {
        "codes": np.packbits(spread.ravel(), bitorder="little"),
        "scale": to_half(scale),
        **more,
    }
    return Encoding("packed", level.shape, arrays, {"bits": bits}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, float32: products of a level and a scale, which are exact."""
    scale = from_half(encoding.arrays["scale"])
    found: Array = levels(encoding) * scale.reshape(-1, *[1] * (len(encoding.shape) - 1))
    return found


def levels(encoding: Encoding) -> NDArray[np.int8]:
    """The levels, shape of the weight."""
    bits, count = encoding.parameters["bits"], math.prod(encoding.shape)
    codes = encoding.arrays["codes"]
    if len(codes) != nbytes(count, bits):
        raise ValueError(f"{len(codes)} bytes of codes, {nbytes(count, bits)} expected")
    spread = np.unpackbits(codes, count=count * bits, bitorder="little").reshape(count, bits)
    whole = (spread.astype(np.int16) << np.arange(bits)).sum(axis=1)
    level = 2 * whole - 1 if bits == 1 else whole - _top(bits)
    found: NDArray[np.int8] = level.astype(np.int8).reshape(encoding.shape)
    return found


def nbytes(count: int, bits: int) -> int:
    """Bytes of so many codes."""
    return math.ceil(count * bits / 8)


def to_half(values: NDArray[np.float32]) -> Array:
    """Upper halves of float32 numbers whose lower halves are zero."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> HALF).astype("<u2")


def from_half(halves: Array) -> NDArray[np.float32]:
    """Inverse of `to_half`."""
    return (halves.astype(np.uint32) << HALF).view(np.float32)


def _top(bits: int) -> int:
    return (1 << (bits - 1)) - 1
