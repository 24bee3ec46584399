"""Wall time of one layer in C, in both flows."""

from __future__ import annotations

import ctypes
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.codegen import build, machine
from cofit.core import VerificationError, numpy_generator

POOL = 1 << 14
"""Places in the table of noise; a row reads on from one of them."""

ROUNDS = 15
Floats = NDArray[np.float32]


@functools.cache
def _library() -> ctypes.CDLL:
    source = Path(__file__).with_name("kernel.c").read_text(encoding="utf-8")
    flags = (
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-O3",
        *machine("host").flags,
        "-ffast-math",
        "-shared",
    )
    return ctypes.CDLL(str(build({"kernel.c": source}, (*flags, "-fPIC"), "kernel.so")))


def layer_times(rows: int, columns: int, voters: int) -> tuple[float, float]:
    """Median seconds of the standard and the memorised flow, timed in turn on random operands.

    Raises:
        VerificationError: the two disagree.
    """
    draw = numpy_generator(0, "bnn-dm", "kernel")
    mu, sigma = (draw.standard_normal((rows, columns)).astype(np.float32) for _ in range(2))
    x, pool = (draw.standard_normal(n).astype(np.float32) for n in (columns, POOL + columns))
    outs = [np.zeros((voters, rows), np.float32) for _ in range(2)]
    beta = np.zeros(columns, np.float32)
    library = _library()

    def call(name: str, out: Floats, *extra: Floats) -> Callable[[], None]:
        function = getattr(library, name)
        given = [ctypes.c_void_p(v.ctypes.data) for v in (mu, np.abs(sigma, out=sigma), x, pool)]
        more = [ctypes.c_void_p(v.ctypes.data) for v in extra]
        return lambda: function(
            *given, ctypes.c_void_p(out.ctypes.data), rows, columns, voters, *more
        )

    calls = [call("layer_standard", outs[0]), call("layer_memorised", outs[1], beta)]
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for number, each in enumerate(calls):
            start = time.perf_counter()
            each()
            seconds[number].append(time.perf_counter() - start)
    if not np.allclose(outs[0], outs[1], rtol=1e-3, atol=1e-2 * columns**0.5):
        raise VerificationError("the two flows in C disagree")
    return statistics.median(seconds[0]), statistics.median(seconds[1])
