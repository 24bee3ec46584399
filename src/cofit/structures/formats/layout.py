"""How many bytes a format takes: index bytes, and values in rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cofit.structures.contract import Array, Encoding

Decoder = Callable[[Encoding], Array]


@dataclass(frozen=True)
class Layout:
    """Closed form of a format's bytes.

    Attributes:
        index_bytes: bytes of everything that is not a weight.
        rows: rows of the `values` array, the unit that 4-bit packing pads to a byte.
        row: values in one row, padding of ragged edges included.
    """

    index_bytes: int
    rows: int
    row: int

    def nbytes(self, element_bytes: int) -> int:
        """Bytes with whole-byte elements."""
        return self.index_bytes + self.rows * self.row * element_bytes

    def packed_bytes(self) -> int:
        """Bytes with two elements per byte, each row padded to a byte."""
        return self.index_bytes + self.rows * math.ceil(self.row / 2)


def index_type(bound: int) -> np.dtype[np.unsignedinteger]:
    """Type of counts and positions that never exceed `bound`."""
    return np.dtype("<u2") if bound < 65536 else np.dtype("<u4")


def four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """`(K, C, R, S)` of a convolution or linear weight."""
    k, c, r, s = (*shape, 1, 1)[:4]
    return k, c, r, s
