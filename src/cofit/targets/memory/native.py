"""The compiled part of the memory models (`channel.c`)."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen import build
from cofit.codegen.build import WARNINGS

_SOURCE = Path(__file__).with_name("channel.c")


class Requests(ctypes.Structure):
    """As `requests_t`."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("rank", "bank", "row", "bursts", "hit"))


class Record(ctypes.Structure):
    """As `record_t`."""

    _fields_ = (
        ("activates", ctypes.c_int64),
        ("reads", ctypes.c_int64),
        ("refreshes", ctypes.c_int64),
        ("log", ctypes.c_void_p),
        ("logged", ctypes.c_int64),
        ("room", ctypes.c_int64),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """The library, built once per compiler."""
    text = _SOURCE.read_text(encoding="utf-8")
    flags = (*WARNINGS, "-O3", "-shared", "-fPIC")
    found = ctypes.CDLL(str(build({"channel.c": text}, flags, "channel.so")))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    found.cofit_host.argtypes = [pointer, pointer, integer, pointer, pointer, pointer]
    found.cofit_host.restype = integer
    found.cofit_near.argtypes = [
        pointer, pointer, integer, pointer, pointer, pointer, pointer, integer, integer, integer,
        pointer, pointer, pointer,
    ]  # fmt: skip
    found.cofit_near.restype = integer
    found.cofit_channel_bytes.restype = integer
    found.cofit_stack_distances.argtypes = [integer, pointer, pointer, pointer]
    found.cofit_stack_distances.restype = None
    found.cofit_optimal_hits.argtypes = [
        integer, pointer, pointer, integer, pointer, pointer, pointer,
    ]  # fmt: skip
    found.cofit_optimal_hits.restype = None
    return found


def at(array: NDArray[np.generic]) -> int:
    """Address of an array's first element."""
    assert array.flags.c_contiguous
    return array.ctypes.data
