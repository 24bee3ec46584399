"""Short open paths through all rows of a distance matrix, and the bound that none passes."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen import build
from cofit.codegen.build import WARNINGS
from cofit.core import ConfigError

Ints = NDArray[np.int64]
STARTS = 8
"""Greedy paths that are tried, from rows spread evenly."""

_SOURCE = Path(__file__).with_name("path.c")


def short_path(distance: Ints, given: Ints | None = None, starts: int = STARTS) -> Ints:
    """A short open path by nearest neighbours, 2-opt and Or-opt.

    Args:
        distance: (K, K), symmetric, not below zero.
        given: (K,), a path that the result is never longer than; the rows as they are without it.
        starts: greedy paths, the best of which is improved beside `given`.

    Returns:
        (K,), the rows in the order of the path.

    Raises:
        ConfigError: the matrix is not square.
    """
    d = _checked(distance)
    n = len(d)
    order = np.arange(n, dtype=np.int32) if given is None else given.astype(np.int32)
    if n < 3:
        return order.astype(np.int64)
    first = np.unique(np.linspace(0, n - 1, min(starts, n)).round().astype(np.int32))
    work = np.empty(3 * n, np.int32)
    _library().cofit_short_path(n, _at(d), len(first), _at(first), _at(order), _at(work))
    return order.astype(np.int64)


def path_length(distance: Ints, order: Ints) -> int:
    """Sum of the distances along a path."""
    return int(distance[order[:-1], order[1:]].sum())


def spanning_tree(distance: Ints) -> int:
    """Length of a minimum spanning tree, which no path through all rows is shorter than."""
    d = _checked(distance)
    if len(d) < 2:
        return 0
    work = np.empty(2 * len(d), np.int32)
    return int(_library().cofit_spanning_tree(len(d), _at(d), _at(work)))


def _checked(distance: Ints) -> NDArray[np.int32]:
    if distance.ndim != 2 or distance.shape[0] != distance.shape[1]:
        raise ConfigError(f"distances of shape {distance.shape}; give a square matrix")
    return np.ascontiguousarray(distance, np.int32)


def _at(array: NDArray[np.int32]) -> int:
    return array.ctypes.data


@functools.cache
def _library() -> ctypes.CDLL:
    text = _SOURCE.read_text(encoding="utf-8")
    flags = (*WARNINGS, "-O3", "-shared", "-fPIC")
    library = ctypes.CDLL(str(build({"path.c": text}, flags, "path.so")))
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    library.cofit_short_path.argtypes = [integer, pointer, integer, pointer, pointer, pointer]
    library.cofit_short_path.restype = None
    library.cofit_spanning_tree.argtypes = [integer, pointer, pointer]
    library.cofit_spanning_tree.restype = ctypes.c_int64
    return library
