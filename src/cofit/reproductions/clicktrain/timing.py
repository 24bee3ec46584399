"""Seconds of one training step in every phase, measured in turn on equal networks and batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from cofit.data import Dataset
from cofit.regimes import Context, Masked, Recipe, Regime
from cofit.reproductions.clicktrain.arms import admm_regime, click_regime, one_shot
from cofit.reproductions.clicktrain.settings import Settings, network
from cofit.reproductions.harness import kernel_weights
from cofit.structures import CORNERS

PHASES = ("dense", "lasso", "masked", "admm")


def step_seconds(settings: Settings, data: Dataset, rounds: int) -> dict[str, float]:
    """Median seconds of a step: plain, with the group lasso, with masks, with ADMM's penalty.

    Args:
        settings: network and batch size.
        data: the first batch is taken.
        rounds: steps of each phase, one after the other.
    """
    x = data.train.inputs[: settings.batch].contiguous(memory_format=torch.channels_last)
    y = data.train.targets[: settings.batch]
    steps = {phase: _stepper(_prepared(phase, settings, data, x), x, y) for phase in PHASES}
    for step in steps.values():
        step()
    found: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for _ in range(rounds):
        for phase, step in steps.items():
            started = time.perf_counter()
            step()
            found[phase].append(time.perf_counter() - started)
    return {phase: statistics.median(seconds) for phase, seconds in found.items()}


def run_seconds(settings: Settings, seconds: dict[str, float]) -> dict[str, float]:
    """Seconds per step of an epoch, summed over the epochs of each arm."""
    dense = settings.epochs * seconds["dense"]
    click = (
        settings.lasso_epoch * seconds["dense"]
        + (settings.mask_epoch - settings.lasso_epoch) * seconds["lasso"]
        + (settings.epochs - settings.mask_epoch) * seconds["masked"]
    )
    after = dense + settings.after * (seconds["admm"] + seconds["masked"])
    return {"dense": dense, "click": click, "after": after}


def _prepared(
    phase: str, settings: Settings, data: Dataset, x: torch.Tensor
) -> tuple[nn.Module, Regime]:
    model: nn.Module = network(settings, data, 0)
    model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    regime: Regime
    match phase:
        case "dense":
            regime = Regime()
        case "lasso":
            regime = click_regime(settings, model)
        case "masked":
            one_shot(settings, model)
            regime = Masked(kernel_weights(model))
        case _:
            regime = admm_regime(settings, model, CORNERS)
    regime.attach(model, x)
    if phase == "lasso":
        _choose(model, regime, settings, x, data.train.targets[: len(x)])
    return model, regime


def _choose(
    model: nn.Module, regime: Regime, settings: Settings, x: torch.Tensor, y: torch.Tensor
) -> None:
    regime.on_epoch(settings.lasso_epoch)
    for _ in range(settings.batches):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        regime.after_backward()


def _stepper(
    prepared: tuple[nn.Module, Regime], x: torch.Tensor, y: torch.Tensor
) -> Callable[[], None]:
    model, regime = prepared
    optimiser = Recipe(1, 1e-6).build(model, regime.param_groups())

    def step() -> None:
        outputs = model(x)
        parts = [F.cross_entropy(outputs, y), *regime.loss(Context(0, x, y, outputs)).values()]
        optimiser.zero_grad()
        torch.stack(parts).sum().backward()
        regime.after_backward()
        optimiser.step()
        regime.after_step()

    return step
