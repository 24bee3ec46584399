"""paired: two filters from one stored word, read as u and as its bitwise complement ~u.

Filters 2i and 2i+1 are a pair with a_j + b_j = S for all j. Of int8 weights `values[P, L]` holds
u = a - M, `constants[P, 2]` holds (M, S - M + 1), and a = u + M, b = ~u + (S - M + 1), since
~u = -u - 1. M = ceil((S - 1) / 2) makes u fit 8 bits for all weights in -127..127. Of float32
weights `values` holds a and `constants[P]` holds S. `single[L]` is the last filter of an odd
number, unpaired.
"""

from __future__ import annotations

import math

import numpy as np

from cofit.structures.contract import Array, Encoding


def encode(weight: Array) -> Encoding:
    """Store a member of Complementary (float32 or int8)."""
    filters = weight.reshape(len(weight), -1)
    pairs = len(filters) // 2
    a, b = filters[0 : 2 * pairs : 2], filters[1 : 2 * pairs : 2]
    arrays: dict[str, Array]
    if weight.dtype == np.int8:
        total = a[:, 0].astype(np.int16) + b[:, 0]
        centre = total // 2  # ceil((S - 1) / 2)
        constants = np.stack([centre, total - centre + 1], axis=1).astype("<i2")
        arrays = {"values": (a - centre[:, None]).astype(np.int8), "constants": constants}
    else:
        real = a[:, 0].astype(np.float64) + b[:, 0]
        arrays = {"values": np.ascontiguousarray(a), "constants": real.astype("<f4")}
    if len(filters) % 2:
        arrays["single"] = filters[-1]
    return Encoding("paired", weight.shape, arrays, {}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, from the words and their complements."""
    words, constants = encoding.arrays["values"], encoding.arrays["constants"]
    filters: Array = np.empty((encoding.shape[0], math.prod(encoding.shape[1:])), words.dtype)
    stop = 2 * len(words)
    if words.dtype == np.int8:
        filters[0:stop:2] = words + constants[:, :1]
        filters[1:stop:2] = np.invert(words) + constants[:, 1:]
    else:
        filters[0:stop:2] = words
        filters[1:stop:2] = constants[:, None].astype(np.float64) - words
    if "single" in encoding.arrays:
        filters[-1] = encoding.arrays["single"]
    return filters.reshape(encoding.shape)


def nbytes(shape: tuple[int, ...], element_bytes: int) -> int:
    """Half of the weights, 4 bytes per pair, and the unpaired filter."""
    pairs, odd = divmod(shape[0], 2)
    return (pairs + odd) * math.prod(shape[1:]) * element_bytes + 4 * pairs
