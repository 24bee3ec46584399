"""Convolutions as the macro of DDC-PIM sees them: of our network, and of two published ones."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cofit.ir import Graph
from cofit.ir import attributes as at
from cofit.targets.arrays import Layer


def layers_of(graph: Graph, paired: Iterable[str]) -> list[Layer]:
    """The convolutions of a graph; `paired` names the weights whose filters are pairs."""
    chosen, found = set(paired), []
    for op, weight in graph.weighted():
        if isinstance(op.attributes, at.Conv2d):
            _, _, height, width = graph.tensors[op.output].shape
            depthwise = op.attributes.groups > 1
            length = math.prod(weight.shape[1:])
            found.append(
                Layer(weight.shape[0], length, height * width, depthwise, weight.name in chosen)
            )
    return found


def published_network(stages: Iterable[tuple[int, ...]], stem: int, head: int) -> list[Layer]:
    """Convolutions of a network of inverted residuals on 224x224 images, without attention.

    Args:
        stages: expansion, channels, blocks, stride of the first block, kernel side.
        stem: channels of the first convolution, of stride 2.
        head: channels of the last 1x1 convolution.
    """
    side, c_in = 112, stem
    layers = [Layer(stem, 27, side**2, False, False)]
    for expansion, channels, blocks, stride, kernel in stages:
        for i in range(blocks):
            hidden = c_in * expansion
            if expansion > 1:
                layers.append(Layer(hidden, c_in, side**2, False, True))
            side = math.ceil(side / (stride if i == 0 else 1))
            layers.append(Layer(hidden, kernel**2, side**2, True, True))
            layers.append(Layer(channels, hidden, side**2, False, True))
            c_in = channels
    return [*layers, Layer(head, c_in, side**2, False, True)]


MOBILENET_V2 = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3),
)  # fmt: skip
EFFICIENTNET_B0 = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
)  # fmt: skip
