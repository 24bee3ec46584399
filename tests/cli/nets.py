"""Networks that the tests name as `nets:factory`; most are wrong in one way."""

import torch
from torch import nn

not_a_function = 3


class Tiny(nn.Module):
    """Two layers on 8x8 digits."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.input_shape = (channels, 8, 8)
        self.conv1 = nn.Conv2d(channels, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1, stride=2)
        self.fc = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class Erf(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.erf(x))


class Branches(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Wide(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 10)
        self.big = nn.Linear(10, 60000)
        self.back = nn.Linear(60000, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.back(self.big(super().forward(x)))


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


def colour() -> nn.Module:
    return Tiny(channels=3)


def six_classes() -> nn.Module:
    return Tiny(classes=6)


def not_finite() -> nn.Module:
    net = Tiny()
    net.fc.weight.data[0, 0] = float("nan")
    return net


def no_shape() -> nn.Module:
    net = Tiny()
    del net.input_shape
    return net


def fails() -> nn.Module:
    raise RuntimeError("no weights on this machine")


def text() -> str:
    return "a network"
