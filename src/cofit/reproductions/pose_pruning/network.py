"""Lightweight OpenPose: a depthwise-separable backbone and stages of keypoint and limb maps.

D. Osokin, "Real-time 2D Multi-Person Pose Estimation on CPU: Lightweight OpenPose", ICPRAM 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from cofit.core import ConfigError
from cofit.models.resnet import initialise


@dataclass(frozen=True)
class PoseShape:
    """Sizes of a pose network.

    Attributes:
        stem: channels of the first convolution (stride 2).
        backbone: (channels, stride, dilation) of the depthwise-separable blocks.
        width: channels of the maps' features.
        head: channels of the initial stage's heads; those of refinement stages have `width`.
        refinements: refinement stages.
        blocks: residual blocks of a refinement stage.
        keypoints, limbs: of the skeleton.
        dilated: dilation of the second 3x3 convolution of refinement blocks, in place of 1.
        elu: whether the layers without batch norm use ELU in place of ReLU.
    """

    stem: int
    backbone: tuple[tuple[int, int, int], ...]
    width: int
    head: int
    refinements: int
    blocks: int
    keypoints: int
    limbs: int
    dilated: bool = True
    elu: bool = True

    def __post_init__(self) -> None:
        if not self.backbone or min(self.stem, self.width, self.head, self.blocks) < 1:
            raise ConfigError(f"{self}: a pose network needs a backbone and positive sizes")


REFERENCE = PoseShape(
    stem=32,
    backbone=(
        (64, 1, 1), (128, 2, 1), (128, 1, 1), (256, 2, 1), (256, 1, 1), (512, 1, 1), (512, 1, 2),
        (512, 1, 1), (512, 1, 1), (512, 1, 1), (512, 1, 1),
    ),
    width=128,
    head=512,
    refinements=1,
    blocks=5,
    keypoints=18,
    limbs=19,
)  # fmt: skip
"""The published network, output stride 8."""


class PoseNet(nn.Module):
    """Maps of keypoints, background and limbs, every stage refining those before.

    In training mode the stages' maps are stacked along the channels, in eval mode only the last
    stage's are given.
    """

    def __init__(self, shape: PoseShape) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, shape.stem, 3, 2, 1, bias=False), nn.BatchNorm2d(shape.stem)]
        layers: list[nn.Module] = [*stem, nn.ReLU()]
        c_in = shape.stem
        for c_out, stride, dilation in shape.backbone:
            layers.append(_separable(c_in, c_out, stride, dilation))
            c_in = c_out
        self.backbone = nn.Sequential(*layers)
        self.cpm = _Cpm(c_in, shape)
        self.stages = nn.ModuleList([_Initial(shape)])
        self.stages.extend(_Refinement(shape) for _ in range(shape.refinements))
        initialise(self)
        for name, layer in self.named_modules():
            # maps begin near zero, or the first steps kill the layers without batch norm
            if name.endswith((".heatmaps.2", ".pafs.2")) and isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, stages * maps or maps, H / stride, W / stride)."""
        features = self.cpm(self.backbone(x))
        maps: list[torch.Tensor] = []
        for stage in self.stages:
            given = features if not maps else torch.cat((features, maps[-1]), 1)
            maps.append(stage(given))
        return torch.cat(maps, 1) if self.training else maps[-1]


def map_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Squared error of all stages' maps, summed over stages; NaN targets are not known and free.

    Args:
        outputs: (N, stages * maps, h, w).
        targets: (N, maps, h, w).
    """
    known = ~targets.isnan()
    wanted = targets.nan_to_num()
    stages = outputs.split(targets.shape[1], dim=1)
    losses = [((stage - wanted).square() * known).sum() for stage in stages]
    return torch.stack(losses).sum() / len(targets)


class _Cpm(nn.Module):
    def __init__(self, c_in: int, shape: PoseShape) -> None:
        super().__init__()
        self.align = _plain(c_in, shape.width, 1)
        self.trunk = nn.Sequential(*(_bare_separable(shape) for _ in range(3)))
        self.conv = _plain(shape.width, shape.width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.align(x)
        y: torch.Tensor = self.conv(x + self.trunk(x))
        return y


class _Heads(nn.Module):
    def __init__(self, width: int, head: int, shape: PoseShape) -> None:
        super().__init__()
        self.heatmaps = _head(width, head, shape.keypoints + 1)
        self.pafs = _head(width, head, 2 * shape.limbs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.heatmaps(x), self.pafs(x)), 1)


class _Initial(nn.Module):
    def __init__(self, shape: PoseShape) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(_plain(shape.width, shape.width, 3) for _ in range(3)))
        self.heads = _Heads(shape.width, shape.head, shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.heads(self.trunk(x))
        return y


class _Refinement(nn.Module):
    def __init__(self, shape: PoseShape) -> None:
        super().__init__()
        given = shape.width + shape.keypoints + 1 + 2 * shape.limbs
        widths = [given] + [shape.width] * (shape.blocks - 1)
        self.trunk = nn.Sequential(*(_RefinementBlock(width, shape) for width in widths))
        self.heads = _Heads(shape.width, shape.width, shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.heads(self.trunk(x))
        return y


class _RefinementBlock(nn.Module):
    def __init__(self, c_in: int, shape: PoseShape) -> None:
        super().__init__()
        self.initial = _plain(c_in, shape.width, 1)
        self.trunk = nn.Sequential(
            _normed(shape.width, shape.width, 3),
            _normed(shape.width, shape.width, 3, 2 if shape.dilated else 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.initial(x)
        y: torch.Tensor = x + self.trunk(x)
        return y


def _normed(c_in: int, c_out: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(c_in, c_out, kernel, 1, padding, dilation)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU())


def _plain(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, 1, kernel // 2), nn.ReLU())


def _head(c_in: int, hidden: int, maps: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, maps, 1))


def _separable(c_in: int, c_out: int, stride: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_in, 3, stride, dilation, dilation, c_in, bias=False),
        nn.BatchNorm2d(c_in),
        nn.ReLU(),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )


def _bare_separable(shape: PoseShape) -> nn.Sequential:
    def activation() -> nn.Module:
        return nn.ELU() if shape.elu else nn.ReLU()

    width = shape.width
    return nn.Sequential(
        nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False),
        activation(),
        nn.Conv2d(width, width, 1, bias=False),
        activation(),
    )
