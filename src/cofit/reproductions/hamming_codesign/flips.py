"""Bits that toggle when a register takes one weight after another."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError, StructureError, UnknownNameError
from cofit.reproductions.hamming_codesign.path import Ints

Encoding = Literal["twos_complement", "sign_magnitude"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Codes = NDArray[np.uint8]


def codes(weight: NDArray[np.generic], encoding: str, bits: int = 8) -> Codes:
    """The bit patterns of integer weights, shape of `weight`.

    Zero is all zeros in both encodings; sign-magnitude has no negative zero.

    Args:
        weight: integers; floats must be integral.
        encoding: "twos_complement" or "sign_magnitude".
        bits: 1 sign bit included, from 2 to 8.

    Raises:
        UnknownNameError: no such encoding.
        ConfigError: bits out of range.
        StructureError: a weight is not an integer, or the encoding has no pattern for it.
    """
    if encoding not in ENCODINGS:
        raise UnknownNameError("encoding", encoding, ENCODINGS)
    if not 2 <= bits <= 8:
        raise ConfigError(f"weights of {bits} bits; choose 2 to 8")
    with np.errstate(invalid="ignore"):
        values = weight.astype(np.int64)
    if weight.dtype.kind not in "iu" and not (np.isfinite(weight) & (values == weight)).all():
        raise StructureError("weights are not integers; quantise them before counting their bits")
    top = 1 << (bits - 1)
    low = -top if encoding == "twos_complement" else 1 - top
    if values.size and (values.min() < low or values.max() >= top):
        raise StructureError(
            f"weights span {values.min()} to {values.max()}; {encoding} of {bits} bits holds "
            f"{low} to {top - 1}"
        )
    if encoding == "twos_complement":
        return (values & (2 * top - 1)).astype(np.uint8)
    return (np.abs(values) | np.where(values < 0, top, 0)).astype(np.uint8)


def row_flips(rows: Codes) -> Ints:
    """Bits that differ between any two rows: (K, C) gives (K, K)."""
    bits = np.unpackbits(np.ascontiguousarray(rows), axis=1).astype(np.float32)
    ones = bits.sum(axis=1)
    # sums of 0 and 1 are exact in float32 up to 2^24 bits
    differ: Ints = (ones[:, None] + ones - 2 * (bits @ bits.T)).astype(np.int64)
    return differ


def stream_flips(rows: Codes, order: Ints | None = None) -> int:
    """Bits that toggle while the rows (K, C) pass in an order, as they are without one."""
    passed = rows if order is None else rows[order]
    return int(np.bitwise_count(passed[1:] ^ passed[:-1]).sum(dtype=np.int64))


def address_flips(order: Ints) -> int:
    """Bits that toggle on the lines which say whose accumulator a row belongs to."""
    return int(np.bitwise_count(order[1:] ^ order[:-1]).sum(dtype=np.int64))
