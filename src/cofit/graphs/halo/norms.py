"""Batch normalisation over the nodes of all ranks, as one process that holds them all has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from cofit.graphs.halo.transport import Traffic, Transport


def synchronise(model: nn.Module, transport: Transport, traffic: Traffic) -> Callable[[], None]:
    """Let every BatchNorm1d of a model take its statistics over all ranks while it trains.

    Each must see a row of every rank once: rows of inner nodes, or messages to them, never rows of
    the halo. The modules, their names and their running statistics stay, the latter the same on
    all ranks; in eval mode nothing travels.

    Returns:
        A function that undoes it.
    """
    found = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    for module in found:
        module.forward = partial(_forward, module, transport, traffic)  # type: ignore[method-assign]

    def undo() -> None:
        for module in found:
            del module.forward

    return undo


def _forward(
    module: nn.BatchNorm1d, transport: Transport, traffic: Traffic, x: torch.Tensor
) -> torch.Tensor:
    if not (module.training or module.running_mean is None):
        return nn.BatchNorm1d.forward(module, x)

    def summed(rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _Summed.apply(rows, transport, traffic)  # type: ignore[no-untyped-call]
        return result

    rows = torch.full((1,), len(x), dtype=x.dtype)
    total, count = summed(torch.cat([x.sum(0), rows])).tensor_split([x.shape[1]])
    mean = total / count
    variance = summed((x - mean).square().sum(0)) / count
    if module.training and module.running_mean is not None and module.running_var is not None:
        _note(module, mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
    normal: torch.Tensor = (x - mean) * (variance + module.eps).rsqrt()
    if module.affine:
        return torch.addcmul(module.bias, normal, module.weight)
    return normal


def _note(module: nn.BatchNorm1d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Move the running statistics as torch does."""
    assert module.running_mean is not None and module.running_var is not None
    assert module.num_batches_tracked is not None
    with torch.no_grad():
        module.num_batches_tracked += 1
        share = module.momentum
        if share is None:
            share = 1 / float(module.num_batches_tracked)
        module.running_mean.lerp_(mean, share)
        module.running_var.lerp_(variance, share)


class _Summed(torch.autograd.Function):
    """The sum over ranks; so is its gradient, since every rank uses the sum."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, transport: Transport, traffic: Traffic
    ) -> torch.Tensor:
        ctx.transport, ctx.traffic = transport, traffic
        return _sum(values, transport, traffic)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _sum(gradient, ctx.transport, ctx.traffic), None, None


def _sum(values: torch.Tensor, transport: Transport, traffic: Traffic) -> torch.Tensor:
    total = values.detach().clone()
    traffic.add("statistics", [total])
    transport.all_reduce(total)
    return total
