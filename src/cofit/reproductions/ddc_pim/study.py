"""The trainings of DDC-PIM: pairs, and what else halves the stored weights."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from cofit.data import Dataset, Split, load
from cofit.ir import Graph, quantise_input, run_integer, trace
from cofit.ir import attributes as at
from cofit.ir.integer.accumulate import conv_sums
from cofit.regimes import PairedGrid, Projected, Recipe
from cofit.regimes.qat import FakeQuantiseWeight
from cofit.reproductions.ddc_pim.array import array_layers
from cofit.reproductions.ddc_pim.cycles import layers_of
from cofit.reproductions.ddc_pim.network import (
    MobileNet,
    Stages,
    make_scales_positive,
    norms,
    paired_weights,
)
from cofit.reproductions.ddc_pim.pairing import match_channels
from cofit.reproductions.ddc_pim.recover import recovered_conv, with_pairs
from cofit.reproductions.harness import Step, Study, accuracy, fewer, seeded, train
from cofit.reproductions.harness.integers import integer_accuracy, quantised
from cofit.structures import Complementary
from cofit.targets.arrays import Layer

CALIBRATION = 200
CHECKED = 4
"""Test examples on which every paired layer is recomputed from its stored words."""


@dataclass(frozen=True)
class Settings:
    """What is trained, for how long.

    Attributes:
        data: name of the data set.
        train: training examples at most.
        test: test examples at most.
        stages: of the network.
        width: multiplies its channels.
        head: channels before its classifier.
        pretrain_epochs: float.
        tune_epochs: through roundings or pairs.
        size: examples per batch.
        rate: learning rate of the pretraining.
        tune_rate: of the fine-tuning.
    """

    data: str
    train: int
    test: int
    stages: Stages
    width: float
    head: int
    pretrain_epochs: int
    tune_epochs: int
    size: int = 64
    rate: float = 0.05
    tune_rate: float = 0.01


def dataset(settings: Settings) -> Dataset:
    """The data of a run."""
    return fewer(load(settings.data), settings.train, settings.test)


def pretrained(study: Study[Settings], data: Dataset, width: float, seed: int) -> MobileNet:
    """The float network of a seed, its normalisation scales positive."""
    settings = study.settings
    channels, height, side = data.input_shape

    def build() -> MobileNet:
        return MobileNet((channels, height, side), settings.stages, width, settings.head)

    def compute(step: Step) -> dict[str, Any]:
        recipe = Recipe(settings.pretrain_epochs, settings.rate, weight_decay=4e-5)
        model, _ = train(step, seeded(build, seed), data, recipe, seed, size=settings.size)
        make_scales_positive(model)
        return dict(model.state_dict()) | {"accuracy": accuracy(model, data.test)}

    found = study.step(f"pretrained {width:.2f} {seed}", compute)
    model = seeded(build, seed)
    model.load_state_dict({k: v for k, v in found.items() if isinstance(v, torch.Tensor)})
    return model.eval()


def rounded(
    study: Study[Settings], data: Dataset, model: MobileNet, bits: int, label: str, seed: int
) -> dict[str, Any]:
    """Fine-tuned through rounding; at 4 bits the layers that would be paired, the others at 8."""
    paired = set(paired_weights(model)) if bits == 4 else set()

    def compute(step: Step) -> dict[str, Any]:
        tuned: nn.Module = copy.deepcopy(model)
        weights = _weights(tuned)
        transforms = {
            name: FakeQuantiseWeight(len(weight), 4 if name in paired else 8)
            for name, weight in weights.items()
        }
        tuned = _tuned(step, study.settings, tuned, data, transforms, seed)
        calibration = data.train.inputs[:CALIBRATION]
        folded = trace(tuned, calibration[:1])
        widths = {op.output: 4 for op, w in folded.weighted() if w.name in paired}
        integer = quantised(folded, calibration, widths)
        stored = sum(
            math.ceil(w.numel() / 2) if n in paired else w.numel() for n, w in weights.items()
        )
        return {"accuracy": integer_accuracy(integer, data.test), "bytes": stored}

    return study.step(f"{label} {seed}", compute)


def paired(
    study: Study[Settings], data: Dataset, model: MobileNet, pairing: str, seed: int
) -> dict[str, Any]:
    """Fine-tuned as complementary pairs, of neighbours as given ("adjacent") or matched.

    Returns:
        "accuracy" in integers, "untrained" of the projection alone, "error" of the projection
        relative to the weights, "bytes" stored, "recovered" layers that stored words reproduce,
        those whose sums come "on array", its "cells" and those of weights of their own.
    """

    def compute(step: Step) -> dict[str, Any]:
        tuned: nn.Module = copy.deepcopy(model)
        names = paired_weights(tuned)
        if pairing == "matched":
            match_channels(tuned, data.train.inputs[:1], names)
        weights = _weights(tuned)
        removed, energy = 0.0, 0.0
        for name in names:
            weight = weights[name].detach().double()
            removed += float((weight - Complementary().project(weight)).square().sum())
            energy += float(weight.square().sum())
        transforms = {
            name: PairedGrid() if name in names else FakeQuantiseWeight(len(weight), 8)
            for name, weight in weights.items()
        }
        shot = copy.deepcopy(tuned)
        with torch.no_grad():
            for name in names:
                weight = shot.get_parameter(name)
                weight.copy_(Complementary().project(weight.detach()))
        untrained = accuracy(shot, data.test)
        tuned = _tuned(step, study.settings, tuned, data, transforms, seed)
        integer, _ = paired_graphs(tuned, data.train.inputs[:CALIBRATION])
        arrays = array_layers(integer, names, data.test, CHECKED)
        stored = sum(w.numel() for n, w in weights.items() if n not in names)
        stored += sum(Complementary().nbytes(tuple(weights[n].shape), 1) for n in names)
        return {
            "accuracy": integer_accuracy(integer, data.test),
            "untrained": untrained,
            "error": removed / energy,
            "bytes": stored,
            "recovered": recovered_layers(integer, names, data.test),
            "on array": sum(layer.exact for layer in arrays),
            "cells": sum(layer.cells for layer in arrays),
            "plain cells": sum(layer.plain_cells for layer in arrays),
            "layers": len(names),
        }

    return study.step(f"pairs {pairing} {seed}", compute)


def paired_graphs(model: nn.Module, calibration: torch.Tensor) -> tuple[Graph, Graph]:
    """Integer and folded float graph of a network trained on the grids of pairs."""
    folded = trace(model, calibration[:1])
    gains = {}
    for name, norm in norms(model).items():
        assert norm.running_var is not None
        gains[name] = (
            norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        ).detach()
    weights = {name: model.get_parameter(name).detach() for name in paired_weights(model)}
    return with_pairs(quantised(folded, calibration), folded, weights, gains), folded


def recovered_layers(integer: Graph, names: tuple[str, ...], split: Split) -> int:
    """Paired layers whose accumulators stored words reproduce to the bit, on real activations."""
    stored = quantise_input(integer, split.inputs[:CHECKED].numpy())
    values = run_integer(integer, {integer.inputs[0]: stored}, keep=True)
    values[integer.inputs[0]] = stored
    right = 0
    for op, weight in integer.weighted():
        if weight.name not in names:
            continue
        conv, grid = op.attributes, integer.tensors[op.inputs[0]].quantisation
        assert isinstance(conv, at.Conv2d) and grid is not None and weight.data is not None
        x = values[op.inputs[0]]
        shape = {"stride": conv.stride, "padding": conv.padding, "groups": conv.groups}
        encoding = Complementary().encode(np.asarray(weight.data))
        found = recovered_conv(x, encoding, zero_point=grid.zero_point, **shape)  # type: ignore[arg-type]
        wanted = conv_sums(x, weight.data, input_offset=-grid.zero_point, **shape)  # type: ignore[arg-type]
        right += np.array_equal(found, wanted)
    return right


def geometry(model: nn.Module, data: Dataset) -> list[Layer]:
    """The network's convolutions for the cycle model."""
    return layers_of(trace(model, data.train.inputs[:1]), paired_weights(model))


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.dim() > 1}


def _tuned(
    step: Step,
    settings: Settings,
    model: nn.Module,
    data: Dataset,
    transforms: dict[str, Any],
    seed: int,
) -> nn.Module:
    recipe = Recipe(settings.tune_epochs, settings.tune_rate, weight_decay=4e-5)
    regime = Projected(transforms)
    return train(step, model, data, recipe, seed, regime, "tuning", settings.size)[0]
