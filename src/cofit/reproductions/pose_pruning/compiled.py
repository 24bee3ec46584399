"""Grouping in C: the reference's decisions, at the speed of the network's own program."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen import build
from cofit.codegen.build import WARNINGS
from cofit.core import ConfigError
from cofit.reproductions.pose_pruning import grouping
from cofit.reproductions.pose_pruning.grouping import MAX_PEOPLE, Maps, check_maps
from cofit.reproductions.pose_pruning.oks import Person
from cofit.reproductions.pose_pruning.skeleton import Skeleton

_CONSTANTS = (
    "THRESHOLD", "RADIUS_PX", "SAMPLES", "LEAST_DOT", "LEAST_SUCCESS", "LEAST_KEYPOINTS",
    "LEAST_SCORE", "MAX_PEAKS", "MAX_PEOPLE",
)  # fmt: skip
_KINDS = 32


class CompiledGrouping:
    """Calls `grouping.c`; one object serves one thread.

    Args:
        skeleton: keypoints (32 at most) and limbs.
        stride: pixels per cell.
    """

    def __init__(self, skeleton: Skeleton, stride: int) -> None:
        if len(skeleton.keypoints) > _KINDS:
            raise ConfigError(f"{len(skeleton.keypoints)} keypoints; compiled are {_KINDS} at most")
        self._skeleton = skeleton
        self._stride = float(stride)
        self._function = _library()
        self._ends = np.array(skeleton.limbs, np.int32)
        self._memory = np.empty(_library_bytes(), np.uint8)
        self._rows = np.empty((MAX_PEOPLE, 1 + 2 * len(skeleton.keypoints)))

    def rows(self, maps: Maps) -> NDArray[np.float64]:
        """People (P, 1 + 2 * keypoints): score, then x and y of each keypoint in pixels.

        Raises:
            DataError: see `grouping.group`.
        """
        maps = np.ascontiguousarray(maps, np.float32)
        if maps.ndim != 3 or maps.shape[0] != self._skeleton.maps:
            check_maps(maps, self._skeleton)
        found = self._function(
            maps.ctypes.data, maps.shape[1], maps.shape[2], len(self._skeleton.keypoints),
            len(self._skeleton.limbs), self._ends.ctypes.data, self._stride,
            self._memory.ctypes.data, self._rows.ctypes.data,
        )  # fmt: skip
        if found < 0:
            check_maps(maps, self._skeleton)
        return self._rows[:found].copy()

    def __call__(self, maps: Maps) -> list[Person]:
        """As `grouping.group`."""
        return [Person(row[1:].reshape(-1, 2), float(row[0])) for row in self.rows(maps)]


@functools.cache
def _loaded() -> ctypes.CDLL:
    text = Path(__file__).with_name("grouping.c").read_text(encoding="utf-8")
    constants = [f"-D{name}={getattr(grouping, name)}" for name in _CONSTANTS]
    # decisions are to be those of numpy, which never fuses a product and a sum
    flags = (*WARNINGS, "-O3", "-march=native", "-ffp-contract=off", *constants)
    path = build({"grouping.c": text}, (*flags, "-shared", "-fPIC"), "grouping.so")
    return ctypes.CDLL(str(path))


def _library() -> ctypes._NamedFuncPointer:
    function = _loaded().cofit_group
    p, i = ctypes.c_void_p, ctypes.c_int
    function.argtypes = [p, i, i, i, i, p, ctypes.c_double, p, p]
    function.restype = ctypes.c_int
    return function


def _library_bytes() -> int:
    function = _loaded().cofit_group_bytes
    function.argtypes = []
    function.restype = ctypes.c_size_t
    return int(function())
