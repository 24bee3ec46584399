"""Bit-widths, mixed precision and floats on two kinds of network, all at the same packed size."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import torch_generator
from cofit.data import Dataset, Split, load
from cofit.models import Normalise
from cofit.models.zoo import DIGITS, FASHION
from cofit.regimes import LearnedSteps, Recipe, Regime, Trace
from cofit.reproductions.harness import (
    Outcome,
    Scale,
    Step,
    Study,
    Table,
    accuracy,
    fewer,
    measured,
    seeded,
    train,
)
from cofit.reproductions.single_bitwidth.allocation import (
    at_random,
    by_sensitivity,
    sensitivities,
    zero_degradation,
)
from cofit.reproductions.single_bitwidth.analysis import layer_statistics
from cofit.reproductions.single_bitwidth.claims import claims_of
from cofit.reproductions.single_bitwidth.curves import curve_claims, curve_figure
from cofit.reproductions.single_bitwidth.deployed import pack, unpack
from cofit.reproductions.single_bitwidth.networks import NETWORKS
from cofit.reproductions.single_bitwidth.size import layer_shapes, packed_bytes, width_for

BASE_BITS = 8
"""Bits at which the network of multiplier 1 has the budget's size."""

SENSITIVITY_BITS = 4
"""Uniform bits whose width the allocation by sensitivity is given."""

SENSITIVITY_EXAMPLES = 512
MIXED = ("zero degradation", "sensitivity", "random")


@dataclass(frozen=True)
class Settings:
    """What is trained, and for how long.

    Attributes:
        data: "fashion_mnist" (halved to 14x14) or "digits".
        train, test: images.
        bits: candidates.
        networks: of `NETWORKS`.
        budgets: width multipliers whose 8-bit networks have the sizes that are compared; 1 among
            them, at which mixed precision joins.
        epochs: of every training.
        batch: images per step.
        learning_rate: peak, of SGD.
        activations: bits of the inputs of layers.
    """

    data: str
    train: int
    test: int
    bits: tuple[int, ...]
    networks: tuple[str, ...]
    budgets: tuple[float, ...]
    epochs: int
    batch: int
    learning_rate: float
    activations: int = 8

    @property
    def recipe(self) -> Recipe:
        """The same for every network and bit-width."""
        return Recipe(self.epochs, self.learning_rate)


BOTH = ("plain", "depthwise")
SCALES: Mapping[Scale, Settings] = {
    "smoke": Settings("digits", 192, 200, (1, 2, 4, 8), BOTH, (0.5, 1.0), 1, 32, 0.05),
    "standard": Settings(
        "fashion_mnist", 6000, 10_000, (1, 2, 4, 8), BOTH, (0.5, 1.0), 4, 64, 0.05
    ),
    "full": Settings(
        "fashion_mnist", 58_000, 10_000, (1, 2, 3, 4, 8), BOTH, (0.5, 1.0, 2.0), 30, 128, 0.05
    ),
}
SEEDS: Mapping[Scale, tuple[int, ...]] = {
    "smoke": (0,),
    "standard": (0, 1, 2),
    "full": (0, 1, 2),
}


def run(study: Study[Settings]) -> Outcome:
    """Train every way of spending the budget, from packed files compare what they give."""
    settings = study.settings
    data = _data(settings)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for network in settings.networks:
        rows = found.setdefault(network, {})
        budget = _budget(network, 1.0)
        for seed in study.seeds:
            name = f"{network} float {seed}"
            whole = study.step(name, partial(_float, data, settings, network, seed))
            rows.setdefault("float", []).append(whole)
            for bits in settings.bits:
                work = partial(_single, data, settings, network, seed, budget, bits)
                result = study.step(f"{network} {bits} bit {seed}", work)
                rows.setdefault(f"{bits} bit", []).append(result)
            for kind in MIXED:
                work = partial(_mixed, data, settings, network, seed, budget, kind, whole)
                rows.setdefault(kind, []).append(study.step(f"{network} {kind} {seed}", work))
    curves = {network: _curves(study, data, network, rows) for network, rows in found.items()}
    tables = [_table(network, rows) for network, rows in found.items()]
    tables += [_layers(settings, network, rows["float"][0]) for network, rows in found.items()]
    claims = claims_of(found)
    claims += [claim for name, rows in curves.items() for claim in curve_claims(name, rows)]
    return Outcome(claims, tables, curve_figure(curves))


