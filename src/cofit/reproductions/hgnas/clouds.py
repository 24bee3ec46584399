"""Data sets as clouds of points."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from cofit.core import torch_generator
from cofit.data import Dataset, Split, load
from cofit.graphs.points import SOLIDS, clouds_from_images, solids
from cofit.reproductions.harness import fewer

GENERATED = "solids"
TOGETHER = 50
"""Clouds that are evaluated at once."""


def cloud_data(name: str, n: int, train: int, held: int, tested: int) -> Dataset:
    """Clouds of `n` points: "solids", or the images of a known data set.

    Args:
        name: of the data.
        n: points.
        train: training clouds.
        held: validation clouds.
        tested: test clouds.
    """
    if name == GENERATED:
        parts = (
            Split(*solids(size, n, torch_generator(0, "solids", part)))
            for part, size in (("train", train), ("validation", held), ("test", tested))
        )
        learnt, validation, test = parts
        return Dataset(name, learnt, validation, test, SOLIDS)
    data = fewer(load(name), train, tested)
    shown = Split(data.validation.inputs[:held], data.validation.targets[:held])

    def clouds(part: Split, kind: str) -> Split:
        generator = torch_generator(0, "clouds", name, kind)
        return Split(clouds_from_images(part.inputs, n, generator), part.targets)

    return replace(
        data, train=clouds(data.train, "train"), validation=clouds(shown, "validation"),
        test=clouds(data.test, "test"), augment=(),
    )  # fmt: skip


def accuracy(network: nn.Module, split: Split) -> float:
    """Fraction of clouds whose highest score is their class; few at a time, for messages are large.

    The network is left in eval mode.
    """
    network.eval()
    with torch.no_grad():
        scores = torch.cat([network(clouds) for clouds in split.inputs.split(TOGETHER)])
    return float((scores.argmax(1) == split.targets).float().mean())
