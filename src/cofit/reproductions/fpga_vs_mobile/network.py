"""A small VGG whose weights and activations lie on the grid of a precision while it trains."""

from __future__ import annotations

import torch
from torch import nn

from cofit.core import UnknownNameError
from cofit.regimes import straight_through
from cofit.targets.platforms import PRECISIONS

TERNARY_THRESHOLD = 0.7
"""Times the mean magnitude, below which a ternary weight is zero (Li et al., arXiv 1605.04711)."""


class VGG(nn.Module):
    """Blocks of two 3x3 convolutions and a pool, then a classifier.

    At ternary and binary the first convolution and the classifier stay int8. Binary layers take
    the signs of their inputs, for which hard tanh comes in place of ReLU.

    Args:
        channels: of the input.
        classes: of the output.
        widths: per block.
        precision: of weights and activations.

    Raises:
        UnknownNameError: an unknown precision.
    """

    def __init__(
        self, channels: int, classes: int, widths: tuple[int, ...], precision: str = "fp32"
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
        layers: list[nn.Module] = []
        outer = "int8" if precision in ("ternary", "binary") else precision
        before = channels
        for width in widths:
            for _ in range(2):
                inner = outer if before == channels and not layers else precision
                layers += [
                    LowConv(before, width, inner),
                    nn.BatchNorm2d(width),
                    nn.Hardtanh() if precision == "binary" else nn.ReLU(),
                ]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = LowLinear(before, classes, outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, classes) scores of images (N, C, H, W)."""
        scores: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return scores


class LowConv(nn.Conv2d):
    """A 3x3 convolution at a precision."""

    def __init__(self, channels: int, filters: int, precision: str) -> None:
        super().__init__(channels, filters, 3, padding=1, bias=False)
        self.precision = precision

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `nn.Conv2d`, both operands on their grids."""
        if self.precision == "fp32":
            return super().forward(x)
        weight = on_grid(self.weight, self.precision)
        out: torch.Tensor = self._conv_forward(activation(x, self.precision), weight, None)
        return out


class LowLinear(nn.Linear):
    """A linear layer at a precision."""

    def __init__(self, inputs: int, outputs: int, precision: str) -> None:
        super().__init__(inputs, outputs)
        self.precision = precision

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear`, both operands on their grids."""
        if self.precision == "fp32":
            return super().forward(x)
        weight = on_grid(self.weight, self.precision)
        return nn.functional.linear(activation(x, self.precision), weight, self.bias)


def on_grid(weight: torch.Tensor, precision: str) -> torch.Tensor:
    """A weight (K, ...) rounded per output channel; the gradient passes straight through."""
    if precision == "fp16":
        return straight_through(weight, weight.detach().half().float())
    flat = weight.detach().flatten(1)
    magnitude = flat.abs()
    if precision == "binary":
        rounded = torch.where(flat >= 0, 1.0, -1.0) * magnitude.mean(1, keepdim=True)
    elif precision == "ternary":
        kept = magnitude > TERNARY_THRESHOLD * magnitude.mean(1, keepdim=True)
        scale = (magnitude * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)
        rounded = flat.sign() * kept * scale
    else:
        top = 127 if precision == "int8" else 7
        step = (magnitude.amax(1, keepdim=True) / top).clamp(min=torch.finfo(flat.dtype).tiny)
        rounded = (flat / step).round() * step
    found: torch.Tensor = straight_through(weight, rounded.reshape(weight.shape))
    return found


def activation(x: torch.Tensor, precision: str) -> torch.Tensor:
    """An activation on its grid: signs at binary, else steps of the largest magnitude.

    Signs pass gradients where the input is within -1 to 1.
    """
    if precision == "fp16":
        return straight_through(x, x.detach().half().float())
    if precision == "binary":
        clipped = x.clamp(-1, 1)
        return straight_through(clipped, torch.where(x.detach() >= 0, 1.0, -1.0))
    top = 7 if precision == "int4" else 127
    step = (x.detach().abs().amax() / top).clamp(min=torch.finfo(x.dtype).tiny)
    return straight_through(x, (x.detach() / step).round() * step)


def plain(model: nn.Module) -> None:
    """Compute in fp32 from now on, for example to trace the layers."""
    for layer in model.modules():
        if isinstance(layer, LowConv | LowLinear):
            layer.precision = "fp32"
