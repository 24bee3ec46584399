"""The matrix of a layer as a crossbar holds it: N = C*R*S rows (word lines), K columns.

The order of the rows is a policy: "c" runs over channels fastest, "h" over kernel rows, "w" over
kernel columns. Groups of `m` consecutive rows are what a crossbar sums at once.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import pad

from cofit.structures.contract import Array

Order = Literal["c", "h", "w"]
ORDERS: tuple[Order, ...] = ("c", "h", "w")
_AXES: dict[Order, tuple[int, int, int, int]] = {
    "c": (0, 2, 3, 1),
    "h": (0, 1, 3, 2),
    "w": (0, 1, 2, 3),
}


def groups_of(shape: tuple[int, ...], m: int) -> int:
    """Groups of `m` rows that hold a weight of this shape, the last one perhaps ragged."""
    return math.ceil(math.prod(shape[1:]) / m)


def to_columns(weight: Array, m: int, order: Order) -> Array:
    """(K, C, R, S) -> (K, G, m), rows in order, zeros beyond the last row."""
    k = len(weight)
    rows = np.transpose(weight, _AXES[order]).reshape(k, -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % m))).reshape(k, -1, m)


def from_columns(columns: Array, shape: tuple[int, int, int, int], order: Order) -> Array:
    """Inverse of `to_columns` for a weight of this shape."""
    axes = _AXES[order]
    rows = columns.reshape(len(columns), -1)[:, : math.prod(shape[1:])]
    moved = rows.reshape([shape[axis] for axis in axes])
    return np.ascontiguousarray(np.transpose(moved, np.argsort(axes)))


def grouped(weight: torch.Tensor, m: int, order: Order) -> torch.Tensor:
    """(K, C, R, S) -> (K, G, m) of a tensor."""
    rows = weight.permute(_AXES[order]).flatten(1)
    return pad(rows, (0, -rows.shape[1] % m)).reshape(len(rows), -1, m)


def spread(columns: torch.Tensor, shape: torch.Size, order: Order) -> torch.Tensor:
    """(K, G, m) -> (K, C, R, S): inverse of `grouped`."""
    axes = _AXES[order]
    rows = columns.flatten(1)[:, : math.prod(shape[1:])]
    moved = rows.reshape([shape[axis] for axis in axes])
    return moved.permute([axes.index(i) for i in range(4)])


def order_code(order: Order) -> int:
    """An order as an integer parameter of an encoding."""
    return ORDERS.index(order)
