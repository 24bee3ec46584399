"""Exponentials of float32 in vectors against those of float64."""

import ctypes
import math

import numpy as np
import pytest
from s8_graphs import HOST

from cofit.codegen.build import build
from cofit.codegen.c_text import support_text

EPSILON = 2.0**-24
NAMES = ("exp", "sigmoid", "tanh", "gelu", "gelu_tanh")
LOOP = """
void run_{name}(const float *x, int32_t count, float *y)
{{
    for (int32_t i = 0; i < count; i++)
        y[i] = f32_{name}(x[i]);
}}
"""


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    text = "#include <stddef.h>\n#include <stdint.h>\n" + support_text(["f32_functions.h"])
    text += "".join(LOOP.format(name=name) for name in NAMES)
    flags = ("-std=c99", "-O2", *HOST.flags, "-ffp-contract=fast", "-shared", "-fPIC")
    return ctypes.CDLL(str(build({"functions.c": text}, flags, "functions.so")))


def evaluate(library: ctypes.CDLL, name: str, x: np.ndarray) -> np.ndarray:
    single, y = x.astype(np.float32), np.empty(len(x), np.float32)
    pointers = (ctypes.c_void_p(values.ctypes.data) for values in (single, y))
    source, target = pointers
    library[f"run_{name}"](source, ctypes.c_int32(len(x)), target)
    return y.astype(np.float64)


def exact(name: str, x: np.ndarray) -> np.ndarray:
    match name:
        case "exp":
            return np.exp(x)
        case "sigmoid":
            return 1 / (1 + np.exp(-x))
        case "tanh":
            return np.tanh(x)
        case "gelu":
            return x / 2 * np.vectorize(math.erfc)(-x / math.sqrt(2))
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_good_to_a_few_units(library: ctypes.CDLL, name: str) -> None:
    x = np.concatenate([np.linspace(-20, 20, 100_001), np.linspace(-1e-3, 1e-3, 1001)])
    x = np.concatenate([x, np.linspace(-86, 86, 10_001)]).astype(np.float32).astype(np.float64)
    y, wanted = evaluate(library, name, x), exact(name, x)
    error = np.abs(y - wanted)
    if name in ("exp", "tanh"):  # also where the result is small
        assert (error <= 4 * EPSILON * np.abs(wanted)).all()
    else:
        assert (error <= 4 * EPSILON * (np.abs(x) + 1)).all()


def test_the_ends_of_the_range(library: ctypes.CDLL) -> None:
    ends = np.array([np.inf, -np.inf, 1e30, -1e30, np.nan])
    big, small = 1e38, 1e-7
    for name, above, below in (
        ("exp", (big, np.inf), (0, small)),
        ("sigmoid", (1, 1), (0, small)),
        ("tanh", (1, 1), (-1, -1)),
    ):
        y = evaluate(library, name, ends)
        assert ((above[0] <= y[[0, 2]]) & (y[[0, 2]] <= above[1])).all()
        assert ((below[0] <= y[[1, 3]]) & (y[[1, 3]] <= below[1])).all()
        assert np.isnan(y[4])
    for name in ("gelu", "gelu_tanh"):
        y = evaluate(library, name, ends)
        assert y[0] == np.inf and y[2] == np.float32(1e30) and abs(y[3]) < 1e-6 and np.isnan(y[4])
