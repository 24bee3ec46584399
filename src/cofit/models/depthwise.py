"""Trainable networks of depthwise-separable convolutions, with batch norm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cofit.models.resnet import initialise


def _conv(
    c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(c_out)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection, with a shortcut where sizes agree.

    Source: M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

    Attributes:
        conv: the three convolutions with their batch norms and activations.
        after: an empty place behind the sum; a block without inner activations may get one here.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        expand = (*_conv(c_in, hidden, 1), nn.ReLU6()) if expansion > 1 else ()
        self.conv = nn.Sequential(
            *expand, *_conv(hidden, hidden, 3, stride, hidden), nn.ReLU6(), *_conv(hidden, c_out, 1)
        )
        self.shortcut = stride == 1 and c_in == c_out
        self.after: nn.Module = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) -> (N, C_out, H / stride, W / stride)."""
        y: torch.Tensor = self.conv(x)
        y = self.after(x + y if self.shortcut else y)
        return y


class SmallMobileNetV2(nn.Module):
    """MobileNetV2 for small images: stages of inverted residuals after a 3x3 stem.

    Args:
        classes: number of logits.
        channels: channels of the input.
        stages: expansion, channels, blocks, stride of the first block, one row per stage.
        stem_stride: stride of the stem.
        head: channels of the last 1x1 convolution.
    """

    STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 2, 2), (6, 64, 2, 2), (6, 96, 1, 1))
    """For 32x32 images: three sizes, 96 channels in the end."""

    def __init__(
        self,
        classes: int = 10,
        *,
        channels: int = 3,
        stages: Sequence[tuple[int, int, int, int]] = STAGES,
        stem_stride: int = 1,
        head: int = 320,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(channels, 16, 3, stem_stride), nn.ReLU6()]
        c_in = 16
        for expansion, width, blocks, stride in stages:
            for i in range(blocks):
                layers.append(InvertedResidual(c_in, width, stride if i == 0 else 1, expansion))
                c_in = width
        layers += [*_conv(c_in, head, 1), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(head, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> logits (N, classes)."""
        logits: torch.Tensor = self.linear(self.flatten(self.pool(self.features(x))))
        return logits


class DSCNN(nn.Module):
    """Keyword spotting on 49 frames of 10 MFCC: one 10x4 convolution, four separable blocks.

    Source: Y. Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers",
    arXiv:1711.07128, DS-CNN small.
    """

    def __init__(self, *, classes: int = 10, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(1, width, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        ]  # fmt: skip
        for _ in range(4):
            layers += [*_conv(width, width, 3, 1, width), nn.ReLU()]
            layers += [*_conv(width, width, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(width, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 49, 10) -> logits (N, classes)."""
        logits: torch.Tensor = self.linear(self.flatten(self.pool(self.features(x))))
        return logits
