"""Features that are mostly zero (bags of words), multiplied without their zeros.

Cora's features are 1.3 % dense: as rows of a sparse matrix the first layer, its weight gradient and
its dropout take a twentieth of the time, which else is nearly all of an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from cofit.graphs.adjacency import Adjacency
from cofit.graphs.aggregate import aggregate

GATHER_MACS = 5
"""Cost of gathering and adding one element in MACs of a matrix product; measured on AVX2."""


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Constant features (n, d) as their non-zeros.

    Args:
        matrix: n destinations (the nodes) from d sources (the features), weighted.
        values: (nnz,) in the place of the weights, for example after dropout.
    """

    matrix: Adjacency
    values: torch.Tensor | None = None


Features = torch.Tensor | SparseRows
"""What the layers GCN, SAGE (sum and mean) and GAT take."""


def sparse_rows(x: torch.Tensor) -> SparseRows | None:
    """The non-zeros of constant features (n, d), or None where the dense matrix is as good."""
    if x.count_nonzero() * 2 * GATHER_MACS > x.numel():
        return None
    rows, columns = x.nonzero(as_tuple=True)
    indptr = torch.zeros(len(x) + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows, minlength=len(x)), 0, out=indptr[1:])
    return SparseRows(Adjacency(indptr, columns, x.shape[1], x[rows, columns]))


def linear(x: Features, weight: torch.Tensor) -> torch.Tensor:
    """(n, d) features times weight (d_out, d), transposed: (n, d_out)."""
    if isinstance(x, SparseRows):
        return aggregate(x.matrix, weight.T, weight=x.values)
    return F.linear(x, weight)


def dropout(x: Features, probability: float, training: bool) -> Features:
    """Each feature zero with a probability, the others scaled up; as it is if not training."""
    if not isinstance(x, SparseRows):
        return F.dropout(x, probability, training)
    if not training or probability == 0 or x.matrix.weight is None:
        return x
    return replace(x, values=F.dropout(x.matrix.weight, probability))
