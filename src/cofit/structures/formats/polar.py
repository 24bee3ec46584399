"""polar: magnitudes in the cells of a crossbar, and one sign bit per fragment.

A fragment is `m` consecutive rows of one column (see `matrix`). `groups[G]` row groups and
`filters[F]` columns that hold a non-zero; `values[F, G*m]` magnitudes, none negative (uint8 for
int8 weights), zero beyond the last row; `signs` one bit per fragment, column after column, least
significant bit first, 1 where the fragment is negative.
"""

from __future__ import annotations

import math

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
    """Store a polarised weight (float32, or int8 above -128)."""
    shape = four(weight.shape)
    columns = to_columns(weight.reshape(shape), m, order)
    filters = np.flatnonzero(columns.any(axis=(1, 2)))
    groups = np.flatnonzero(columns.any(axis=(0, 2)))
    fragments = columns[filters][:, groups]
    magnitudes = np.abs(fragments).reshape(len(filters), len(groups) * m)
    kind = index_type(max(columns.shape[:2]))
    arrays: dict[str, Array] = {
        "groups": groups.astype(kind),
        "filters": filters.astype(kind),
        "signs": np.packbits((fragments < 0).any(axis=2), bitorder="little"),
        "values": magnitudes if weight.dtype == np.float32 else magnitudes.astype(np.uint8),
    }
    parameters = {"m": m, "order": order_code(order)}
    return Encoding("polar", weight.shape, arrays, parameters, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros elsewhere."""
    arrays, m = encoding.arrays, encoding.parameters["m"]
    order = ORDERS[encoding.parameters["order"]]
    filters, groups = arrays["filters"], arrays["groups"]
    values = arrays["values"].reshape(len(filters), len(groups), m)
    values = values if values.dtype == np.float32 else values.astype(np.int8)
    columns: Array = np.zeros((encoding.shape[0], groups_of(encoding.shape, m), m), values.dtype)
    negative = fragment_signs(encoding)[..., None]
    columns[np.ix_(filters, groups)] = np.where(negative, 0 - values, values)
    return from_columns(columns, four(encoding.shape), order).reshape(encoding.shape)


def fragment_signs(encoding: Encoding) -> Array:
    """(F, G) bool, True where a stored fragment is negative."""
    shape = len(encoding.arrays["filters"]), len(encoding.arrays["groups"])
    bits = np.unpackbits(encoding.arrays["signs"], count=math.prod(shape), bitorder="little")
    return bits.reshape(shape).astype(bool)


def layout(shape: tuple[int, ...], m: int) -> Layout:
    """One row per column of the crossbar."""
    k, groups = shape[0], groups_of(shape, m)
    index_bytes = (k + groups) * index_type(max(k, groups)).itemsize
    return Layout(index_bytes + math.ceil(k * groups / 8), k, groups * m)
