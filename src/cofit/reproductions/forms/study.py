"""The trainings of FORMS and what is counted on their results."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import torch_generator
from cofit.data import Dataset, load
from cofit.ir import calibrate, trace
from cofit.regimes import ADMM, Held, Recipe
from cofit.reproductions.forms.network import WEIGHTS, LeNet, Rates, layer_sets
from cofit.reproductions.forms.variation import varied
from cofit.reproductions.harness import Step, Study, accuracy, fewer, seeded, train
from cofit.reproductions.harness.integers import integer_accuracy, quantised
from cofit.structures import Polarised, Structure
from cofit.targets.arrays import (
    Crossbar,
    input_cycles,
    layer_inputs,
    layer_matrix,
    patches,
    used_matrix,
)

CALIBRATION = 200
"""Training examples that give the ranges of activations."""

DEFAULT_FRAGMENT = 8
INPUT_BITS = 16
POSITIONS = 2000
"""Rows of the input matrix of a layer on which cycles are counted."""


@dataclass(frozen=True)
class Settings:
    """What is trained, for how long.

    Attributes:
        data: name of the data set.
        train: training examples at most.
        test: test examples at most.
        widths: of the network.
        kernel: sides of its convolutions.
        pretrain_epochs: dense.
        stage_epochs: of each of three ADMM stages.
        tune_epochs: with signs and supports fixed.
        rates: pruning of filters and row groups, by weight.
        fragments: rows per fragment.
        draws: chips of the study of variation.
        size: examples per batch.
        rate: learning rate of Adam; half of it in the last fine-tuning.
    """

    data: str
    train: int
    test: int
    widths: tuple[int, int, int]
    kernel: int
    pretrain_epochs: int
    stage_epochs: int
    tune_epochs: int
    rates: Rates
    fragments: tuple[int, ...] = (4, 8, 16)
    draws: int = 50
    size: int = 64
    rate: float = 1e-3


STAGES = 3
SIGMA = 0.1


def dataset(settings: Settings) -> Dataset:
    """The data of a run."""
    return fewer(load(settings.data), settings.train, settings.test)


def variant(fragment: int | None) -> str:
    """Name of a compressed network."""
    return "pruned int8" if fragment is None else f"polarised {fragment}"


def pretrained(study: Study[Settings], data: Dataset, seed: int) -> LeNet:
    """The dense network of a seed."""
    settings = study.settings
    channels, height, width = data.input_shape

    def build() -> LeNet:
        return LeNet((channels, height, width), settings.widths, settings.kernel)

    def compute(step: Step) -> dict[str, Any]:
        recipe = Recipe(settings.pretrain_epochs, settings.rate, optimiser="adam")
        model, _ = train(step, seeded(build, seed), data, recipe, seed, size=settings.size)
        return dict(model.state_dict())

    model = seeded(build, seed)
    model.load_state_dict(study.step(f"pretrained {seed}", compute))
    return model.eval()


def dense_accuracy(study: Study[Settings], data: Dataset, dense: LeNet, seed: int) -> float:
    """Test accuracy of the dense network after as many epochs as the compressed ones had."""
    settings = study.settings

    def compute(step: Step) -> dict[str, Any]:
        epochs = STAGES * settings.stage_epochs + settings.tune_epochs
        model, _ = train(
            step, copy.deepcopy(dense), data, Recipe(epochs, settings.rate, optimiser="adam"), seed,
            size=settings.size,
        )  # fmt: skip
        return {"accuracy": accuracy(model, data.test)}

    return float(study.step(f"dense {seed}", compute)["accuracy"])


def compressed(
    study: Study[Settings], data: Dataset, dense: LeNet, fragment: int | None, seed: int
) -> dict[str, Any]:
    """ADMM into the sets, hard projection, fine-tuning within them; accuracy and counts.

    Returns:
        "accuracy" in integers, the weights by name, and what `counts` gives.
    """
    settings = study.settings
    sets = layer_sets(settings.rates, fragment)

    def compute(step: Step) -> dict[str, Any]:
        model: nn.Module = copy.deepcopy(dense)
        admm = ADMM(sets, rho=1e-3, growth=10.0, stages=STAGES, stage_epochs=settings.stage_epochs)
        epochs = STAGES * settings.stage_epochs
        model, _ = train(
            step, model, data, Recipe(epochs, settings.rate, optimiser="adam"), seed, admm, "admm",
            settings.size,
        )  # fmt: skip
        model = tuned(step, settings, model, data, sets, settings.tune_epochs, seed)
        return _evaluated(model, data)

    return study.step(f"{variant(fragment)} {seed}", compute)


def one_shot(
    study: Study[Settings], data: Dataset, dense: LeNet, fragment: int, seed: int
) -> dict[str, Any]:
    """Projection of the dense network, then fine-tuning for as many epochs as ADMM has in all."""
    settings = study.settings
    sets = layer_sets(settings.rates, fragment)

    def compute(step: Step) -> dict[str, Any]:
        model = copy.deepcopy(dense)
        with torch.no_grad():
            for name, structures in sets.items():
                weight = model.get_parameter(name)
                for structure in structures:
                    weight.copy_(structure.project(weight.detach()))
        before = accuracy(model, data.test)
        epochs = STAGES * settings.stage_epochs + settings.tune_epochs
        found = tuned(step, settings, model, data, sets, epochs, seed)
        return _evaluated(found, data) | {"untrained": before}

    return study.step(f"one-shot {fragment} {seed}", compute)


def tuned(
    step: Step,
    settings: Settings,
    model: nn.Module,
    data: Dataset,
    sets: Mapping[str, Sequence[Structure]],
    epochs: int,
    seed: int,
) -> nn.Module:
    """Fine-tuned with every fragment's sign and every support as they are."""
    recipe = Recipe(epochs, settings.rate / 2, optimiser="adam")
    return train(step, model, data, recipe, seed, Held(sets), "held", settings.size)[0]


