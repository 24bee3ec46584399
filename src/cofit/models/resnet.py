"""Residual networks for small and for ImageNet-size images.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class PadShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the new channels, half before, half after."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.before = new_channels // 2
        self.after = new_channels - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C + new_channels, ceil(H / 2), ceil(W / 2))."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; a change of size is padded or projected."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample: nn.Module
        if stride == 1 and c_in == c_out:
            self.downsample = nn.Identity()
        elif project:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )
        else:
            self.downsample = PadShortcut(c_out - c_in)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) -> (N, C_out, H / stride, W / stride)."""
        y: torch.Tensor = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)) + self.downsample(x))
        return y


def _stage(c_in: int, c_out: int, blocks: int, stride: int, *, project: bool) -> nn.Sequential:
    first = BasicBlock(c_in, c_out, stride, project=project)
    rest = [BasicBlock(c_out, c_out, 1, project=project) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class SmallResNet(nn.Module):
    """3x3 stem, stages that halve the size, global mean, linear.

    Keys are `conv1, bn1, layer{i}.{j}.{conv1,bn1,conv2,bn2}, linear` (section 4.2 of the paper).

    Args:
        widths: output channels of each stage; all stages but the first halve height and width.
        blocks: blocks in each stage.
        classes: number of logits.
        channels: channels of the input.
        project: 1x1 convolutions on shortcuts that change size (option B), else option A.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        blocks: int,
        *,
        classes: int = 10,
        channels: int = 3,
        project: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.stages = len(widths)
        for i, (c_in, c_out) in enumerate(pairwise((widths[0], *widths)), 1):
            stage = _stage(c_in, c_out, blocks, 1 if i == 1 else 2, project=project)
            self.add_module(f"layer{i}", stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(widths[-1], classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> logits (N, classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        for i in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{i}")(x)
        logits: torch.Tensor = self.linear(self.flatten(self.pool(x)))
        return logits


class ResNet18(nn.Module):
    """The 18-layer network for 224x224 images (table 1 of the paper); head key `fc`."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(64, 64, 2, 1, project=True)
        self.layer2 = _stage(64, 128, 2, 2, project=True)
        self.layer3 = _stage(128, 256, 2, 2, project=True)
        self.layer4 = _stage(256, 512, 2, 2, project=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 224, 224) -> logits (N, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(self.flatten(self.avgpool(x)))
        return logits


def initialise(module: nn.Module) -> None:
    """He initialisation of all convolutions, from the ambient generator (see `load_model`)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
