"""Networks without shortcuts: a 3x3 ConvNet and VGG-16."""

from __future__ import annotations

import torch
from torch import nn

from cofit.models.resnet import initialise


def _conv(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]


class ConvNet(nn.Module):
    """3x3 convolutions, two of each width (six of 32, 64 and 128 channels), with pooling between.

    The reference network of the pattern and block experiments: nothing but 3x3 kernels.
    """

    def __init__(
        self, *, classes: int = 10, channels: int = 3, widths: tuple[int, ...] = (32, 64, 128)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = channels
        for width in widths:
            if layers:
                layers.append(nn.MaxPool2d(2))
            layers += _conv(c_in, width) + _conv(width, width)
            c_in = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(c_in, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> logits (N, classes)."""
        logits: torch.Tensor = self.linear(self.flatten(self.pool(self.features(x))))
        return logits


_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of convolutions before each of the five poolings."""


class VGG16(nn.Module):
    """Configuration D with biases and without batch norm, for 224x224 images.

    Source: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", ICLR 2015, table 1.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = 3
        for width, count in _VGG16:
            for _ in range(count):
                layers += [nn.Conv2d(c_in, width, 3, 1, 1), nn.ReLU()]
                c_in = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, classes),
        )  # fmt: skip
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 224, 224) -> logits (N, classes)."""
        logits: torch.Tensor = self.classifier(self.flatten(self.features(x)))
        return logits


class SmallVGG16(nn.Module):
    """The thirteen convolutions of VGG-16 with batch norm and one linear layer, for 32x32."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = 3
        for width, count in _VGG16:
            for _ in range(count):
                layers += _conv(c_in, width)
                c_in = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(512, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 32, 32) -> logits (N, classes)."""
        logits: torch.Tensor = self.classifier(self.flatten(self.features(x)))
        return logits
