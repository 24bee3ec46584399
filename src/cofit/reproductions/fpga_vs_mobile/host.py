"""This CPU as a platform: calibrated on measured layers, then asked about others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import nn

from cofit.core import ConfigError, numpy_generator, torch_generator
from cofit.ir import trace
from cofit.structures import parse
from cofit.targets import OpSignature, signature_of, time_together
from cofit.targets.platforms import KINDS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """A layer: its kind, channels in and out, and side of its input."""

    kind: str
    channels: int
    filters: int
    side: int

    def module(self) -> tuple[nn.Module, torch.Tensor]:
        """The layer, and an input of it."""
        if self.kind == "dense":
            return nn.Linear(self.channels, self.filters), torch.zeros(1, self.channels)
        x = torch.zeros(1, self.channels, self.side, self.side)
        if self.kind == "conv1x1":
            return nn.Conv2d(self.channels, self.filters, 1), x
        if self.kind == "depthwise":
            conv = nn.Conv2d(self.channels, self.channels, 3, padding=1, groups=self.channels)
            return conv, x
        return nn.Conv2d(self.channels, self.filters, 3, padding=1), x

    @property
    def features(self) -> Floats:
        """What its time is a sum of: MACs, bytes of weights, inputs and outputs, and a start."""
        pixels = 1 if self.kind == "dense" else self.side**2
        filters = self.channels if self.kind == "depthwise" else self.filters
        taps = 1 if self.kind in ("dense", "conv1x1") else 9
        read = taps * (1 if self.kind == "depthwise" else self.channels)
        return np.array(
            [filters * read * pixels, 4 * filters * read, 4 * (self.channels + filters) * pixels, 1]
        )


@dataclass(frozen=True)
class HostModel:
    """Seconds per feature, by kind of layer."""

    seconds: dict[str, tuple[float, ...]]

    def predict(self, shape: Shape) -> float:
        """Seconds of a layer.

        Raises:
            ConfigError: no layer of its kind was measured.
        """
        if shape.kind not in self.seconds:
            raise ConfigError(
                f"no {shape.kind} layer was measured, only {', '.join(self.seconds)}; calibrate "
                "with some"
            )
        return float(shape.features @ np.array(self.seconds[shape.kind]))


def random_shapes(count: int, seed: int) -> list[Shape]:
    """Layers of all kinds in turn, of sizes as small networks have them."""
    generator = numpy_generator(seed, "fpga-vs-mobile", "layers")
    found = []
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        channels, filters = (16 * int(generator.integers(1, 9)) for _ in range(2))
        side = int(generator.choice([7, 8, 14, 16, 28, 32]))
        if kind == "dense":
            channels, filters = (64 * int(generator.integers(1, 17)) for _ in range(2))
        found.append(Shape(kind, channels, filters, side))
    return found


def measure(shapes: Sequence[Shape]) -> list[float]:
    """Seconds of our programs of layers, timed in turn on this CPU."""
    signatures: list[OpSignature] = []
    for shape in shapes:
        module, x = shape.module()
        graph = trace(module.eval(), x)
        op, _ = next(graph.weighted())
        signatures.append(signature_of(graph, op))
    return [row.latency_s for row in time_together(signatures)]


def speedups(structures: Sequence[str], channels: int, side: int) -> list[tuple[float, float]]:
    """How many times faster pruned 3x3 layers are than dense, and how many times fewer weights.

    Args:
        structures: as text.
        channels: in and out.
        side: of the input.
    """
    module, x = Shape("conv3x3", channels, channels, side).module()
    graph = trace(module.eval(), x)
    op, weight = next(graph.weighted())
    signatures = [signature_of(graph, op, text) for text in (None, *structures)]
    dense, *pruned = (row.latency_s for row in time_together(signatures))
    random = torch.randn(weight.shape, generator=torch_generator(0, "fpga-vs-mobile", "pruned"))
    kept = [float((parse(text).project(random) != 0).float().mean()) for text in structures]
    return [(dense / t, 1 / share) for t, share in zip(pruned, kept, strict=True)]


def calibrate_host(shapes: Sequence[Shape], seconds: Sequence[float]) -> HostModel:
    """Least squares of relative errors per kind, no coefficient below zero."""
    found: dict[str, tuple[float, ...]] = {}
    for kind in dict.fromkeys(shape.kind for shape in shapes):
        mine = [(s, t) for s, t in zip(shapes, seconds, strict=True) if s.kind == kind]
        rows = np.stack([shape.features / time for shape, time in mine])
        scale = rows.max(0)
        solved, _ = nnls(rows / scale, np.ones(len(rows)))
        found[kind] = tuple(float(value) for value in solved / scale)
    return HostModel(found)


def errors(model: HostModel, shapes: Sequence[Shape], seconds: Sequence[float]) -> list[float]:
    """Relative errors of predictions, in percent."""
    return [100 * abs(model.predict(s) / t - 1) for s, t in zip(shapes, seconds, strict=True)]