def _budget(network: str, multiplier: float) -> int:
    return packed_bytes(shapes_at(network, multiplier), BASE_BITS)


def _curves(
    study: Study[Settings], data: Dataset, network: str, rows: Mapping[str, list[dict[str, Any]]]
) -> dict[str, list[list[dict[str, Any]]]]:
    """Results by bit-width and budget; those of budget 1 are there."""
    settings = study.settings

    def trained(bits: int, multiplier: float) -> list[dict[str, Any]]:
        budget = _budget(network, multiplier)
        return [
            study.step(
                f"{network} {bits} bit {seed} {multiplier:g}x",
                partial(_single, data, settings, network, seed, budget, bits),
            )
            for seed in study.seeds
        ]

    return {
        f"{bits} bit": [
            rows[f"{bits} bit"] if multiplier == 1.0 else trained(bits, multiplier)
            for multiplier in settings.budgets
        ]
        for bits in settings.bits
    }


def _data(settings: Settings) -> Dataset:
    data = fewer(load(settings.data), settings.train, settings.test)
    halved = settings.data == "fashion_mnist"
    pixels = FASHION if halved else DIGITS
    parts = [_prepared(p, pixels, halved) for p in (data.train, data.validation, data.test)]
    return replace(data, train=parts[0], validation=parts[1], test=parts[2])


def _prepared(part: Split, pixels: Normalise, halved: bool) -> Split:
    inputs = pixels(part.inputs)
    return Split(F.avg_pool2d(inputs, 2) if halved else inputs, part.targets)


@functools.cache
def shapes_at(network: str, multiplier: float) -> Mapping[str, tuple[int, ...]]:
    """Shapes of a network's weights; the searches for widths ask for the same ones again."""
    return layer_shapes(partial(NETWORKS[network], multiplier))


def _float(
    data: Dataset, settings: Settings, network: str, seed: int, step: Step
) -> dict[str, Any]:
    """The float network of multiplier 1."""
    model = seeded(partial(NETWORKS[network], 1.0), seed, network)
    model, _ = train(
        step, model, data, settings.recipe, seed, Regime(), size=settings.batch, channels_last=False
    )
    shapes = shapes_at(network, 1.0)
    return {
        "accuracy": accuracy(model, data.test),
        "validation": accuracy(model, data.validation),
        "bytes": 4 * sum(p.numel() for n, p in model.named_parameters() if n in shapes),
        "multiplier": 1.0,
        **_work(model, data),
        **{f"state {n}": v.contiguous() for n, v in model.state_dict().items()},
    }


def _single(
    data: Dataset,
    settings: Settings,
    network: str,
    seed: int,
    budget: int,
    bits: int,
    step: Step,
) -> dict[str, Any]:
    """One bit-width at the width that takes the budget."""
    of_layers = dict.fromkeys(shapes_at(network, 1.0), bits)
    multiplier = _multiplier(network, of_layers, budget)
    return _trained(data, settings, network, seed, budget, multiplier, of_layers, step)


def _multiplier(network: str, bits: Mapping[str, int], budget: int) -> float:
    """Width at which a network of these bits takes the budget."""

    def size(multiplier: float) -> int:
        return packed_bytes(shapes_at(network, multiplier), bits)

    return width_for(size, budget).multiplier


