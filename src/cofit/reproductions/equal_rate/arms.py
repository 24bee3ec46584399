"""One trained network, and the ways to make it sparse: by structure, and by how it gets there."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cofit.core import DataError, torch_generator
from cofit.data import Dataset, load
from cofit.models import model as known_model
from cofit.models.load import load_weights
from cofit.regimes import ADMM, Held, Masked, Recipe, Regime
from cofit.reproductions.harness import (
    Step,
    accuracy,
    fewer,
    kernel_weights,
    normalised,
    seeded,
    train,
)
from cofit.structures import ALL_OF_FOUR, Connectivity, PatternLibrary, Structure, family

FORMS: Mapping[str, tuple[str, ...]] = {
    "pattern": ("pattern8g1",),
    "block": ("block4x4",),
    "stripe": ("block16x1",),
    "unified": ("unify1x8",),
    "polarised": ("rows8", "polarised8"),
    "complementary": ("complementary",),
}
"""Forms of a weight by arm, in the order of projection; those of a fixed rate keep theirs.

A stripe of a convolution is what 16 filters read at one kernel position of one input channel.
"""

PATTERN, ONE_SHOT, RANDOM, DENSE = "pattern", "pattern, one shot", "random patterns", "dense"
ENTRIES_RATE = 2.25
"""Of four entries of nine."""


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        data: name of the data set.
        entry: name of the network.
        weights: file of its trained weights in COFIT_MODELS; "" to train it here.
        dense_epochs: of that training.
        examples: for training.
        batch: examples per step.
        rate: of all structures that take one.
        admm_epochs: towards the structure; the others train as long within it.
        retrain_epochs: within it.
        learning_rate: of ADMM, and again of retraining.
        rho: of the first stage of ADMM.
        board: on which instructions are counted; "" for none.
        forms: arms, see `FORMS`.
    """

    data: str = "cifar10"
    entry: str = "resnet20"
    weights: str = "resnet20_cifar10.safetensors"
    dense_epochs: int = 0
    examples: int = 2000
    batch: int = 64
    rate: float = 8.0
    admm_epochs: int = 2
    retrain_epochs: int = 2
    learning_rate: float = 0.02
    rho: float = 1e-2
    board: str = "cortex-m4:stm32f446"
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(FORMS))


def dataset(settings: Settings) -> Dataset:
    """The data as the network takes them."""
    entry = known_model(settings.entry)
    return normalised(fewer(load(settings.data), settings.examples), entry.preprocess)


def given(step: Step, settings: Settings, data: Dataset) -> nn.Module:
    """The trained network that all arms start from, from its file or trained here.

    Raises:
        DataError: the file is not there.
    """
    model = seeded(known_model(settings.entry).build, 0)
    if settings.weights:
        load_weights(model, _file(settings.weights))
        return model.eval()
    recipe = Recipe(settings.dense_epochs, 0.1)
    return train(step, model, data, recipe, 0, None, "given", settings.batch)[0]


def structures_of(settings: Settings, arm: str) -> tuple[Structure, ...]:
    """Structures of an arm, in the order of projection."""
    forms = [family(name) for name in settings.forms[arm]]
    return tuple(form(form.least_rate if form.fixed else settings.rate) for form in forms)


def trained(
    step: Step, settings: Settings, data: Dataset, start: nn.Module, arm: str, seed: int
) -> dict[str, Any]:
    """One arm: its state, its accuracy when it was projected, and in the end."""
    model = copy.deepcopy(start)
    names = kernel_weights(model)
    sets = dict.fromkeys(names, structures_of(settings, arm if arm in FORMS else PATTERN))
    epochs = settings.admm_epochs + settings.retrain_epochs
    regime: Regime = Regime()
    if arm == ONE_SHOT:
        _project(model, sets)
    elif arm == RANDOM:
        _randomise(model, names, settings.rate, seed)
    elif arm != DENSE:
        stages = max(settings.admm_epochs, 1)
        growth = 100.0 ** (1 / max(stages - 1, 1))
        admm = ADMM(sets, rho=settings.rho, growth=growth, stages=stages, stage_epochs=1)
        model = _fit(step, settings, data, model, admm, settings.admm_epochs, seed, "admm")
        epochs = settings.retrain_epochs
    hardened = accuracy(model, data.validation)
    if arm != DENSE:  # random patterns are of no library, so their zeros are all there is to hold
        regime = Masked(names) if arm == RANDOM else Held(sets)
    model = _fit(step, settings, data, model, regime, epochs, seed, "within")
    kept = sum(int(model.get_parameter(n).count_nonzero()) for n in names)
    return {
        "hardened": hardened,
        "accuracy": accuracy(model, data.test),
        "rate": sum(model.get_parameter(n).numel() for n in names) / kept,
        **{f"state {n}": v.contiguous() for n, v in model.state_dict().items()},
    }


def _fit(
    step: Step, settings: Settings, data: Dataset, model: nn.Module, regime: Regime, epochs: int,
    seed: int, name: str,
) -> nn.Module:  # fmt: skip
    recipe = Recipe(epochs, settings.learning_rate)
    return train(step, model, data, recipe, seed, regime, name, settings.batch)[0]


def _project(model: nn.Module, sets: Mapping[str, Sequence[Structure]]) -> None:
    with torch.no_grad():
        for name, structures in sets.items():
            weight = model.get_parameter(name)
            for structure in structures:
                weight.copy_(structure.project(weight.detach()))


def _randomise(model: nn.Module, names: Sequence[str], rate: float, seed: int) -> None:
    """Each kernel gets one of eight random patterns at random; the largest results stay."""
    generator = torch_generator(seed, "random patterns")
    chosen = torch.randperm(len(ALL_OF_FOUR.masks), generator=generator)[:8].tolist()
    bits = PatternLibrary(tuple(ALL_OF_FOUR.masks[i] for i in chosen)).bits()
    kernels = Connectivity(rate / ENTRIES_RATE)
    with torch.no_grad():
        for weight in map(model.get_parameter, names):
            which = torch.randint(len(chosen), weight.shape[:2], generator=generator)
            shaped = torch.where(bits[which].reshape(weight.shape), weight, 0.0)
            weight.copy_(kernels.project(shaped))


def _file(name: str, root: Callable[[str], str | None] = os.environ.get) -> Path:
    folder = root("COFIT_MODELS") or "shared/models"
    path = Path(folder) / name
    if not path.is_file():
        raise DataError(
            f"trained weights {name!r} are not in {folder!r}; set COFIT_MODELS to their folder"
        )
    return path
