"""A small MobileNetV2, and which of its filters are paired."""

from __future__ import annotations

import torch
from torch import nn

from cofit.models.depthwise import InvertedResidual
from cofit.models.resnet import initialise

LEAST_FILTERS = 16
"""Layers with fewer filters stay unpaired."""

Stages = tuple[tuple[int, int, int, int], ...]


class MobileNet(nn.Module):
    """Inverted residuals between a stride-2 stem and a 1x1 head.

    Args:
        image: (channels, height, width) of an input.
        stages: expansion, channels, blocks, stride of the first block.
        width: multiplies all channels, which are rounded to even numbers.
        head: channels before the classifier.
    """

    def __init__(
        self, image: tuple[int, int, int], stages: Stages, width: float, head: int
    ) -> None:
        super().__init__()

        def scaled(channels: int) -> int:
            return max(2, 2 * round(channels * width / 2))

        c_in = scaled(stages[0][1])
        layers: list[nn.Module] = [
            nn.Conv2d(image[0], c_in, 3, 2, 1, bias=False), nn.BatchNorm2d(c_in), nn.ReLU6(),
        ]  # fmt: skip
        for expansion, channels, blocks, stride in stages:
            for i in range(blocks):
                step = stride if i == 0 else 1
                layers.append(InvertedResidual(c_in, scaled(channels), step, expansion))
                c_in = scaled(channels)
        last = scaled(head)
        layers += [nn.Conv2d(c_in, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(last, 10)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> logits (N, 10)."""
        logits: torch.Tensor = self.linear(self.flatten(self.pool(self.features(x))))
        return logits


def norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """By weight name of a convolution, the normalisation that follows it."""
    found: dict[str, nn.BatchNorm2d] = {}
    last = ""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            last = f"{name}.weight"
        elif isinstance(module, nn.BatchNorm2d):
            found[last] = module
    return found


def paired_weights(model: nn.Module) -> tuple[str, ...]:
    """Convolutions with an even number of filters, 16 or more, except the first."""
    names = [
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    ]
    return tuple(
        name
        for name in names[1:]
        if len(model.get_parameter(name)) >= LEAST_FILTERS
        and len(model.get_parameter(name)) % 2 == 0
    )


def make_scales_positive(model: nn.Module) -> None:
    """Turn filters whose normalisation has a negative scale; the function stays the same.

    A requantisation multiplier is positive, and folding a negative one would break a pair.
    """
    with torch.no_grad():
        for name, norm in norms(model).items():
            sign = torch.where(norm.weight < 0, -1.0, 1.0)
            model.get_parameter(name).mul_(sign.reshape(-1, 1, 1, 1))
            norm.weight.mul_(sign)
            assert norm.running_mean is not None
            norm.running_mean.mul_(sign)
