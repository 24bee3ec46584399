"""Clouds, and the networks on them: shared weights, designs trained by themselves, placements."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from cofit.core import numpy_generator
from cofit.data import Dataset
from cofit.graphs.points import Genes, PointNetwork, Supernet, parse, spell
from cofit.graphs.points.coinference import place, without_transfers
from cofit.regimes import Recipe
from cofit.reproductions.gcode.settings import Settings
from cofit.reproductions.gcode.space import DesignSpace
from cofit.reproductions.harness import Step, seeded, train
from cofit.reproductions.hgnas.clouds import accuracy, cloud_data
from cofit.reproductions.hgnas.searching import SharedAccuracy

Results = dict[str, Any]
CALIBRATION = 64
"""Training clouds whose statistics a design of shared weights normalises by; chosen."""


@lru_cache(maxsize=1)
def clouds_of(settings: Settings) -> Dataset:
    """The images as clouds, (N, n, 3) each; designs are scored on the validation part."""
    s = settings
    return cloud_data(s.data, s.n, s.train, s.scored, s.test)


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
    recipe = Recipe(epochs, 2e-3, "adam", weight_decay=1e-4)
    done, _ = train(step, model, clouds_of(settings), recipe, seed, name=name, size=settings.batch,
                    channels_last=False)  # fmt: skip
    return done.state_dict()


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
    """Trained shared weights: networks and accuracies of designs, whatever their mapping."""

    def __init__(self, settings: Settings, seed: int, weights: Results) -> None:
        net = supernet_of(settings, seed)
        net.load_state_dict(weights)
        data = clouds_of(settings)
        self._designs = SharedAccuracy(net, data.train.inputs[:CALIBRATION], data.validation)
        self._unplaced = lru_cache(maxsize=2)(self._designs.network)  # mappings come in a row
        self._test = data.test

    def accuracy(self, genes: Genes) -> float:
        """On the validation part."""
        return self._designs(without_transfers(genes))

    def tested(self, genes: Genes) -> float:
        """Accuracy on the test part, which decides nothing."""
        return accuracy(self._unplaced(without_transfers(genes)), self._test)

    def network(self, genes: Genes) -> PointNetwork:
        """With the shared weights and statistics of real clouds."""
        return place(self._unplaced(without_transfers(genes)), genes)
