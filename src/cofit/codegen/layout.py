"""Memory order of activations: NHWC for rank 4, row-major for all others.

Some activations between kernels that work on planes of channels lie in such planes instead (see
`assignment`).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.ir import Graph, Op, attributes

Array = NDArray[np.generic]


LINE_FLOATS = 16


@dataclass(frozen=True)
class PlaneLayout:
    """Element (0, c, y, x) is float number c * size + y * pitch + x; others mean nothing."""

    pitch: int
    size: int

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor (1, C, H, W)."""
        return 4 * shape[1] * self.size

    def to_logical(self, values: NDArray[np.float32], shape: tuple[int, ...]) -> Array:
        """Elements as they lie, to (1, C, H, W), contiguous."""
        _, channels, rows, columns = shape
        whole = values.reshape(channels, self.size)[:, : rows * self.pitch]
        return whole.reshape(1, channels, rows, self.pitch)[..., :columns].copy()


def plane_layout(rows: int, pitch: int) -> PlaneLayout:
    """Planes an odd number of cache lines apart, which spreads them over a cache."""
    lines = -(-rows * pitch // LINE_FLOATS)
    return PlaneLayout(pitch, (lines | 1) * LINE_FLOATS)


def memory_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the array as it lies in memory: (1, C, H, W) -> (1, H, W, C)."""
    return (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape


def to_memory(x: Array) -> Array:
    """Logical to memory order, contiguous."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)


def to_logical(x: Array, shape: tuple[int, ...]) -> Array:
    """Elements in memory order (flat or shaped, any batch) to the logical shape, contiguous."""
    memory = x.reshape(-1, *memory_shape(shape)[1:])
    return np.ascontiguousarray(memory.transpose(0, 3, 1, 2) if len(shape) == 4 else memory)


@functools.cache
def logical_order(shape: tuple[int, ...]) -> bool:
    """Whether memory order is the logical row-major order (C = 1 or H * W = 1 for rank 4)."""
    return len(shape) != 4 or shape[1] == 1 or shape[2] * shape[3] == 1


@functools.cache
def same_bytes(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape leaves the elements where they lie in memory."""
    if logical_order(before) and logical_order(after):
        return True
    return _same_order(np.arange(math.prod(before)).reshape(before), after)


@functools.cache
def same_bytes_turned(before: tuple[int, ...], order: tuple[int, ...]) -> bool:
    """Whether a transposition leaves the elements where they lie in memory."""
    index = np.arange(math.prod(before)).reshape(before)
    return bool(np.array_equal(to_memory(index).ravel(), to_memory(index.transpose(order)).ravel()))


def _same_order(index: Array, after: tuple[int, ...]) -> bool:
    first, second = (to_memory(each).ravel() for each in (index, index.reshape(after)))
    return bool(np.array_equal(first, second))


def is_alias(graph: Graph, op: Op) -> bool:
    """Whether the output of an op has the bytes of its input."""
    before = graph.tensors[op.inputs[0]]
    if before.data is not None:
        return False
    match op.attributes:
        case attributes.Reshape():
            return same_bytes(before.shape, graph.tensors[op.output].shape)
        case attributes.Transpose(permutation=order):
            return same_bytes_turned(before.shape, order)
    return False
