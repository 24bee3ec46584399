"""lines: whole groups of word lines. `groups[G]` that are not all zero, `values[K, G*m]`."""

from __future__ import annotations

import numpy as np

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Layout, four, index_type
from cofit.structures.formats.matrix import (
    ORDERS,
    Order,
    from_columns,
    groups_of,
    order_code,
    to_columns,
)


def encode(weight: Array, m: int, order: Order) -> Encoding:
    """Store the groups of `m` rows of the layer's matrix that hold a non-zero."""
    columns = to_columns(weight.reshape(four(weight.shape)), m, order)
    groups = np.flatnonzero(columns.any(axis=(0, 2)))
    arrays: dict[str, Array] = {
        "groups": groups.astype(index_type(columns.shape[1])),
        "values": columns[:, groups].reshape(len(columns), -1),
    }
    return Encoding("lines", weight.shape, arrays, {"m": m, "order": order_code(order)}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros elsewhere."""
    m, groups = encoding.parameters["m"], encoding.arrays["groups"]
    values = encoding.arrays["values"]
    columns: Array = np.zeros((encoding.shape[0], groups_of(encoding.shape, m), m), values.dtype)
    columns[:, groups] = values.reshape(encoding.shape[0], len(groups), m)
    order = ORDERS[encoding.parameters["order"]]
    return from_columns(columns, four(encoding.shape), order).reshape(encoding.shape)


def layout(shape: tuple[int, ...], m: int, kept: int) -> Layout:
    """One row per column of the matrix."""
    return Layout(kept * index_type(groups_of(shape, m)).itemsize, shape[0], kept * m)
