"""dense: every weight. `values[K, C, R, S]`."""

from __future__ import annotations

import math

import numpy as np

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Layout, four


def encode(weight: Array) -> Encoding:
    """Store a `(K, C, R, S)` or `(K, C)` weight as it is."""
    values = np.ascontiguousarray(weight).reshape(four(weight.shape))
    return Encoding("dense", weight.shape, {"values": values}, {}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight."""
    return encoding.arrays["values"].reshape(encoding.shape)


def layout(shape: tuple[int, ...]) -> Layout:
    """One row per output channel, no index."""
    return Layout(0, shape[0], math.prod(shape[1:]))
