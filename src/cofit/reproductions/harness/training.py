"""Training as reproductions do it: seeded networks, a loop that resumes, accuracy on a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from cofit.core import derive_seed, torch_generator
from cofit.data import Dataset, Split
from cofit.models import Normalise
from cofit.regimes import Batches, Ledger, Recipe, Regime, augmentation, fit
from cofit.reproductions.harness.study import Step

M = TypeVar("M", bound=nn.Module)
EVALUATION_BATCH = 500


def seeded(build: Callable[[], M], seed: int, *names: str | int) -> M:
    """A network whose initial weights depend on `seed` and `names` only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights", *names))
        return build()


def fewer(data: Dataset, train: int, test: int | None = None) -> Dataset:
    """The data set with at most `train` training (and `test` test) examples, drawn once."""

    def drawn(part: Split, size: int | None, name: str) -> Split:
        if size is None or size >= len(part):
            return part
        order = torch.randperm(len(part), generator=torch_generator(0, "fewer", data.name, name))
        rows = order[:size].sort().values
        return Split(part.inputs[rows], part.targets[rows])

    return replace(
        data, train=drawn(data.train, train, "train"), test=drawn(data.test, test, "test")
    )


def normalised(data: Dataset, preprocess: Normalise) -> Dataset:
    """The data set with its inputs as a network takes them."""

    def of(part: Split) -> Split:
        return Split(preprocess(part.inputs), part.targets)

    return replace(data, train=of(data.train), validation=of(data.validation), test=of(data.test))


def kernel_weights(model: nn.Module) -> tuple[str, ...]:
    """Names of the weights of all 3x3 convolutions but the first and the depthwise ones."""
    found = [
        f"{name}.weight"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.groups == 1
    ]
    return tuple(found[1:])


def train(
    step: Step,
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    regime: Regime | None = None,
    name: str = "training",
    size: int = 128,
    channels_last: bool = True,
) -> tuple[nn.Module, Ledger]:
    """Train on the training part, from the step's checkpoint if it was interrupted.

    Args:
        step: where the training saves itself and tells where it is.
        model: changed in place.
        data: its augmentations are used.
        recipe: epochs, optimiser, rate.
        seed: of order and augmentation.
        regime: what it drives at.
        name: of this training within the step; also of its checkpoint.
        size: examples per batch.
        channels_last: see `Batches`.

    Returns:
        The finalised model in eval mode, and the ledger of its cost.
    """
    batches = Batches(
        data.train.inputs,
        data.train.targets,
        size=size,
        seed=seed,
        augment=tuple(augmentation(kind) for kind in data.augment),
        channels_last=channels_last,
    )
    return fit(
        model, batches, recipe, regime,
        checkpoint=step.checkpoint(name), progress=step.progress, stage=name,
    )  # fmt: skip


def accuracy(model: nn.Module, split: Split) -> float:
    """Fraction of a split whose highest output is its class; the model is left in eval mode."""
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in zip(
            split.inputs.split(EVALUATION_BATCH), split.targets.split(EVALUATION_BATCH), strict=True
        ):
            right += int((model(x).argmax(1) == y).sum())
    return right / len(split)
