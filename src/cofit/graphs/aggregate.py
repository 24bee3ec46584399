"""Sums, means, maxima and minima over in-neighbours, with gradients, nothing materialised per edge.

Sums run as embedding bags: a destination is a bag of source rows. PyTorch hands these to FBGEMM,
which prefetches the rows it gathers; on one core this was 2 to 4 times faster than
`torch.sparse_csr @ dense`, and 6 to 80 times faster than gathering and scattering. The backward
pass is the same kernel on the cached transpose.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from cofit.core import ConfigError, DataError
from cofit.graphs.adjacency import Adjacency, Compact

REDUCTIONS = ("sum", "mean", "max", "min")


def aggregate(
    adjacency: Adjacency,
    x: torch.Tensor,
    reduce: str = "sum",
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Combine the features of the sources of the edges into each destination.

    A destination without edges gets zeros. A mean is the weighted sum over the degree in the whole
    graph. Each sum runs in the order of the edges, so equal rows give equal bits.

    Args:
        adjacency: who is whose neighbour.
        x: (num_src, d) float.
        reduce: "sum", "mean", "max" or "min"; the last two pay no heed to weights.
        weight: (E,) factors that take the place of `adjacency.weight` and may be trained.

    Returns:
        (num_dst, d).

    Raises:
        DataError: `x` has not one row per source.
        ConfigError: another reduction.
    """
    if x.dim() != 2 or len(x) != adjacency.num_src:
        raise DataError(
            f"features of shape {tuple(x.shape)} for {adjacency.num_src} sources; "
            f"give ({adjacency.num_src}, d)"
        )
    check_reduction(reduce)
    if reduce in ("max", "min"):
        return extreme(adjacency, x, reduce)
    total: torch.Tensor = _WeightedSum.apply(x, weight, adjacency)  # type: ignore[no-untyped-call]
    return total if reduce == "sum" else total / adjacency.divisor.to(total.dtype)[:, None]


def check_reduction(reduce: str) -> None:
    """Raise a ConfigError unless `reduce` is known."""
    if reduce not in REDUCTIONS:
        raise ConfigError(f"reduction {reduce!r}; choose one of {', '.join(REDUCTIONS)}")


def bag_sum(rows: Compact, x: torch.Tensor, values: torch.Tensor | None) -> torch.Tensor:
    """Weighted sums of rows of `x`, one per CSR row: (rows, d), without gradients."""
    if len(rows.indices) == 0:
        return x.new_zeros(len(rows.indptr) - 1, x.shape[1])
    return torch.embedding_bag(
        x.contiguous(), rows.indices, rows.indptr, False, 0, False, values, True
    )[0]


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor | None, adjacency: Adjacency
    ) -> torch.Tensor:
        ctx.adjacency = adjacency
        ctx.dtype = x.dtype
        ctx.save_for_backward(*(() if weight is None else (x, weight)))
        values = adjacency.values(x.dtype) if weight is None else weight
        return bag_sum(adjacency.compact, x, values)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        adjacency: Adjacency = ctx.adjacency
        x, weight = ctx.saved_tensors or (None, None)
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            twin = adjacency.transpose
            values = (
                adjacency.transposed_values(ctx.dtype) if weight is None else weight[twin.edges]
            )
            for_x = bag_sum(twin.compact, gradient, values)
        if x is not None and ctx.needs_input_grad[1]:
            for_weight = edge_products(adjacency, gradient, x)
        return for_x, for_weight, None


def edge_products(adjacency: Adjacency, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(E,) scalar products of `left` (num_dst, d) and `right` (num_src, d) at the ends of edges.

    Without gradients.
    """
    pattern = adjacency.pattern(right.dtype)
    sampled: torch.Tensor = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0)
    return sampled.values()


def extreme(adjacency: Adjacency, x: torch.Tensor, reduce: str) -> torch.Tensor:
    """(num_dst, d) maxima or minima over in-neighbours, zero where there are none."""
    kind = "amax" if reduce == "max" else "amin"
    result: torch.Tensor = torch.sparse.mm(adjacency.pattern(x.dtype), x, kind)
    return result