def _evaluated(model: nn.Module, data: Dataset) -> dict[str, Any]:
    calibration = data.train.inputs[:CALIBRATION]
    graph = quantised(trace(model, calibration[:1]), calibration)
    weights = {name: model.get_parameter(name).detach() for name in WEIGHTS}
    biases = {n: p.detach() for n, p in model.named_parameters() if n not in WEIGHTS}
    return {"accuracy": integer_accuracy(graph, data.test), **weights, **biases}


def crossbar_counts(weights: dict[str, torch.Tensor], geometry: Crossbar) -> dict[str, Any]:
    """Cells and crossbars of a network against the 32-bit split mapping of the dense one.

    Returns:
        "pruning": dense over stored weights. "cells": the ratio of cells. "baseline" and
        "crossbars": whole ones, every layer in its own.
    """
    stored = dense = baseline = polarised = split = 0
    for weight in weights.values():
        rows, filters = used_matrix(weight, DEFAULT_FRAGMENT)
        stored += rows * filters
        dense += weight.numel()
        baseline += geometry.count(weight[0].numel(), len(weight), 32, "split")
        polarised += geometry.count(rows, filters, 8, "polarised")
        split += geometry.count(rows, filters, 8, "split")
    cells = geometry.cells(32, "split") * dense, geometry.cells(8, "polarised") * stored
    return {
        "pruning": dense / stored, "cells": cells[0] / cells[1],
        "baseline": baseline, "crossbars": polarised, "split": split,
    }  # fmt: skip


def accuracy_under_variation(
    study: Study[Settings], data: Dataset, model: LeNet, seed: int
) -> list[float]:
    """Test accuracy of one chip after the other."""
    name = variant(DEFAULT_FRAGMENT)

    def compute(step: Step) -> dict[str, Any]:
        found = []
        for draw in range(study.settings.draws):
            chip = copy.deepcopy(model)
            generator = torch_generator(seed, "variation", draw)
            with torch.no_grad():
                for weight in (chip.get_parameter(name) for name in WEIGHTS):
                    weight.copy_(varied(weight.detach(), SIGMA, generator))
            found.append(accuracy(chip, data.test))
            step.progress("chips", draw + 1, study.settings.draws)
        return {"accuracies": found}

    return list(study.step(f"variation {name} {seed}", compute)["accuracies"])


@dataclass(frozen=True)
class LayerWords:
    """What enters a layer, as a crossbar is driven.

    Attributes:
        weight: of the layer.
        words: (P, N) 16-bit integers at some of its positions, rows with channels fastest.
        positions: that an image has.
        kept: (G,) groups of 8 rows that hold a weight.
    """

    weight: torch.Tensor
    words: torch.Tensor
    positions: int
    kept: torch.Tensor

    def kept_words(self) -> torch.Tensor:
        """The words of rows in groups that are stored."""
        each = self.kept.repeat_interleave(DEFAULT_FRAGMENT)[: self.words.shape[1]]
        return self.words[:, each]


def layer_words(model: LeNet, data: Dataset) -> dict[str, LayerWords]:
    """Inputs of all layers on test examples; full scale is the largest value seen in training."""
    graph = trace(model, data.train.inputs[:1])
    ranges = calibrate(graph, [data.train.inputs[:CALIBRATION]])
    images = data.test.inputs[:CALIBRATION]
    found = {}
    layers = {name: model.get_submodule(name.removesuffix(".weight")) for name in WEIGHTS}
    for name, x in layer_inputs(model, layers, images).items():
        layer, weight = layers[name], model.get_parameter(name).detach()
        source = next(op.inputs[0] for op, w in graph.weighted() if w.name == name)
        step = ranges.upper[source] / (2**INPUT_BITS - 1)
        rows = patches(x, layer)[:, 0].flatten(0, 1) if isinstance(layer, nn.Conv2d) else x
        stride = math.ceil(len(rows) / POSITIONS)
        levels = (rows[::stride] / step).round().clamp(0, 2**INPUT_BITS - 1).long()
        stored = layer_matrix(weight != 0).any(1)
        padded = F.pad(stored, (0, -len(stored) % DEFAULT_FRAGMENT))
        kept = padded.reshape(-1, DEFAULT_FRAGMENT).any(1)
        found[name] = LayerWords(weight, levels, len(rows) // len(images), kept)
    return found


def mean_cycles(model: LeNet, data: Dataset, m: int) -> float:
    """Mean effective input cycles of groups of `m` rows over the pruned network's layers.

    A layer counts as often as it has positions and kept row groups.
    """
    cycles, groups = 0.0, 0
    for layer in layer_words(model, data).values():
        stored = layer_matrix(layer.weight != 0).any(1)
        used = F.pad(stored, (0, -len(stored) % m)).reshape(-1, m).any(1)
        found = input_cycles(layer.words, m)[:, used]
        cycles += float(found.double().mean(0).sum()) * layer.positions
        groups += found.shape[1] * layer.positions
    return cycles / groups


def is_polarised(weights: dict[str, torch.Tensor], m: int) -> bool:
    """Whether no fragment of any weight holds both signs."""
    return all(Polarised(m).check(weight) is None for weight in weights.values())
