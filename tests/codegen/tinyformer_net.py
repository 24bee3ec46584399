"""A TinyFormer in small: stem, inverted residual, one encoder on a 4x4 grid; blocks differ."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from cofit.core import torch_generator
from cofit.ir import Graph, calibrate, quantise, quantise_input, trace
from cofit.structures import parse

BLOCKS = ("block1x2@4", "block1x4@4", "block2x1@4", "block4x1@4", "block1x8@4")


class Network(nn.Module):
    """(N, 3, 16, 16) -> (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6())
        self.expand = nn.Sequential(nn.Conv2d(16, 32, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.ReLU6())
        self.project = nn.Conv2d(32, 16, 1)
        self.down = nn.Conv2d(16, 32, 3, 2, 1)
        one = nn.TransformerEncoderLayer(32, 2, 64, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(one, 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        y = y + self.project(self.depthwise(self.expand(y)))
        y = self.down(y).flatten(2).transpose(1, 2)
        return self.head(self.encoder(y).mean(1))


@functools.cache
def int8_network(count: int = 200) -> tuple[Graph, np.ndarray]:
    """The quantised network, three quarters of its blocks pruned, and stored inputs."""
    torch.manual_seed(5)
    x = torch.randn(count, 3, 16, 16, generator=torch_generator(5))
    graph = trace(Network().eval(), x[:1], "tinyformer")
    texts = itertools.cycle(BLOCKS)
    changed = {}
    for op, weight in graph.weighted():
        if getattr(op.attributes, "groups", 1) > 1 or min(weight.shape[:2]) < 8:
            continue  # the stem, the depthwise convolution and the head stay dense
        structure = parse(next(texts))
        data = structure.project(torch.from_numpy(weight.data)).numpy()
        changed[weight.name] = replace(weight, data=data, structure=structure.text)
    graph = graph.with_tensors(changed)
    graph = quantise(graph, calibrate(graph, [{graph.inputs[0]: x[:32]}]))
    return graph, quantise_input(graph, x.numpy())
