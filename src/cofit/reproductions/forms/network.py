"""LeNet-5 of the crossbar experiments, and the structures its layers are driven to."""

from __future__ import annotations

import torch
from torch import nn

from cofit.models.resnet import initialise
from cofit.structures import Channel, FixedPoint, Polarised, Rows, Structure

Rates = dict[str, tuple[float, float]]
"""By weight name: pruning rate of its filters and of its row groups."""

GROUP = 8
"""Rows that are pruned together: the default fragment, a divisor or multiple of the others."""


class LeNet(nn.Module):
    """Two convolutions with pooling and two linear layers (LeNet-5 at 20, 50, 500 channels).

    Args:
        image: (channels, height, width) of an input.
        widths: of the two convolutions and of the hidden linear layer.
        kernel: sides of the convolution kernels, 5 without padding or 3 with.
    """

    def __init__(
        self, image: tuple[int, int, int], widths: tuple[int, int, int], kernel: int
    ) -> None:
        super().__init__()
        padding = 0 if kernel == 5 else kernel // 2
        first, second, hidden = widths
        self.features = nn.Sequential(
            nn.Conv2d(image[0], first, kernel, padding=padding), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(first, second, kernel, padding=padding), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        with torch.no_grad():
            size = self.features(torch.zeros(1, *image)).numel()
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, 10))
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> logits (N, 10)."""
        logits: torch.Tensor = self.classifier(self.flatten(self.features(x)))
        return logits


WEIGHTS = ("features.0.weight", "features.3.weight", "classifier.0.weight", "classifier.2.weight")


def layer_sets(rates: Rates, fragment: int | None) -> dict[str, tuple[Structure, ...]]:
    """The sets P (filters, row groups), S (fragments) and Q (int8) of every weight.

    Args:
        rates: of the layers that are pruned.
        fragment: rows of a fragment; None leaves S out.
    """
    found: dict[str, tuple[Structure, ...]] = {}
    for name in WEIGHTS:
        filters, rows = rates.get(name, (1.0, 1.0))
        sets: list[Structure] = []
        if filters > 1:
            sets.append(Channel(filters))
        if rows > 1:
            sets.append(Rows(GROUP, rows))
        if fragment is not None:
            sets.append(Polarised(fragment))
        found[name] = (*sets, FixedPoint(8))
    return found
