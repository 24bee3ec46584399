"""A trained network on the crossbars of FORMS, ISAAC, and ISAAC with split signs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cofit.data import Dataset
from cofit.reproductions.forms.network import LeNet
from cofit.reproductions.forms.study import DEFAULT_FRAGMENT, INPUT_BITS, LayerWords, layer_words
from cofit.structures import FixedPoint
from cofit.targets.arrays import (
    CrossbarChip,
    Matrix,
    MatrixCost,
    activity,
    crossbar_chip,
    forms,
    layer_matrix,
    program,
    used_matrix,
)

EXACT = 100
"""Positions of each layer that go through simulated converters."""


def on_crossbars(model: LeNet, data: Dataset) -> dict[str, Any]:
    """Exactness of the converters, and cost of an image.

    Returns:
        "exact": share of outputs equal to those of integers, columns "flipped" or "plain". By chip:
        "energy" (pJ), "parts" of it, "latency" (s) of layers in turn, "array_s" (crossbars times
        the time that each is busy), "mm2_s" (the same in area).
    """
    layers = list(layer_words(model, data).values())
    isaac, small = crossbar_chip("isaac"), forms(DEFAULT_FRAGMENT)
    chips = {
        "isaac": isaac,
        "split": replace(isaac, spec=replace(isaac.spec, scheme="split")),
        "forms": small,
        "forms, no skipping": replace(small, spec=replace(small.spec, skipping=False)),
    }
    return {
        "exact": {
            name: _exact_share(layers, small, flip)
            for name, flip in (("flipped", True), ("plain", False))
        },
        **{name: _image(layers, chip) for name, chip in chips.items()},
    }


def _exact_share(layers: list[LayerWords], chip: CrossbarChip, flip: bool) -> float:
    spec = replace(chip.spec, flip=flip, input_bits=INPUT_BITS)
    right, total = 0, 0
    for layer in layers:
        matrix = layer_matrix(FixedPoint(8).levels(layer.weight).long())
        words = layer.words[:EXACT]
        found = program(matrix, spec, chip.adc).multiply(words, fast=False)
        right += int((found == words @ matrix).sum())
        total += found.numel()
    return right / total


def _image(layers: list[LayerWords], chip: CrossbarChip) -> dict[str, Any]:
    costs = [_layer(layer, chip) for layer in layers]
    parts: dict[str, float] = {}
    for cost in costs:
        for name, energy in (cost.energy_pj or {}).items():
            parts[name] = parts.get(name, 0.0) + energy
    busy = sum(cost.arrays * cost.latency_s for cost in costs)
    return {
        "energy": sum(parts.values()),
        "parts": parts,
        "latency": sum(cost.latency_s for cost in costs),
        "array_s": busy,
        "mm2_s": busy * chip.array_mm2(),
    }


def _layer(layer: LayerWords, chip: CrossbarChip) -> MatrixCost:
    rows, filters = used_matrix(layer.weight, DEFAULT_FRAGMENT)
    matrix = Matrix(rows, filters, layer.positions, input_bits=INPUT_BITS, output_bits=INPUT_BITS)
    words = layer.kept_words()
    assert words.shape[1] == rows
    return chip.cost(matrix, activity(words, chip.spec_for(matrix)))
