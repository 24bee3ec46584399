"""CSR's two primitives: linear-time sorting of edges by node number, and gathering of rows."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array


def group_by(keys: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stable counting sort of positions by key, in O(positions + count).

    Args:
        keys: (E,) integers from 0 to `count` - 1.
        count: number of groups.

    Returns:
        indptr (count + 1,) and order (E,), int64: group k is `order[indptr[k]:indptr[k + 1]]`,
        ascending.
    """
    # A matrix with one entry per row, at its key: its columns list the rows that have that key.
    width = np.int32 if max(len(keys), count) < 2**31 else np.int64
    rows = np.arange(len(keys) + 1, dtype=width)
    data = np.empty(len(keys), np.int8)
    matrix = csr_array((data, keys.numpy().astype(width), rows), shape=(len(keys), count))
    grouped = matrix.tocsc()
    return torch.from_numpy(grouped.indptr).long(), torch.from_numpy(grouped.indices).long()


def take_rows(indptr: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the entries of some CSR rows lie.

    Args:
        indptr: (n + 1,) of the matrix.
        rows: (m,) row numbers, in any order, repeats allowed.

    Returns:
        indptr (m + 1,) of the taken rows and the position (E',) of each of their entries.
    """
    starts = indptr[rows]
    lengths = indptr[rows + 1] - starts
    taken = torch.zeros(len(rows) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=taken[1:])
    shift = torch.repeat_interleave(starts - taken[:-1], lengths)
    return taken, torch.arange(len(shift)) + shift
