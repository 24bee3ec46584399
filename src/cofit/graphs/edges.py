"""Values on edges: reduced by destination, and normalised to attention."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from cofit.graphs.adjacency import Adjacency
from cofit.graphs.aggregate import aggregate, bag_sum, extreme


def reduce_edges(adjacency: Adjacency, messages: torch.Tensor, reduce: str) -> torch.Tensor:
    """Combine messages (E, d), one per edge, into destinations (num_dst, d).

    A destination without edges gets zeros. The mean is over the edges present, and the weights of
    the adjacency are not applied: a message may hold them.

    Raises:
        ConfigError: a reduction other than "sum", "mean", "max", "min".
    """
    return aggregate(adjacency.edgewise, messages, reduce)


def edge_softmax(adjacency: Adjacency, logits: torch.Tensor) -> torch.Tensor:
    """Softmax of logits (E, heads) over the edges into each destination."""
    weights: torch.Tensor = _Softmax.apply(logits, adjacency)  # type: ignore[no-untyped-call]
    return weights


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, adjacency: Adjacency) -> torch.Tensor:
        highest = extreme(adjacency.edgewise, logits, "max")
        weights = (logits - highest.index_select(0, adjacency.destinations)).exp_()
        total = bag_sum(adjacency.edgewise.compact, weights, None)
        weights /= total.index_select(0, adjacency.destinations)
        ctx.adjacency = adjacency
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        adjacency: Adjacency = ctx.adjacency
        (weights,) = ctx.saved_tensors
        flow = weights * gradient
        total = bag_sum(adjacency.edgewise.compact, flow, None)
        return flow - weights * total.index_select(0, adjacency.destinations), None
