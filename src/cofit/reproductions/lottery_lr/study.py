"""The networks, the scales and the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from cofit.data import Dataset, load
from cofit.models import model
from cofit.reproductions.harness import Outcome, Reproduction, Study, fewer, normalised
from cofit.reproductions.lottery_lr.check import Grid, run_grid
from cofit.reproductions.lottery_lr.claims import conclude


@dataclass(frozen=True)
class Settings:
    """What a scale does.

    Attributes:
        data: name of the data set.
        examples: training examples.
        network: "small" (two convolutions, two linear layers) or a name of `cofit.models`.
        grid: what is tried.
    """

    data: str
    examples: int
    network: str
    grid: Grid


def small_network(channels: int, size: int) -> nn.Module:
    """Two strided convolutions and two linear layers with batch norm, for images of any size."""
    side = (size + 3) // 4
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * side * side, 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip


def _run(study: Study[Settings]) -> Outcome:
    settings = study.settings
    data = fewer(load(settings.data), settings.examples)
    if settings.network == "small":
        build = partial(small_network, data.input_shape[0], data.input_shape[1])
        return _concluded(study, build, data)
    entry = model(settings.network)
    return _concluded(study, entry.build, normalised(data, entry.preprocess))


def _concluded(study: Study[Settings], build: Callable[[], nn.Module], data: Dataset) -> Outcome:
    grid = study.settings.grid
    return conclude(grid, run_grid(study, grid, build, data))


REPRODUCTION = Reproduction(
    name="lottery-lr",
    title="winning tickets live on small learning rates; prune and fine-tune instead",
    source="Liu, Yuan, Che, Shen, Ma, Jin, Ren, Tang, Liu, Wang; ICML 2021, arXiv 2102.11068",
    scales={
        "smoke": Settings("digits", 512, "small", Grid(sources=("global",), epochs=1, batch=64)),
        "standard": Settings("fashion_mnist", 20_000, "small", Grid()),
        "full": Settings(
            "cifar10", 18_000, "resnet20",
            Grid(
                sources=("global@2.44", "global@4.76", "global@11.6", "global@22.7",
                         "iterative@22.7", "admm:unstructured@22.7"),
                epochs=20,
            ),
        ),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=_run,
)  # fmt: skip
