"""ocb: blocks of `out` output channels x `in` input channels at one kernel position.

`count[G]` blocks of each group of `out` output channels; `index[n]` = `(c // in)*R*S + r*S + s`,
ascending inside a group; `values[n, out, in]`, zero beyond ragged edges.
"""

from __future__ import annotations

import math

import numpy as np

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Layout, four, index_type


def encode(weight: Array, out: int, in_: int) -> Encoding:
    """Store the blocks that hold a non-zero."""
    k, c, r, s = four(weight.shape)
    groups, slabs = math.ceil(k / out), math.ceil(c / in_)
    padded: Array = np.zeros((groups * out, slabs * in_, r * s), weight.dtype)
    padded[:k, :c] = weight.reshape(k, c, r * s)
    # (G, out, C/in, in, RS) -> (G, C/in * RS, out, in)
    blocks = padded.reshape(groups, out, slabs, in_, r * s).transpose(0, 2, 4, 1, 3)
    blocks = blocks.reshape(groups, slabs * r * s, out, in_)
    group, position = np.nonzero(blocks.any(axis=(2, 3)))
    kind = index_type(slabs * r * s)
    arrays: dict[str, Array] = {
        "count": np.bincount(group, minlength=groups).astype(kind),
        "index": position.astype(kind),
        "values": blocks[group, position],
    }
    return Encoding("ocb", weight.shape, arrays, {"out": out, "in": in_}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros elsewhere."""
    k, c, r, s = four(encoding.shape)
    out, in_ = encoding.parameters["out"], encoding.parameters["in"]
    count, index = encoding.arrays["count"], encoding.arrays["index"]
    values = encoding.arrays["values"].reshape(-1, out, in_)
    groups, slabs = math.ceil(k / out), math.ceil(c / in_)
    blocks: Array = np.zeros((groups, slabs * r * s, out, in_), values.dtype)
    blocks[np.repeat(np.arange(groups), count), index] = values
    # (G, C/in * RS, out, in) -> (G, out, C/in, in, RS)
    padded = blocks.reshape(groups, slabs, r * s, out, in_).transpose(0, 3, 1, 4, 2)
    weight = padded.reshape(groups * out, slabs * in_, r * s)[:k, :c]
    return np.ascontiguousarray(weight).reshape(encoding.shape)


def layout(shape: tuple[int, ...], out: int, in_: int, kept: int) -> Layout:
    """One row per kept block."""
    k, c, r, s = four(shape)
    index_bytes = index_type(math.ceil(c / in_) * r * s).itemsize
    return Layout((math.ceil(k / out) + kept) * index_bytes, kept, out * in_)