def _mixed(
    data: Dataset,
    settings: Settings,
    network: str,
    seed: int,
    budget: int,
    kind: str,
    whole: Mapping[str, Any],
    step: Step,
) -> dict[str, Any]:
    """Bits per layer found on the float network, then the width that takes the budget."""
    build = NETWORKS[network]
    model = build(1.0)
    model.load_state_dict({n: whole[f"state {n}"] for n in model.state_dict()})
    if kind == "zero degradation":
        of_layers = zero_degradation(model, data.validation, settings.bits)
    else:
        uniform = dict.fromkeys(shapes_at(network, 1.0), SENSITIVITY_BITS)
        shapes = shapes_at(network, _multiplier(network, uniform, budget))
        if kind == "random":
            generator = torch_generator(seed, "random bits", network)
            of_layers = at_random(shapes, settings.bits, budget, generator)
        else:
            part = Split(
                data.train.inputs[:SENSITIVITY_EXAMPLES], data.train.targets[:SENSITIVITY_EXAMPLES]
            )
            of_layers = by_sensitivity(sensitivities(model, part, settings.bits), shapes, budget)
    multiplier = _multiplier(network, of_layers, budget)
    return _trained(data, settings, network, seed, budget, multiplier, of_layers, step)


def _trained(
    data: Dataset,
    settings: Settings,
    network: str,
    seed: int,
    budget: int,
    multiplier: float,
    bits: Mapping[str, int],
    step: Step,
) -> dict[str, Any]:
    """Train through rounding, pack, and evaluate the network that the file gives."""
    build = partial(NETWORKS[network], multiplier)
    regime = LearnedSteps(bits, settings.activations)
    model = seeded(build, seed, network)
    model, _ = train(
        step, model, data, settings.recipe, seed, regime, size=settings.batch, channels_last=False
    )
    file = pack(model, regime)
    assert file.payload_bytes == packed_bytes(layer_shapes(build), bits)
    deployed = unpack(file.blob, build)
    return {
        "accuracy": accuracy(deployed, data.test),
        "validation": accuracy(deployed, data.validation),
        "bytes": file.payload_bytes,
        "headers": len(file.blob) - file.payload_bytes,
        "budget": budget,
        "multiplier": multiplier,
        "bits": dict(bits),
        "recipe": {"epochs": settings.epochs, "learning_rate": settings.learning_rate,
                   "batch": settings.batch, "seed": seed, "activations": settings.activations},
        **_work(deployed, data),
    }  # fmt: skip


def _work(model: nn.Module, data: Dataset) -> dict[str, Any]:
    """Multiply-accumulates of one input and the elements of the largest layer input."""
    with torch.no_grad(), Trace(model) as traced:
        model(data.test.inputs[:1])
    return {
        "macs": sum(layer.macs for layer in traced.layers),
        "activations": max(layer.input.size for layer in traced.layers),
    }


def _table(network: str, rows: Mapping[str, list[dict[str, Any]]]) -> Table:
    return Table(
        title=f"{network}: ways to spend the bytes of the 8-bit network",
        columns=("weights", "width", "bytes", "accuracy %", "MACs", "largest activation, bytes"),
        rows=tuple(
            (
                name,
                f"{statistics.fmean(e['multiplier'] for e in entries):.2f}",
                f"{statistics.fmean(e['bytes'] for e in entries):,.0f}",
                measured([100 * e["accuracy"] for e in entries], "").text,
                f"{statistics.fmean(e['macs'] for e in entries):,.0f}",
                f"{statistics.fmean(e['activations'] for e in entries):,.0f}",
            )
            for name, entries in rows.items()
        ),
    )


def _layers(settings: Settings, network: str, whole: Mapping[str, Any]) -> Table:
    """What rounding does to each layer of the float network, first seed."""
    shapes = shapes_at(network, 1.0)
    found = {n: layer_statistics(whole[f"state {n}"], settings.bits) for n in shapes}
    return Table(
        title=f"{network}: layers of the float network, rounded untrained",
        columns=("weight", "fan-in", *(f"SNR at {b} bits, dB" for b in settings.bits),
                 "distinct filters at 1 bit, %"),
        rows=tuple(
            (
                name, str(of.fan_in), *(f"{of.snr_db[b]:.1f}" for b in settings.bits),
                f"{100 * of.distinct:.0f}",
            )
            for name, of in found.items()
        ),
    )  # fmt: skip
