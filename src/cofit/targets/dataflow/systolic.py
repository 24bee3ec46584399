"""Cycles of systolic arrays that never wait for memory, exactly as SCALE-Sim 2.0.2 counts them.

A convolution is the product of P = Y * X positions, D = R * S * C products each, and M filters. The
array takes it in folds of what stays in it; each fold is filled, streamed through and drained
before the next (Samajdar, ISPASS 2020).
"""

from __future__ import annotations

import numpy as np

from cofit.core import UnknownNameError
from cofit.targets.dataflow.layer import Array, C, G, K, Layers, N, R, S, X, Y

STATIONARY = ("weight", "output", "input")


def systolic_cycles(
    layers: Layers, rows: int | Array, columns: int | Array, stationary: str
) -> Array:
    """Cycles of each layer (P,); groups and images one after another.

    Args:
        layers: of the points.
        rows: of the array, or one per point.
        columns: likewise.
        stationary: "weight", "output" or "input".

    Raises:
        UnknownNameError: another dataflow.
    """
    sizes = layers.sizes
    positions = sizes[N] * sizes[Y] * sizes[X]
    depth, filters = sizes[R] * sizes[S] * sizes[C], sizes[K]
    if stationary == "weight":
        folds = np.ceil(depth / rows) * np.ceil(filters / columns)
        each = positions + 2 * rows + columns - 2
    elif stationary == "output":
        folds = np.ceil(positions / rows) * np.ceil(filters / columns)
        each = depth + rows + columns - 2
    elif stationary == "input":
        folds = np.ceil(depth / rows) * np.ceil(positions / columns)
        each = filters + 2 * rows + columns - 2
    else:
        raise UnknownNameError("systolic dataflow", stationary, STATIONARY)
    total: Array = sizes[G] * (folds * each - 1)
    return total
