"""The network of this system: inverted residuals, their units, and the form that is fine-tuned."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from cofit.models.depthwise import InvertedResidual

Stages = tuple[tuple[int, int, int, int], ...]
"""Expansion, channels, blocks, stride of the first block, one row per stage."""


def units(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Activations inside each inverted residual, by the block's path: they go together."""
    return {
        path: tuple(
            f"{path}.conv.{i}" for i, layer in enumerate(block.conv) if isinstance(layer, nn.ReLU6)
        )
        for path, block in model.named_modules()
        if isinstance(block, InvertedResidual)
    }


def to_merge(
    model: nn.Module, removed: Iterable[str], *, with_activations: bool = False
) -> nn.Module:
    """Bring blocks into the form that is fine-tuned and merges into one convolution, in place.

    Inner activations go; the padding of the depthwise convolution moves in front of the expansion,
    so that one bias is exact at the border too; and the block gets an activation behind its sum,
    which costs nothing once it is merged.

    Args:
        model: its weights are kept.
        removed: paths of the blocks.
        with_activations: leave the inner activations to a regime that takes them out.
    """
    for path in removed:
        block = model.get_submodule(path)
        assert isinstance(block, InvertedResidual)
        for name in () if with_activations else units(model)[path]:
            setattr(block.conv, name.rpartition(".")[2], nn.Identity())
        convs = [layer for layer in block.conv if isinstance(layer, nn.Conv2d)]
        deep = next(layer for layer in convs if layer.groups > 1)
        if deep is not convs[0]:
            convs[0].padding, deep.padding = deep.padding, (0, 0)
        block.after = nn.ReLU6()
    return model


def narrowed(model: nn.Module, kept: dict[str, dict[int, torch.Tensor]]) -> nn.Module:
    """Take channels out of convolutions, their batch norms and linear layers, in place.

    Args:
        model: convolutions stand in a `Sequential`, each before its batch norm.
        kept: what remains of each weight, by its name and axis (see `cofit.ir.keep_map`).
    """
    for name, layer in model.named_modules():
        axes = kept.get(f"{name}.weight", {})
        for axis, rows in axes.items():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight = nn.Parameter(layer.weight.detach().index_select(axis, rows))
        if isinstance(layer, nn.Linear):
            layer.in_features = layer.weight.shape[1]
        if isinstance(layer, nn.Conv2d):
            depthwise = layer.groups > 1
            layer.out_channels = len(layer.weight)
            layer.groups = len(layer.weight) if depthwise else 1
            layer.in_channels = layer.weight.shape[1] * layer.groups
            if 0 in axes:
                owner, _, place = name.rpartition(".")
                norm = model.get_submodule(f"{owner}.{int(place) + 1}")
                assert isinstance(norm, nn.BatchNorm2d)
                _narrow_norm(norm, axes[0])
    return model


def _narrow_norm(norm: nn.BatchNorm2d, rows: torch.Tensor) -> None:
    norm.num_features = len(rows)
    for attribute in ("weight", "bias"):
        setattr(norm, attribute, nn.Parameter(getattr(norm, attribute).detach()[rows]))
    for attribute in ("running_mean", "running_var"):
        setattr(norm, attribute, getattr(norm, attribute)[rows])
