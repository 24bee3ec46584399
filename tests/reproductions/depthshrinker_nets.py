"""Networks that the tests of depthshrinker share."""

import torch
from torch import nn

from cofit.core import torch_generator
from cofit.ir import randomise_statistics_, trace
from cofit.models.depthwise import SmallMobileNetV2


class Block(nn.Module):
    """An inverted residual of any kernel, written without the library."""

    def __init__(self, c_in, c_out, expansion=6, kernel=3, stride=1, act=nn.Identity, first=False):
        super().__init__()
        hidden, half = c_in * expansion, kernel // 2
        outer, inner = (half, 0) if first else (0, half)
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, padding=outer, bias=False), nn.BatchNorm2d(hidden), act(),
            nn.Conv2d(hidden, hidden, kernel, stride, inner, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden), act(),
            nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out),
        )  # fmt: skip
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


class Net(nn.Module):
    def __init__(self, block, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.block = block

    def forward(self, x):
        return self.block(self.stem(x))


def seeded(build, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().eval()
    randomise_statistics_(model, torch_generator(seed, "statistics"))
    return model


def graph_of(model, shape=(1, 3, 9, 9)):
    return trace(model, torch.zeros(shape))


def small(**options):
    stages = ((4, 8, 2, 1), (4, 12, 2, 2))
    return SmallMobileNetV2(channels=3, stages=stages, head=16, **options)
