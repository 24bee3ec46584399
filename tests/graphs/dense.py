"""Adjacencies as dense matrices."""

import torch

from cofit.graphs import Adjacency


def dense(adjacency: Adjacency) -> torch.Tensor:
    """The matrix of an adjacency by a loop, independent of the code under test."""
    matrix = torch.zeros(adjacency.num_dst, adjacency.num_src, dtype=torch.float64)
    for v in range(adjacency.num_dst):
        for e in range(int(adjacency.indptr[v]), int(adjacency.indptr[v + 1])):
            weight = 1.0 if adjacency.weight is None else float(adjacency.weight[e])
            matrix[v, int(adjacency.indices[e])] += weight
    return matrix
