"""Cycles of a digital SRAM macro, layer by layer, in closed form.

The published geometry is not known to us; the defaults are ours. A layer that is paired takes half
of the weight loads, and of the filter steps; depthwise layers, whose channels need different
inputs, gain only where two inputs are broadcast at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cofit.ir import Graph
from cofit.ir import attributes as at

Mode = Literal["baseline", "fcc", "fcc+dual", "fcc+dual+split"]
MODES: tuple[Mode, ...] = ("baseline", "fcc", "fcc+dual", "fcc+dual+split")


@dataclass(frozen=True)
class Layer:
    """One convolution as the macro sees it.

    Attributes:
        filters: K.
        weights: of one filter, L = (C / groups) * R * S.
        pixels: P, of the output.
        depthwise: one input channel per filter.
        paired: filters are complementary pairs.
    """

    filters: int
    weights: int
    pixels: int
    depthwise: bool
    paired: bool


@dataclass(frozen=True)
class Macro:
    """Geometry of the macro.

    Attributes:
        rows: weights summed in a step.
        filters: computed in a step.
        input_bits: cycles of a step.
        load_bits: of weights loaded in a cycle.
        parts: row groups that the reconfigurable unit sums apart.
        overlap: whether loading hides behind computing.
    """

    rows: int = 64
    filters: int = 16
    input_bits: int = 8
    load_bits: int = 64
    parts: int = 2
    overlap: bool = False

    def compute_cycles(self, layer: Layer, mode: Mode) -> int:
        """Cycles of arithmetic."""
        steps = layer.pixels * self.input_bits
        halved = layer.paired and mode != "baseline"
        if not layer.depthwise:
            tiles = math.ceil(layer.filters / (self.filters * (2 if halved else 1)))
            return math.ceil(layer.weights / self.rows) * tiles * steps
        at_once = 1
        if halved and mode in ("fcc+dual", "fcc+dual+split"):
            at_once = 2
        if at_once == 2 and mode == "fcc+dual+split":
            at_once *= max(1, min(self.parts, self.rows // layer.weights))
        return math.ceil(layer.filters / at_once) * steps

    def load_cycles(self, layer: Layer, mode: Mode) -> int:
        """Cycles of loading 8-bit weights."""
        stored = layer.filters * layer.weights * 8
        if layer.paired and mode != "baseline":
            stored = math.ceil(layer.filters / 2) * layer.weights * 8
        return math.ceil(stored / self.load_bits)

    def cycles(self, layer: Layer, mode: Mode) -> int:
        """Cycles of a layer, loading included."""
        parts = self.compute_cycles(layer, mode), self.load_cycles(layer, mode)
        return max(parts) if self.overlap else sum(parts)

    def total(self, layers: Iterable[Layer], mode: Mode) -> int:
        """Cycles of a network."""
        return sum(self.cycles(layer, mode) for layer in layers)


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
