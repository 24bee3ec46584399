"""kept: whole output channels. `kept[m]` channels that are not all zero, `values[m, C, R, S]`."""

from __future__ import annotations

import math

import numpy as np

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Layout, four, index_type


def encode(weight: Array) -> Encoding:
    """Store the output channels that hold a non-zero."""
    values = weight.reshape(four(weight.shape))
    kept = np.flatnonzero(values.any(axis=(1, 2, 3)))
    arrays: dict[str, Array] = {
        "kept": kept.astype(index_type(len(values))),
        "values": values[kept],
    }
    return Encoding("kept", weight.shape, arrays, {}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros elsewhere."""
    values = encoding.arrays["values"]
    weight: Array = np.zeros(encoding.shape, values.dtype)
    weight[encoding.arrays["kept"]] = values.reshape(-1, *encoding.shape[1:])
    return weight


def layout(shape: tuple[int, ...], kept: int) -> Layout:
    """One row per kept channel."""
    return Layout(kept * index_type(shape[0]).itemsize, kept, math.prod(shape[1:]))
