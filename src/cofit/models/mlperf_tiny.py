"""The four MLPerf Tiny networks as deployed: batch norm folded, TensorFlow's paddings.

Parameter names are those of the public weight files, numbered in execution order. Classifiers end
in a softmax, as the published networks do, so `forward` gives probabilities; `logits` stops before.

Source: C. Banbury et al., "MLPerf Tiny Benchmark", NeurIPS 2021 Datasets and Benchmarks;
mlcommons/tiny, benchmark/training.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class PaddedConv2d(nn.Conv2d):
    """A convolution with its own padding per side: (top, bottom, left, right).

    TensorFlow's "SAME" pads more after than before where the stride leaves an odd number.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: tuple[int, int],
        stride: int,
        sides: tuple[int, int, int, int],
        groups: int = 1,
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride, groups=groups)
        self.sides = sides

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) -> (N, C_out, H', W')."""
        top, bottom, left, right = self.sides
        return super().forward(F.pad(x, (left, right, top, bottom)))


def same_conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A square convolution padded as TensorFlow's "SAME" on inputs of even size."""
    if stride == 1 or kernel == 1:
        return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)
    total = kernel - stride
    before, after = total // 2, total - total // 2
    return PaddedConv2d(
        c_in, c_out, (kernel, kernel), stride, (before, after, before, after), groups
    )


class _Chain(nn.Sequential):
    """Layers in a row; those with parameters are called `NN_conv`, `NN_dwconv` or `NN_linear`."""

    def __init__(self, *layers: nn.Module) -> None:
        named: OrderedDict[str, nn.Module] = OrderedDict()
        weighted = 0
        for layer in layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                word = "linear" if isinstance(layer, nn.Linear) else "conv"
                if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                    word = "dwconv"
                named[f"{weighted:02d}_{word}"] = layer
                weighted += 1
            else:
                named[f"{weighted - 1:02d}_{type(layer).__name__.lower()}"] = layer
        super().__init__(named)


class _Classifier(_Chain):
    """A chain that ends in a softmax."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The scores before the softmax, for training."""
        for layer in list(self)[:-1]:
            x = layer(x)
        return x


def ds_cnn() -> nn.Module:
    """Keyword spotting: (N, 1, 49, 10) MFCC -> 12 probabilities."""
    layers: list[nn.Module] = [PaddedConv2d(1, 64, (10, 4), 2, (4, 5, 1, 1)), nn.ReLU()]
    for _ in range(4):
        layers += [same_conv(64, 64, 3, groups=64), nn.ReLU(), same_conv(64, 64, 1), nn.ReLU()]
    head = (nn.AvgPool2d((25, 5)), nn.Flatten(), nn.Linear(64, 12), nn.Softmax(-1))
    return _Classifier(*layers, *head)


def mobilenet_v1_025() -> nn.Module:
    """Visual wake words: (N, 3, 96, 96) in [0, 1] -> 2 probabilities (no person, person)."""
    layers: list[nn.Module] = [same_conv(3, 8, 3, 2), nn.ReLU()]
    c_in = 8
    rows = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2),
            (256, 1))  # fmt: skip
    for c_out, stride in rows:
        layers += [same_conv(c_in, c_in, 3, stride, c_in), nn.ReLU()]
        layers += [same_conv(c_in, c_out, 1), nn.ReLU()]
        c_in = c_out
    head = (nn.AvgPool2d(3), nn.Flatten(), nn.Linear(256, 2), nn.Softmax(-1))
    return _Classifier(*layers, *head)


def autoencoder() -> nn.Module:
    """Anomaly detection: (N, 640), five frames of 128 log-mel energies -> their reconstruction."""
    layers: list[nn.Module] = []
    widths = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)
    for c_in, c_out in pairwise(widths):
        layers += [nn.Linear(c_in, c_out), nn.ReLU()]
    return _Chain(*layers, nn.Linear(128, 640))


class ResNet8(nn.Module):
    """Image classification: (N, 3, 32, 32), pixels 0 to 255 -> 10 probabilities.

    Three blocks of 16, 32 and 64 channels; the last two halve the size and project the shortcut.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = (
            same_conv(3, 16, 3),
            same_conv(16, 16, 3), same_conv(16, 16, 3),
            same_conv(16, 32, 3, 2), same_conv(32, 32, 3), same_conv(16, 32, 1, 2),
            same_conv(32, 64, 3, 2), same_conv(64, 64, 3), same_conv(32, 64, 1, 2),
        )  # fmt: skip
        for i, layer in enumerate(layers):
            self.add_module(f"{i:02d}_conv", layer)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(8)
        self.flatten = nn.Flatten()
        self.add_module("09_linear", nn.Linear(64, 10))
        self.softmax = nn.Softmax(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities (N, 10)."""
        probabilities: torch.Tensor = self.softmax(self.logits(x))
        return probabilities

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The scores before the softmax, for training."""
        x = self.relu(self._layer("00_conv", x))
        for i in (1, 3, 6):
            y = self.relu(self._layer(f"{i:02d}_conv", x))
            y = self._layer(f"{i + 1:02d}_conv", y)
            x = self.relu(y + (x if i == 1 else self._layer(f"{i + 2:02d}_conv", x)))
        return self._layer("09_linear", self.flatten(self.pool(x)))

    def _layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.get_submodule(name)(x)
        return output
