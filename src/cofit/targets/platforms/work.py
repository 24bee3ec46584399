"""What layers ask of a platform: loops, bytes at a precision, and how their zeros lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError, UnknownNameError
from cofit.ir import Graph
from cofit.targets.dataflow import Layer
from cofit.targets.dataflow.network import layers_of
from cofit.targets.platforms.tables import PRECISIONS

Mask = NDArray[np.bool_]
WEIGHT_BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "ternary": 2, "binary": 1}
ACTIVATION_BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "ternary": 8, "binary": 1}
INDEX_BITS = {"none": 0.0, "filter": 0.0, "block": 1.0, "pattern": 1.0, "unstructured": 8.0}
"""Bits per kept weight that say where it belongs; a block's are shared by its weights."""

SCHEMES = tuple(INDEX_BITS)
KEPT_INT8 = ("ternary", "binary")
"""Precisions at which the first and the last layer stay int8."""


@dataclass(frozen=True, eq=False)
class LayerWork:
    """One layer.

    Attributes:
        name: of its output.
        kind: "conv3x3" (any kernel but 1x1), "conv1x1", "depthwise" or "dense".
        filters: M, output channels.
        channels: N, input channels that a filter reads.
        taps: positions of the kernel.
        height, width: of the output.
        inputs, outputs: elements.
        precision: of its arithmetic.
        scheme: in which its zeros lie.
        kept: (M, N * taps) weights that are not zero; None is all.
    """

    name: str
    kind: str
    filters: int
    channels: int
    taps: int
    height: int
    width: int
    inputs: int
    outputs: int
    precision: str = "fp32"
    scheme: str = "none"
    kept: Mask | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if self.scheme not in SCHEMES:
            raise UnknownNameError("pruning scheme", self.scheme, SCHEMES)
        sizes = (self.filters, self.channels, self.taps, self.height, self.width, self.inputs)
        if min(sizes) < 1 or self.outputs < 1:
            raise ConfigError(
                f"layer {self.name!r} has no whole shape: filters, channels, taps, height, width, "
                f"inputs, outputs are {(*sizes, self.outputs)}; all must be at least 1"
            )
        if self.kept is not None and self.kept.shape != (self.filters, self.channels * self.taps):
            raise ConfigError(
                f"layer {self.name!r}: a mask of shape {self.kept.shape}; expected "
                f"{(self.filters, self.channels * self.taps)}"
            )

    @property
    def weights(self) -> int:
        """Weights, zeros included."""
        return self.filters * self.channels * self.taps

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those with zeros included."""
        return self.weights * self.height * self.width

    @property
    def density(self) -> float:
        """Share of weights that are not zero."""
        return 1.0 if self.kept is None else float(self.kept.mean())

    @property
    def weight_bytes(self) -> float:
        """Bytes of the kept weights and of their places."""
        bits = WEIGHT_BITS[self.precision] + INDEX_BITS[self.scheme]
        return self.density * self.weights * bits / 8

    @property
    def activation_bytes(self) -> float:
        """Bytes of inputs and outputs."""
        return (self.inputs + self.outputs) * ACTIVATION_BITS[self.precision] / 8


def works_of(
    graph: Graph,
    precision: str = "fp32",
    scheme: str = "none",
    kept: Mapping[str, Mask] | None = None,
) -> tuple[LayerWork, ...]:
    """The layers of a graph that multiply; others are taken to be fused into them.

    Args:
        graph: traced.
        precision: of all layers; at ternary and binary the first and last stay int8.
        scheme: in which the zeros of masked layers lie.
        kept: by name of a weight the mask of its values, of the weight's shape.

    Raises:
        UnknownNameError: an unknown precision or scheme, or a mask of no weight.
        ConfigError: a mask of another shape, or nothing multiplies.
    """
    names = {op.inputs[1] for op in graph.ops if graph.weight(op) is not None}
    masks = dict(kept or {})
    for name in masks:
        if name not in names:
            raise UnknownNameError("weight", name, names)
    found = []
    for op in graph.ops:
        for layer in layers_of(graph, op, 32, 32):
            mask = masks.get(op.inputs[1])
            flat = None if mask is None else mask.reshape(layer.k, -1)
            found.append(_work(layer, precision, "none" if flat is None else scheme, flat))
    if not found:
        raise ConfigError(f"network {graph.name!r} has no layer that multiplies")
    if precision in KEPT_INT8:
        for place in (0, -1):
            old = found[place]
            found[place] = LayerWork(**{**vars(old), "precision": "int8"})
    return tuple(found)


def total_macs(works: Sequence[LayerWork]) -> int:
    """Dense multiply-accumulates of all layers."""
    return sum(work.macs for work in works)


def _work(layer: Layer, precision: str, scheme: str, kept: Mask | None) -> LayerWork:
    taps, pixels = layer.r * layer.s, layer.n * layer.y
    channels = layer.c // layer.groups
    if layer.groups > 1 and channels == 1:
        kind = "depthwise"
    elif layer.y * layer.x == 1 and taps == 1:
        kind = "dense"
    else:
        kind = "conv1x1" if taps == 1 else "conv3x3"
    rows = (layer.y - 1) * layer.stride[0] + (layer.r - 1) * layer.dilation[0] + 1
    columns = (layer.x - 1) * layer.stride[1] + (layer.s - 1) * layer.dilation[1] + 1
    return LayerWork(
        name=layer.name, kind=kind, filters=layer.k, channels=channels, taps=taps, height=pixels,
        width=layer.x, inputs=layer.n * layer.c * rows * columns,
        outputs=math.prod((layer.n, layer.k, layer.y, layer.x)), precision=precision,
        scheme=scheme, kept=kept,
    )  # fmt: skip
