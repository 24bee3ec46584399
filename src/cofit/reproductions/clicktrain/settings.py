"""What a scale of ClickTrain does, and the network and data it does it on."""

from __future__ import annotations

from dataclasses import dataclass

from cofit.data import Dataset, load
from cofit.models import model
from cofit.models.plain import ConvNet
from cofit.reproductions.harness import fewer, normalised, seeded


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        data: name of the data set.
        entry: name of the network whose normalisation the data set takes.
        examples: training examples.
        widths: of the network, two 3x3 convolutions each.
        batch: examples per step.
        epochs: of dense training, and of everything that happens inside one training.
        lasso_epoch: e1.
        mask_epoch: e2.
        after: epochs of ADMM, and again of retraining, of pruning after training.
        percent: kernels removed of every layer but the first, which stays dense.
        library: patterns, made from the network.
        strength: lambda of the group lasso.
        batches: over which importance is averaged.
        learning_rate: of trainings from scratch.
        fine_rate: of ADMM and retraining.
        peers: whether other runtimes are timed.
    """

    data: str = "fashion_mnist"
    entry: str = "convnet"
    examples: int = 6000
    widths: tuple[int, ...] = (16, 32, 64)
    batch: int = 32
    epochs: int = 10
    lasso_epoch: int = 3
    mask_epoch: int = 7
    after: int = 5
    percent: float = 72.0
    library: int = 4
    strength: float = 3e-3
    batches: int = 8
    learning_rate: float = 0.1
    fine_rate: float = 0.02
    peers: bool = True


def dataset(settings: Settings) -> Dataset:
    """The data as the network takes them."""
    return normalised(
        fewer(load(settings.data), settings.examples), model(settings.entry).preprocess
    )


def network(settings: Settings, data: Dataset, seed: int) -> ConvNet:
    """A fresh network; one seed gives all arms the same initial weights."""
    channels = data.input_shape[0]
    return seeded(
        lambda: ConvNet(channels=channels, classes=len(data.classes), widths=settings.widths), seed
    )
