"""nm: N of each M consecutive weights of an output channel.

`lane[K, groups, N]` position inside the group, ascending; `values[K, groups, N]`. Consecutive
means flat position `p = c*R*S + r*S + s`. Where the last group is shorter than N, its spare lanes
are 0 with value 0, so that a reader never leaves the row.
"""

from __future__ import annotations

import math

import numpy as np

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Layout


def encode(weight: Array, n: int, m: int) -> Encoding:
    """Store N lanes per group; a group with fewer non-zeros also lists zeros, lowest first."""
    k, length = weight.shape[0], math.prod(weight.shape[1:])
    groups = math.ceil(length / m)
    padded: Array = np.zeros((k, groups * m), weight.dtype)
    padded[:, :length] = weight.reshape(k, length)
    padded = padded.reshape(k, groups, m)
    # stable: non-zeros first, then zeros by position, so virtual padding comes last
    lane = np.sort(np.argsort(padded == 0, axis=-1, kind="stable")[..., :n], axis=-1)
    values = np.take_along_axis(padded, lane, axis=-1)
    lane[:, -1, length - (groups - 1) * m :] = 0
    arrays: dict[str, Array] = {"lane": lane.astype(np.uint8), "values": values}
    return Encoding("nm", weight.shape, arrays, {"n": n, "m": m}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros elsewhere."""
    lane, n, m = encoding.arrays["lane"], encoding.parameters["n"], encoding.parameters["m"]
    values = encoding.arrays["values"].reshape(lane.shape)
    k, groups, _ = lane.shape
    length = math.prod(encoding.shape[1:])
    padded: Array = np.zeros((k, groups, m), values.dtype)
    real = np.ones((groups, n), bool)
    real[-1, length - (groups - 1) * m :] = False
    group, slot = np.nonzero(real)
    padded[np.arange(k)[:, None], group, lane[:, group, slot]] = values[:, group, slot]
    return padded.reshape(k, groups * m)[:, :length].reshape(encoding.shape)


def layout(shape: tuple[int, ...], n: int, m: int) -> Layout:
    """One row per output channel, one index byte per value."""
    row = math.ceil(math.prod(shape[1:]) / m) * n
    return Layout(shape[0] * row, shape[0], row)
