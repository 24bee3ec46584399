"""Layers and networks that the tests of platforms share."""

from __future__ import annotations

from torch import nn

from cofit.targets.platforms import (
    LayerWork,
)


def conv(
    filters: int = 32, channels: int = 16, side: int = 14, precision: str = "int8", **more
) -> LayerWork:
    return LayerWork(
        "conv", "conv3x3", filters, channels, 9, side, side, channels * (side + 2) ** 2,
        filters * side * side, precision, **more,
    )  # fmt: skip


def small_net(widths: tuple[int, ...] = (8, 16)) -> nn.Module:
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
        before = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)
    ).eval()
