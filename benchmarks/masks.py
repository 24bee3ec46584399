"""Networks with random masks: speed and size at a pruning rate, nothing of accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cofit.core import torch_generator
from cofit.ir import Graph
from cofit.structures import parse


def masked(graph: Graph, structures: Sequence[str]) -> Graph:
    """Give each inner layer the first of the structures that applies, with weights kept at random.

    The first and the last layer stay dense, unless there is only one. What is kept grows so that
    outputs keep their size.
    """
    layers, changed = [op for op in graph.ops if graph.weights(op)], {}
    inner = layers[1:-1] if len(layers) > 1 else layers
    for weight in (weight for op in inner for weight in graph.weights(op)):
        for text in structures:
            if parse(text).applies(weight.shape) is None:
                random = torch.randn(
                    weight.shape, generator=torch_generator(0, "mask", weight.name)
                )
                kept = parse(text).project(random).numpy() != 0
                scale = np.float32(kept.mean() ** -0.5)
                changed[weight.name] = replace(
                    weight, data=weight.data * kept * scale, structure=text
                )
                break
    return graph.with_tensors(changed)
