"""The compiled part of islands (`islands.c`)."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from cofit.codegen import build, machine
from cofit.codegen.build import WARNINGS

_SOURCE = Path(__file__).with_name("islands.c")
_P, _I = ctypes.c_void_p, ctypes.c_int64


class Search(ctypes.Structure):
    """As `search_t`: what the engines share."""

    _fields_ = (
        *((name, _P) for name in ("indptr", "indices", "state", "task")),
        *((name, _I) for name in ("tasks", "next", "largest")),
        *((name, _P) for name in ("member", "start", "size")),
        *((name, _I) for name in ("members", "islands")),
    )


class Engine(ctypes.Structure):
    """As `engine_t`."""

    _fields_ = (
        *((name, _I) for name in ("busy", "head", "count", "visits", "wasted", "began")),
        ("queue", _P),
    )


class Ops(ctypes.Structure):
    """As `ops_t`."""

    _fields_ = (("to", _P), ("from_", _P), ("sign", _P), ("count", _I), ("partial", _I))


@functools.cache
def library() -> ctypes.CDLL:
    """The library, built once per compiler."""
    text = _SOURCE.read_text(encoding="utf-8")
    flags = (*WARNINGS, "-O3", *machine("host").flags, "-shared", "-fPIC")
    found = ctypes.CDLL(str(build({"islands.c": text}, flags, "islands.so")))
    for name, arguments, result in (
        ("cofit_islands_engine", [_P, _P, _I], None),
        ("cofit_islands_lockstep", [_P, _P, _I], None),
        ("cofit_island_ops", [_P, _P, _P, _P, _P, _I, _I, ctypes.c_int, _P], ctypes.c_int),
        ("cofit_bitmap_ops", [_P, _P, _P, _I, _I, _I, _I, _P], None),
    ):
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, result
    return found
