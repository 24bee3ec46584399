"""The trainings that are compared: dense, ClickTrain, pruning after training, gradual pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from cofit.data import Dataset
from cofit.regimes import (
    ADMM,
    Gradual,
    Handle,
    Ledger,
    Masked,
    PruneInTraining,
    Recipe,
    Regime,
    RegimeStack,
    training_macs,
)
from cofit.reproductions.clicktrain.plan import chooser, joint, parts
from cofit.reproductions.clicktrain.settings import Settings, network
from cofit.reproductions.harness import Step, accuracy, kernel_weights, train
from cofit.structures import CORNERS8, Pattern, PatternLibrary, extract_library, family

Measure = Callable[[nn.Module], float]


class Watch(Regime):
    """Measures the network when an epoch begins, where it stands in its stack."""

    def __init__(self, epoch: int, measure: Measure) -> None:
        self.value = 0.0
        self._epoch = epoch
        self._measure = measure
        self._model: nn.Module = nn.Identity()

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to the model."""
        self._model = model
        return Handle()

    def on_epoch(self, epoch: int) -> None:
        """Measure a copy, so that nothing of the training changes."""
        if epoch == self._epoch:
            self.value = self._measure(copy.deepcopy(self._model))

    def state_dict(self) -> dict[str, Any]:
        """The value."""
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.value = state["value"]


def compare(step: Step, settings: Settings, data: Dataset, seed: int) -> dict[str, Any]:
    """All trainings of one seed; what a `Step` stores."""
    dense, found = _dense(step, settings, data, seed)
    for arm in (_click, _gradual):
        found |= arm(step, settings, data, seed)
    return found | _after(step, settings, data, seed, dense)


def one_shot(settings: Settings, model: nn.Module) -> dict[str, Pattern]:
    """Patterns and rates for a trained network, by magnitude; the network is projected in place."""
    weights = {name: model.get_parameter(name) for name in kernel_weights(model)}
    library = extract_library(weights.values(), settings.library)
    structures = {n: joint(settings.percent, tuple(w.shape), library) for n, w in weights.items()}
    with torch.no_grad():
        for name, structure in structures.items():
            weights[name].copy_(structure.project(weights[name]))
    return structures


def click_regime(settings: Settings, model: nn.Module) -> PruneInTraining:
    """ClickTrain of a network."""
    percents = dict.fromkeys(kernel_weights(model), settings.percent)
    return PruneInTraining(
        percents,
        chooser(percents, settings.library),
        lasso_epoch=settings.lasso_epoch,
        mask_epoch=settings.mask_epoch,
        strength=settings.strength,
        batches=settings.batches,
    )


def admm_regime(settings: Settings, model: nn.Module, library: PatternLibrary) -> ADMM:
    """ADMM of pruning after training."""
    shapes = {name: tuple(model.get_parameter(name).shape) for name in kernel_weights(model)}
    return ADMM(
        {name: parts(settings.percent, shape, library) for name, shape in shapes.items()},
        rho=1e-3,
        growth=10 ** (3 / max(settings.after - 1, 1)),
        stages=settings.after,
        stage_epochs=1,
    )


def _recipe(settings: Settings, epochs: int, fine: bool = False) -> Recipe:
    return Recipe(epochs, settings.fine_rate if fine else settings.learning_rate)


