"""The compiled product of packed weights and int8 activations."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.build import WARNINGS, build
from cofit.core import StructureError
from cofit.structures import Encoding


def packed_gemm(weight: Encoding, x: NDArray[np.int8]) -> NDArray[np.int32]:
    """Products of the levels (K, n) of a packed weight with columns (M, n): (K, M).

    Raises:
        StructureError: the encoding is not packed, or lengths differ.
        BuildError: the compiler is missing.
    """
    length = int(np.prod(weight.shape[1:]))
    if weight.format != "packed" or x.ndim != 2 or x.shape[1] != length:
        raise StructureError(
            f"a {weight.format!r} weight of {length} per row and columns of shape {x.shape}; "
            "give a packed weight and columns (M, n)"
        )
    codes = np.ascontiguousarray(weight.arrays["codes"])
    x = np.ascontiguousarray(x, np.int8)
    unpacked = np.empty(length, np.int8)
    out = np.empty((weight.shape[0], len(x)), np.int32)
    _library().packed_gemm(
        codes.ctypes.data, weight.parameters["bits"], weight.shape[0], length,
        x.ctypes.data, len(x), unpacked.ctypes.data, out.ctypes.data,
    )  # fmt: skip
    return out


@functools.cache
def _library() -> ctypes.CDLL:
    text = Path(__file__).with_name("gemm.c").read_text(encoding="utf-8")
    flags = (*WARNINGS, "-O3", "-shared", "-fPIC")
    library = ctypes.CDLL(str(build({"gemm.c": text}, flags, "gemm.so")))
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    library.packed_gemm.argtypes = [
        pointer, number, number, number, pointer, number, pointer, pointer,
    ]  # fmt: skip
    library.packed_gemm.restype = None
    return library
