"""Graphs of nearest neighbours, for point clouds."""

from __future__ import annotations

import torch

from cofit.core import DataError
from cofit.graphs.adjacency import Adjacency

TILE_BYTES = 1 << 22
"""Distances held at a time; they stay in the cache while their smallest are sought."""
EXACT_WIDTH = 4
"""Up to this many dimensions distances are formed from differences."""


def knn(
    x: torch.Tensor, k: int, batch: torch.Tensor | None = None, *, loops: bool = False
) -> Adjacency:
    """Edges into every point from its `k` nearest points of the same cloud, the nearest first.

    Distances are Euclidean, computed in tiles of rows: k n numbers are kept, never n^2. Of equal
    ones the point of the smaller number comes first.

    Args:
        x: (n, d) points; no gradient flows through the choice.
        k: neighbours per point.
        batch: (n,) cloud of each point, ascending; None is one cloud.
        loops: let a point be its own neighbour, as DGCNN does.

    Raises:
        DataError: NaN or infinite points, an unsorted `batch`, or a cloud with too few points.
    """
    x = x.detach()
    n = len(x)
    if x.dim() != 2 or not torch.isfinite(x).all():
        raise DataError(f"points of shape {tuple(x.shape)}; give finite ones of shape (n, d)")
    if batch is None:
        batch = torch.zeros(n, dtype=torch.int64)
    if batch.shape != (n,) or (batch.diff() < 0).any():
        raise DataError(
            f"batch of shape {tuple(batch.shape)} for {n} points; give one ascending number each"
        )
    _, counts = torch.unique_consecutive(batch, return_counts=True)
    most = int(counts.min()) - (not loops) if n else 0
    if not 1 <= k <= most:
        raise DataError(f"k = {k} neighbours; the smallest cloud allows from 1 to {most}")
    sizes = counts.tolist()
    if len(set(sizes)) == 1:  # clouds of one size go through the kernels together
        sources = nearest(x.view(len(sizes), sizes[0], -1), k, loops)
    else:
        parts = [nearest(cloud[None], k, loops)[0] for cloud in x.split(sizes)]
        sources = torch.cat(parts)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    indices = (sources.reshape(n, k) + first[:, None]).reshape(-1)
    return Adjacency(torch.arange(0, n * k + 1, k), indices, n)


def nearest(clouds: torch.Tensor, k: int, loops: bool) -> torch.Tensor:
    """The `k` nearest points of every point, the nearest first, the smaller number among equals.

    Distances in few dimensions are sums of squared differences, so that equal ones are equal in
    bits; in many they come from a product of matrices.

    Args:
        clouds: (clouds, n, d) finite points without gradient.
        k: at most n, or n - 1 without `loops`; not checked.
        loops: let a point be its own neighbour.

    Returns:
        (clouds, n, k) numbers within the cloud.
    """
    number, n, d = clouds.shape
    if d > EXACT_WIDTH:
        clouds = clouds - clouds[:, :1]  # squares of a common offset would cancel badly
    rows = max(1, TILE_BYTES // (number * n * clouds.element_size()))
    found = torch.empty(number, n, k, dtype=torch.int64)
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        distances = _squared_distances(clouds[:, start:stop], clouds)
        if not loops:
            distances[:, torch.arange(stop - start), torch.arange(start, stop)] = torch.inf
        found[:, start:stop] = _smallest(distances, k)
    return found


def _squared_distances(rows: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    if rows.shape[-1] <= EXACT_WIDTH:
        columns = zip(rows.unbind(-1), points.unbind(-1), strict=True)
        parts = ((row[..., None] - point[:, None]).square_() for row, point in columns)
        total = next(parts)
        for part in parts:
            total += part
        return total
    squares = points.square().sum(-1)[:, None]
    own = rows.square().sum(-1, keepdim=True)
    return torch.baddbmm(squares, rows, points.mT, alpha=-2).add_(own).clamp_(min=0)


def _smallest(distances: torch.Tensor, k: int) -> torch.Tensor:
    """Indices of the `k` smallest along the last axis, ties by index."""
    if distances.dtype != torch.float32:
        return distances.sort(dim=-1, stable=True).indices[..., :k]
    # the bits of non-negative floats are ordered as they are; the index below them breaks ties
    keys = distances.view(torch.int32).long() << 32
    keys |= torch.arange(distances.shape[-1])
    return keys.topk(k, largest=False).indices