def _dense(
    step: Step, settings: Settings, data: Dataset, seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    def on_validation(model: nn.Module) -> float:
        return accuracy(model, data.validation)

    def pruned(model: nn.Module) -> float:
        one_shot(settings, model)
        return accuracy(model, data.validation)

    before, after = Watch(settings.mask_epoch, on_validation), Watch(settings.mask_epoch, pruned)
    model, ledger = train(
        step, network(settings, data, seed), data, _recipe(settings, settings.epochs), seed,
        RegimeStack([before, after]), "dense", settings.batch,
    )  # fmt: skip
    return model, {
        "dense accuracy": accuracy(model, data.test),
        "dense validation": accuracy(model, data.validation),
        "one-shot drop": before.value - after.value,
        **_cost("dense", ledger),
    }


def _click(step: Step, settings: Settings, data: Dataset, seed: int) -> dict[str, Any]:
    def on_validation(model: nn.Module) -> float:
        return accuracy(model, data.validation)

    model = network(settings, data, seed)
    prune = click_regime(settings, model)
    before, after = (Watch(settings.mask_epoch, on_validation) for _ in range(2))
    trained, ledger = train(
        step, model, data, _recipe(settings, settings.epochs), seed,
        RegimeStack([before, prune, after]), "click", settings.batch,
    )  # fmt: skip
    structures = {}
    for name, sets in prune.structures.items():
        (library,) = {s.library for s in sets if isinstance(s, Pattern)}
        shape = tuple(trained.get_parameter(name).shape)
        structures[name] = joint(settings.percent, shape, library)
    weights = {f"weight {name}": value for name, value in trained.state_dict().items()}
    chosen, masked = prune.removed_norm
    return {
        "click accuracy": accuracy(trained, data.test),
        "click validation": accuracy(trained, data.validation),
        "click drop": before.value - after.value,
        "click norms": [chosen, masked],
        "click rate": _rate(trained),
        "click structures": {name: s.text for name, s in structures.items()},
        **_cost("click", ledger),
        **weights,
    }


def _gradual(step: Step, settings: Settings, data: Dataset, seed: int) -> dict[str, Any]:
    model = network(settings, data, seed)
    shapes = {name: tuple(model.get_parameter(name).shape) for name in kernel_weights(model)}
    form = family("corner8g1")
    goals = {
        n: (form, joint(settings.percent, shape, CORNERS8).rate) for n, shape in shapes.items()
    }
    trained, ledger = train(
        step, model, data, _recipe(settings, settings.epochs), seed, Gradual(goals), "gradual",
        settings.batch,
    )  # fmt: skip
    return {
        "gradual accuracy": accuracy(trained, data.test),
        "gradual validation": accuracy(trained, data.validation),
        "gradual rate": _rate(trained),
        **_cost("gradual", ledger),
    }


def _after(
    step: Step, settings: Settings, data: Dataset, seed: int, dense: nn.Module
) -> dict[str, Any]:
    model = copy.deepcopy(dense)
    weights = [model.get_parameter(name) for name in kernel_weights(model)]
    admm = admm_regime(settings, model, extract_library(weights, settings.library))
    recipe = _recipe(settings, settings.after, fine=True)
    model, first = train(step, model, data, recipe, seed, admm, "admm", settings.batch)
    masked = Masked(kernel_weights(model))
    model, second = train(step, model, data, recipe, seed, masked, "retrain", settings.batch)
    return {
        "after accuracy": accuracy(model, data.test),
        "after validation": accuracy(model, data.validation),
        "after rate": _rate(model),
        **_cost("admm", first),
        **_cost("retrain", second),
    }


def _rate(model: nn.Module) -> float:
    """Pruning rate over the pruned weights, counted."""
    weights = [model.get_parameter(name).detach() for name in kernel_weights(model)]
    return sum(w.numel() for w in weights) / sum(int(w.count_nonzero()) for w in weights)


def _cost(arm: str, ledger: Ledger) -> dict[str, Any]:
    return {
        f"{arm} epochs": len(ledger.rows),
        f"{arm} macs": ledger.macs,
        f"{arm} kept": ledger.kept_macs,
    }


def formula_macs(settings: Settings, model: nn.Module, sample: torch.Tensor, rate: float) -> float:
    """Closed form of the multiply-accumulates of a ClickTrain run with sparse kernels.

    A dense step costs 3F, a step with masks 3Fd, d being the density: F * 3 * examples *
    (e2 + (E - e2) d). d is taken over the pruned layers alone, so this is exact up to the layers
    that are not pruned.

    Args:
        settings: epochs and examples.
        model: for F.
        sample: one input.
        rate: pruning rate, 1 / d.
    """
    per_example = training_macs(model, sample)
    steps = settings.examples // settings.batch * settings.batch
    late = settings.epochs - settings.mask_epoch
    return per_example * steps * (settings.mask_epoch + late / rate)
