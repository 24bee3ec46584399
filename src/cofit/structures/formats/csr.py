"""csr: single weights. `count[K]` per output channel, `index[n]` flat positions, `values[n]`.

A flat position inside an output channel is `p = c*R*S + r*S + s`; positions ascend.
"""

from __future__ import annotations

import math

import numpy as np

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Layout, index_type


def encode(weight: Array) -> Encoding:
    """Store the non-zero elements of a weight."""
    rows = weight.reshape(weight.shape[0], -1)
    kind = index_type(rows.shape[1])
    channel, position = np.nonzero(rows)
    arrays: dict[str, Array] = {
        "count": np.bincount(channel, minlength=rows.shape[0]).astype(kind),
        "index": position.astype(kind),
        "values": rows[channel, position],
    }
    return Encoding("csr", weight.shape, arrays, {}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros elsewhere."""
    arrays = encoding.arrays
    values = arrays["values"].reshape(-1)
    rows: Array = np.zeros((encoding.shape[0], math.prod(encoding.shape[1:])), values.dtype)
    rows[np.repeat(np.arange(len(rows)), arrays["count"]), arrays["index"]] = values
    return rows.reshape(encoding.shape)


def layout(shape: tuple[int, ...], kept: int) -> Layout:
    """One row of `kept` values."""
    index_bytes = index_type(math.prod(shape[1:])).itemsize
    return Layout((shape[0] + kept) * index_bytes, 1, kept)
