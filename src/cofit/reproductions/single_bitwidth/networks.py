"""The two small networks by width: plain residual, and inverted residuals."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from cofit.models.depthwise import InvertedResidual
from cofit.models.resnet import SmallResNet, initialise

BASE = 8
"""Channels of the first stage at multiplier 1."""

EXPANSION = 4


def scaled(channels: int, multiplier: float) -> int:
    """Channels at a width multiplier: nearest, at least 1."""
    return max(1, round(channels * multiplier))


def plain(multiplier: float) -> nn.Module:
    """ResNet-8: three stages of one residual block, without depthwise convolutions."""
    widths = tuple(scaled(BASE * factor, multiplier) for factor in (1, 2, 4))
    return SmallResNet(widths, 1, channels=1, project=True)


class Inverted(nn.Module):
    """A stem and four inverted residuals with 3x3 depthwise convolutions."""

    def __init__(self, multiplier: float) -> None:
        super().__init__()
        widths = [scaled(BASE * factor, multiplier) for factor in (1, 2, 2, 4)]
        stem = widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(1, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU6(),
        ]  # fmt: skip
        c_in = stem
        for width, stride in zip(widths, (1, 2, 1, 2), strict=True):
            layers.append(InvertedResidual(c_in, width, stride, EXPANSION))
            c_in = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(c_in, 10)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) -> logits (N, 10)."""
        logits: torch.Tensor = self.linear(self.flatten(self.pool(self.features(x))))
        return logits


NETWORKS: Mapping[str, Callable[[float], nn.Module]] = {"plain": plain, "depthwise": Inverted}
