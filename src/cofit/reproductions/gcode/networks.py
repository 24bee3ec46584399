"""Clouds, and the networks on them: shared weights, designs trained by themselves, placements."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from cofit.core import numpy_generator, torch_generator
from cofit.data import Dataset, Split, load
from cofit.graphs.points import (
    Genes,
    PointNetwork,
    Supernet,
    calibrate,
    clouds_from_images,
    parse,
    spell,
)
from cofit.graphs.points.coinference import place, without_transfers
from cofit.regimes import Batches, Recipe, fit
from cofit.reproductions.gcode.settings import Settings
from cofit.reproductions.gcode.space import DesignSpace
from cofit.reproductions.harness import Step, accuracy, fewer, seeded

Results = dict[str, Any]


@lru_cache(maxsize=1)
def clouds_of(settings: Settings) -> Dataset:
    """The images as clouds, (N, n, 3) each."""
    data = fewer(load(settings.data), settings.train, settings.test)

    def turned(part: Split, name: str) -> Split:
        generator = torch_generator(0, "gcode clouds", name)
        return Split(clouds_from_images(part.inputs, settings.n, generator), part.targets)

    return replace(
        data,
        train=turned(data.train, "train"),
        validation=turned(data.validation, "validation"),
        test=turned(data.test, "test"),
        augment=(),
    )


def space_of(settings: Settings, transfers: bool = True) -> DesignSpace:
    """All designs, or architectures that leave room for two transfers."""
    positions = settings.positions if transfers else settings.positions - 2
    return DesignSpace(positions, settings.combines, settings.widest, transfers)


def supernet_of(settings: Settings, seed: int) -> Supernet:
    """Untrained; every training step draws an architecture."""
    space = space_of(settings, transfers=False)

    def draw(number: int) -> Genes:
        return space.genes(space.sample(numpy_generator(seed, "gcode path", number)))

    return seeded(
        lambda: Supernet(
            settings.positions, 2 * settings.widest, max(settings.combines),
            len(clouds_of(settings).classes), settings.k, draw,
        ),
        seed, "gcode supernet",
    )  # fmt: skip


def _fit(
    settings: Settings, model: torch.nn.Module, epochs: int, seed: int, step: Step, name: str
) -> dict[str, torch.Tensor]:
    data = clouds_of(settings)
    batches = Batches(
        data.train.inputs, data.train.targets, settings.batch, seed, channels_last=False
    )
    recipe = Recipe(epochs, 2e-3, "adam", weight_decay=1e-4)
    fit(model, batches, recipe, checkpoint=step.checkpoint(name), progress=step.progress,
        stage=name)  # fmt: skip
    return model.state_dict()


def train_shared(settings: Settings, seed: int, step: Step) -> Results:
    """The supernet's weights."""
    model = supernet_of(settings, seed)
    return dict(_fit(settings, model, settings.shared_epochs, seed, step, "supernet"))


def network_of(settings: Settings, genes: Genes, seed: int) -> PointNetwork:
    """Untrained network of a design."""
    classes = len(clouds_of(settings).classes)
    return seeded(lambda: PointNetwork(genes, classes, settings.k), seed, "gcode", spell(genes))


def train_design(settings: Settings, text: str, seed: int, step: Step) -> Results:
    """Weights of an architecture trained by itself, and its accuracy on the test part."""
    model = network_of(settings, without_transfers(parse(text)), seed)
    weights = _fit(settings, model, settings.epochs, seed, step, "training")
    return {**weights, "accuracy": accuracy(model, clouds_of(settings).test)}


def trained(settings: Settings, text: str, seed: int, found: Results) -> PointNetwork:
    """The network of `train_design`, placed as the text says."""
    bare = network_of(settings, without_transfers(parse(text)), seed)
    bare.load_state_dict({k: v for k, v in found.items() if isinstance(v, torch.Tensor)})
    return place(bare.eval(), parse(text))


def frame_of(settings: Settings) -> torch.Tensor:
    """(1, n, 3): the cloud that is timed."""
    return clouds_of(settings).validation.inputs[:1]


class Shared:
    """Trained shared weights: networks and accuracies of designs."""

    def __init__(self, settings: Settings, seed: int, weights: Results) -> None:
        self._net = supernet_of(settings, seed)
        self._net.load_state_dict(weights)
        self._net.eval()
        data = clouds_of(settings)
        part = data.validation
        self._clouds = part.inputs[: settings.scored]
        self._classes = part.targets[: settings.scored]
        self._calibration = data.train.inputs[: settings.batch]
        self._found: dict[Genes, float] = {}

    def accuracy(self, genes: Genes) -> float:
        """On the validation part; a mapping does not change it."""
        bare = without_transfers(genes)
        if bare not in self._found:
            with torch.no_grad():
                right = self._net.path(bare, self._clouds).argmax(1) == self._classes
            self._found[bare] = float(right.float().mean())
        return self._found[bare]

    def network(self, genes: Genes) -> PointNetwork:
        """With the shared weights and statistics of real clouds."""
        bare = self._net.extract(without_transfers(genes))
        calibrate(bare, self._calibration)
        return place(bare, genes)
