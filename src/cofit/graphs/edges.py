"""Values on edges: reduced by destination, normalised to attention, and used as such."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from cofit.graphs.adjacency import Adjacency, Compact
from cofit.graphs.aggregate import aggregate, bag_sum, extreme

_CHUNK_BYTES = 1 << 20
"""Rows gathered at a time for the gradient of weights; they stay in the cache."""


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


def attend(adjacency: Adjacency, h: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sums over in-neighbours, head by head.

    Args:
        adjacency: its own weights are not applied.
        h: (num_src, heads, d).
        weights: (E, heads).

    Returns:
        (num_dst, heads, d).
    """
    result: torch.Tensor = _Attend.apply(h, weights, adjacency)  # type: ignore[no-untyped-call]
    return result


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: torch.Tensor, weights: torch.Tensor, adjacency: Adjacency
    ) -> torch.Tensor:
        ctx.adjacency = adjacency
        ctx.save_for_backward(h, weights)
        return _by_head(adjacency.compact, h, weights)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        adjacency: Adjacency = ctx.adjacency
        h, weights = ctx.saved_tensors
        for_h = for_weights = None
        if ctx.needs_input_grad[0]:
            twin = adjacency.transpose
            for_h = _by_head(twin.compact, gradient, weights[twin.edges])
        if ctx.needs_input_grad[1]:
            for_weights = torch.empty_like(weights)
            chunk = max(1, _CHUNK_BYTES // (h[0].numel() * h.element_size()))
            for start in range(0, adjacency.num_edges, chunk):
                edges = slice(start, start + chunk)
                products = gradient.index_select(0, adjacency.destinations[edges])
                products.mul_(h.index_select(0, adjacency.indices[edges]))
                for_weights[edges] = products.sum(2)
        return for_h, for_weights, None


def _by_head(rows: Compact, h: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    heads = zip(h.transpose(0, 1).contiguous(), weights.T.contiguous(), strict=True)
    return torch.stack([bag_sum(rows, features, values) for features, values in heads], 1)


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
