"""A small network of inverted residuals, the kind of layers the method was shown on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cofit.models.depthwise import InvertedResidual
from cofit.models.resnet import initialise


class SmallInvertedResidual(nn.Module):
    """3x3 stem, inverted residuals, 1x1 head, global mean, linear; all batch-normalised.

    Args:
        channels: of the images.
        stages: (expansion, channels, blocks, stride of the first block) each.
        stem_stride: of the first convolution.
        head: channels before the mean.
        classes: number of logits.
    """

    def __init__(
        self,
        channels: int,
        stages: Sequence[Sequence[int]],
        stem_stride: int,
        head: int,
        classes: int = 10,
    ) -> None:
        super().__init__()
        width = stages[0][1]
        layers = [*_normed(nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False))]
        for expansion, c_out, blocks, stride in stages:
            for block in range(blocks):
                layers.append(InvertedResidual(width, c_out, 1 if block else stride, expansion))
                width = c_out
        self.features = nn.Sequential(
            *layers, *_normed(nn.Conv2d(width, head, 1, bias=False)), nn.AdaptiveAvgPool2d(1)
        )
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(head, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> logits (N, classes)."""
        logits: torch.Tensor = self.linear(self.flatten(self.features(x)))
        return logits


def _normed(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU6()
