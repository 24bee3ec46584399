"""Small networks, tasks and graphs that the tests of this room share."""

import numpy as np
import torch
from torch import nn

from cofit.core import torch_generator
from cofit.ir import Graph, Op, Tensor
from cofit.ir import attributes as at
from cofit.ir.shapes import output_shape


def seeded(build):
    """A maker of one and the same network, whatever the global generator is."""

    def make():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return build()

    return make


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.point(torch.relu(self.deep(x))))
        return self.head(x.mean((2, 3)))


@seeded
def conv_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 4),
    )


@seeded
def dropout_net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4)
    )


residual_net = seeded(Residual)
ZOO = {"conv": conv_net, "dropout": dropout_net, "residual": residual_net}


def weight_names(model):
    return [name for name, p in model.named_parameters() if p.dim() > 1]


def task(n=32, seed=0):
    """Images (n, 3, 8, 8) whose class (of 4) is the bright channel, or that none is."""
    generator = torch_generator(seed, "task")
    x = torch.randn(n, 3, 8, 8, generator=generator) * 0.5
    y = torch.randint(4, (n,), generator=generator)
    for i, c in enumerate(y.tolist()):
        if c < 3:
            x[i, c] += 0.7
    return x, y


def small_graph(seed=0):
    """conv+relu, depthwise, add, max pool, mean, linear; two nested names as torch gives them."""
    draw = np.random.default_rng(seed)
    ops, tensors = [], {}

    def constant(name, shape, scale):
        data = (draw.standard_normal(shape) * scale).astype(np.float32)
        tensors[name] = Tensor(name, shape, data=data)

    def op(name, attributes, *inputs):
        shape = output_shape(attributes, tuple(tensors[n].shape for n in inputs))
        tensors[name] = Tensor(name, shape)
        ops.append(Op(name, attributes, inputs))

    tensors["x"] = Tensor("x", (1, 3, 8, 8))
    constant("stem.conv.weight", (8, 3, 3, 3), 0.3)
    constant("stem.conv.bias", (8,), 0.1)
    constant("layer1.0.deep.weight", (8, 1, 3, 3), 0.4)
    constant("layer1.0.deep.bias", (8,), 0.1)
    constant("head.weight", (4, 8), 0.4)
    constant("head.bias", (4,), 0.1)
    op(
        "stem",
        at.Conv2d(padding=(1, 1, 1, 1), fused="relu"),
        "x",
        "stem.conv.weight",
        "stem.conv.bias",
    )
    op(
        "deep",
        at.Conv2d(padding=(1, 1, 1, 1), groups=8),
        "stem",
        "layer1.0.deep.weight",
        "layer1.0.deep.bias",
    )
    op("sum", at.Add(fused="relu"), "stem", "deep")
    op("pool", at.MaxPool2d((2, 2), (2, 2)), "sum")
    op("mean", at.GlobalMean(keep=False), "pool")
    op("y", at.Linear(), "mean", "head.weight", "head.bias")
    return Graph.build("small", ("x",), ("y",), tuple(ops), tensors)
