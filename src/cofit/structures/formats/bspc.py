"""bspc: whole columns of stripes of matrix rows, without the rows that are removed altogether.

`rows` has one bit per row of the matrix, the first in the lowest bit: whether it is stored.
`count[N]` stored columns of each stripe of `stripe` rows; `index[n]` columns, ascending inside a
stripe; `values` stripe by stripe and column by column, one per stored row, nothing padded.

An own definition after what Dong et al. (RTMobile, DAC 2020, arXiv 2002.11474) describe.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Layout, index_type


def encode(weight: Array, stripe: int) -> Encoding:
    """Store the rows, and per stripe the columns, that hold a non-zero."""
    rows, columns = weight.shape[0], math.prod(weight.shape[1:])
    matrix = weight.reshape(rows, columns)
    stored = np.asarray((matrix != 0).any(axis=1))
    stripes = math.ceil(rows / stripe)
    kind = index_type(columns)
    count, index, values = [], [np.zeros(0, np.intp)], [np.zeros(0, weight.dtype)]
    for i in range(stripes):
        part = matrix[i * stripe : (i + 1) * stripe][stored[i * stripe : (i + 1) * stripe]]
        used = np.flatnonzero(part.any(axis=0))
        count.append(len(used))
        index.append(used)
        values.append(part[:, used].T.reshape(-1))
    arrays: dict[str, Array] = {
        "rows": np.packbits(stored, bitorder="little"),
        "count": np.array(count).astype(kind),
        "index": np.concatenate(index).astype(kind),
        "values": np.concatenate(values),
    }
    return Encoding("bspc", weight.shape, arrays, {"stripe": stripe}, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros elsewhere."""
    values = encoding.arrays["values"].reshape(-1)
    weight: Array = np.zeros((encoding.shape[0], math.prod(encoding.shape[1:])), values.dtype)
    at = 0
    for rows, columns in stripes(encoding):
        size = len(rows) * len(columns)
        weight[np.ix_(rows, columns)] = values[at : at + size].reshape(len(columns), len(rows)).T
        at += size
    return weight.reshape(encoding.shape)


def stripes(encoding: Encoding) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Stored rows and columns of each stripe."""
    rows, stripe = encoding.shape[0], encoding.parameters["stripe"]
    stored = np.unpackbits(encoding.arrays["rows"], count=rows, bitorder="little").astype(bool)
    ends = np.cumsum(encoding.arrays["count"].astype(np.int64))[:-1]
    columns = np.split(encoding.arrays["index"].astype(np.intp), ends)
    return [
        (i * stripe + np.flatnonzero(stored[i * stripe : (i + 1) * stripe]), kept)
        for i, kept in enumerate(columns)
    ]


def layout(shape: tuple[int, ...], kept: list[tuple[int, int]]) -> Layout:
    """One row of values.

    Args:
        shape: of the weight.
        kept: stored (rows, columns) of each stripe.
    """
    index_bytes = index_type(math.prod(shape[1:])).itemsize * sum(1 + c for _, c in kept)
    return Layout(math.ceil(shape[0] / 8) + index_bytes, 1, sum(r * c for r, c in kept))
