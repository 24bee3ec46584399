"""Old pickles of arrays, read as data: every object becomes a record, and nothing is called.

The planetoid files are Python 2 pickles of NumPy arrays, SciPy CSR matrices and a dict of lists. A
pickle names what it wants to have imported and called; here five such names are known, and each
stands for a class of this file that only writes down its arguments. Any other name is refused.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cofit.core import DataError

_NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"})


class _Record:
    """What a pickle has to say about one object."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    # present so that a pickle cannot set attributes, neither here nor on the class
    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Record):
    pass


class _Type(_Record):
    pass


class _Csr(_Record):
    pass


def _dict(*_: Any) -> dict[Any, Any]:
    return {}


def _marker(*_: Any) -> None:
    return None


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _marker,
    ("numpy", "dtype"): _Type,
    ("scipy.sparse.csr", "csr_matrix"): _Csr,
    ("collections", "defaultdict"): _dict,
    ("builtins", "list"): _marker,  # the factory of the defaultdict
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which is not plain data")
        return _KNOWN[module, name]


def read_pickle(path: Path) -> Any:
    """An array, a dense copy of a CSR matrix, or a dict of lists of integers.

    Raises:
        DataError: the file is absent or damaged, or names anything that is not such data.
    """
    try:
        with path.open("rb") as file:
            found = _Reader(file, encoding="latin1").load()
        if isinstance(found, _Array):
            return _array(found)
        return _dense(found) if isinstance(found, _Csr) else _lists(found)
    except Exception as error:  # a malformed pickle raises whatever its instructions lead to
        raise DataError(
            f"cannot read {str(path)!r} as a pickle of plain arrays: {error}; fetch the file again"
        ) from error


def _array(record: Any) -> NDArray[np.generic]:
    if not isinstance(record, _Array) or not isinstance(record.state, tuple):
        raise TypeError(f"found {type(record).__name__} instead of an array")
    _, shape, kind, fortran, text = record.state
    code, order = str(kind.arguments[0]), str(kind.state[1])
    if code not in _NUMBERS or order not in "<>|=":
        raise TypeError(f"an array of {code!r}, not of numbers")
    dtype = np.dtype(code).newbyteorder(order)  # type: ignore[arg-type]
    content = text.encode("latin1") if isinstance(text, str) else bytes(text)
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for shape {shape} of {code}")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))


def _dense(record: _Csr) -> NDArray[np.generic]:
    state = record.state
    parts = tuple(_array(state[name]) for name in ("data", "indices", "indptr"))
    rows, columns = state["_shape"]
    matrix = csr_array(parts, shape=(int(rows), int(columns)))
    matrix.check_format(full_check=True)
    return np.asarray(matrix.toarray())


def _lists(found: Any) -> dict[int, list[int]]:
    if not isinstance(found, dict):
        raise TypeError(f"found {type(found).__name__}")
    for key, values in found.items():
        if type(key) is not int or type(values) is not list or {type(v) for v in values} - {int}:
            raise TypeError(f"the entry of {key!r} is not a list of integers")
    return found
