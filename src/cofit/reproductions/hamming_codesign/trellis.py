"""Rounding of weights that weighs bits against accuracy, exactly."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen import build
from cofit.codegen.build import WARNINGS
from cofit.core import ConfigError
from cofit.reproductions.hamming_codesign.flips import codes

REACH = 4
"""Levels that a weight may move from its nearest one."""

_STATES = 2 * REACH + 1


def round_for_flips(levels: NDArray[np.float32], price: float, encoding: str) -> NDArray[np.int8]:
    """Integers near given values, with few bits that toggle from row to row.

    Minimises sum (q - levels)^2 + price * flips over all integers within `REACH` of the nearest
    ones, exactly: the columns are independent, each is a shortest path. At price 0 it rounds to
    nearest. Values that round to -127 or 127 stay, for they carry the scale of their channel.

    Args:
        levels: (K, C) in -127 to 127, rows in the order in which they are streamed.
        price: squared levels that a flip is worth, not below 0.
        encoding: of the streamed integers.

    Raises:
        ConfigError: the price is below 0, or a value is out of range.
        UnknownNameError: no such encoding.
    """
    if not price >= 0 or not (np.abs(levels) < 127.5).all():
        raise ConfigError(
            f"price {price} and levels up to {np.abs(levels).max()}; the price must not be below "
            "0 and levels lie in -127 to 127"
        )
    values = np.arange(-127, 128)
    pattern = np.concatenate([np.zeros(1, np.uint8), codes(values, encoding)])
    given = np.ascontiguousarray(levels, np.float32)
    found = np.empty(given.shape, np.int8)
    back = np.empty(len(given) * _STATES, np.int8)
    _function()(
        *given.shape, given.ctypes.data, price, pattern.ctypes.data, back.ctypes.data,
        found.ctypes.data,
    )  # fmt: skip
    return found


@functools.cache
def _function() -> ctypes._NamedFuncPointer:
    text = Path(__file__).with_name("trellis.c").read_text(encoding="utf-8")
    flags = (*WARNINGS, f"-DREACH={REACH}", "-O3", "-march=native", "-shared", "-fPIC")
    function = ctypes.CDLL(str(build({"trellis.c": text}, flags, "trellis.so"))).cofit_trellis
    p, i = ctypes.c_void_p, ctypes.c_int
    function.argtypes = [i, i, p, ctypes.c_double, p, p, p]
    function.restype = None
    return function
