"""The run: train every compression, price it on every platform, calibrate, cross-check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from cofit.data import Dataset, load
from cofit.ir import Graph, trace
from cofit.regimes import Masked, Recipe
from cofit.reproductions.fpga_vs_mobile import anchors, host
from cofit.reproductions.fpga_vs_mobile.network import VGG, plain
from cofit.reproductions.harness import (
    Step,
    Study,
    accuracy,
    fewer,
    kernel_weights,
    seeded,
    train,
)
from cofit.structures import parse
from cofit.targets.platforms import (
    PRUNED_SHARE,
    Entry,
    LayerWork,
    entry,
    parameters,
    works_of,
)

Results = dict[str, Any]
FPGAS = ("zcu102", "zc706", "pynq-z1")
PHONES = ("snapdragon-855", "snapdragon-865")
PLATFORMS = (*FPGAS, *PHONES, "cortex-m7-board")


@dataclass(frozen=True)
class Variant:
    """A compression: a precision, or zeros in a structure at fp32.

    Attributes:
        precision: of all layers.
        scheme: of zeros, as `cofit.targets.platforms.SCHEMES`.
        structure: of the 3x3 kernels but the first, as text; none for dense.
    """

    precision: str = "fp32"
    scheme: str = "none"
    structure: str | None = None


VARIANTS = {
    "fp32": Variant(),
    "int8": Variant("int8"),
    "int4": Variant("int4"),
    "ternary": Variant("ternary"),
    "binary": Variant("binary"),
    "block 4x": Variant("fp32", "block", "block16x1@4"),
    "block 8x": Variant("fp32", "block", "block16x1@8"),
    "small block 4x": Variant("fp32", "block", "block4x4@4"),
    "pattern 8x": Variant("fp32", "pattern", "pattern8g4@8"),
    "unstructured 8x": Variant("fp32", "unstructured", "unstructured@8"),
}
LOW = ("ternary", "binary")
BLOCKS = tuple(name for name, variant in VARIANTS.items() if variant.scheme == "block")


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        data: name of the data set.
        train, test: examples at most.
        widths: of the network.
        epochs: of the dense network.
        tune_epochs: of every variant, from the dense network; the dense one has as many more.
        calibration: layers that this CPU is calibrated on.
        asked: other layers that it is asked about.
        draws: of the Monte Carlo.
        variants: of `VARIANTS` that are trained.
        layer: channels and side of the 3x3 layer that pruned kernels are timed on.
        size: examples per batch.
        rate: learning rate of the dense network; a fifth of it when tuning.
    """

    data: str
    train: int
    test: int
    widths: tuple[int, ...]
    epochs: int
    tune_epochs: int
    calibration: int
    asked: int
    draws: int
    variants: tuple[str, ...]
    layer: tuple[int, int]
    rate: float = 0.05
    size: int = 64


def images(settings: Settings) -> Dataset:
    """The data of a scale."""
    return fewer(load(settings.data), settings.train, settings.test)


def network(settings: Settings, data: Dataset, precision: str) -> VGG:
    """A fresh network at a precision."""
    return VGG(data.input_shape[0], len(data.classes), settings.widths, precision)


def dense(study: Study[Settings], data: Dataset, seed: int) -> Results:
    """Weights of the dense network that all variants start from."""
    settings = study.settings

    def compute(step: Step) -> Results:
        model = seeded(lambda: network(settings, data, "fp32"), seed)
        recipe = Recipe(settings.epochs, settings.rate)
        trained, _ = train(step, model, data, recipe, seed, size=settings.size)
        return dict(trained.state_dict())

    return study.step(f"dense seed {seed}", compute)


def tuned(study: Study[Settings], data: Dataset, start: Results, name: str, seed: int) -> Results:
    """A variant trained from the dense network: its weights and test accuracy."""
    settings, variant = study.settings, VARIANTS[name]

    def compute(step: Step) -> Results:
        model = network(settings, data, variant.precision)
        model.load_state_dict(start)
        names = kernel_weights(model)
        regime = None
        if variant.structure is not None:
            structure = parse(variant.structure)
            with torch.no_grad():
                for each in names:
                    weight = model.get_parameter(each)
                    weight.copy_(structure.project(weight.detach()))
            regime = Masked(names)
        recipe = Recipe(settings.tune_epochs, settings.rate / 5)
        found, _ = train(step, model, data, recipe, seed, regime, size=settings.size)
        return {**dict(found.state_dict()), "accuracy": accuracy(found, data.test)}

    return study.step(f"{name} seed {seed}", compute)


def _layers(settings: Settings, data: Dataset, found: Results) -> tuple[Graph, nn.Module]:
    """Graph and module of the layers of a trained variant, in fp32."""
    model = network(settings, data, "fp32")
    model.load_state_dict({key: found[key] for key in model.state_dict()})
    plain(model.eval())
    return trace(model, data.train.inputs[:1], "vgg"), model


def works(settings: Settings, data: Dataset, name: str, found: Results) -> tuple[LayerWork, ...]:
    """What a trained variant asks of a platform, its zeros as they really lie."""
    variant = VARIANTS[name]
    graph, model = _layers(settings, data, found)
    kept = {}
    if variant.structure is not None:
        for each in kernel_weights(model):
            kept[each] = (model.get_parameter(each) != 0).numpy()
    return works_of(graph, variant.precision, variant.scheme, kept)


def shares(settings: Settings, _: Step) -> Results:
    """Share of the ideal speed-up that our kernels of pruned layers reach on this CPU."""
    pruned = {n: VARIANTS[n].structure for n in settings.variants if VARIANTS[n].structure}
    found = host.speedups([text for text in pruned.values() if text], *settings.layer)
    return {
        name: {"ratio": ratio, "ideal": ideal, "share": min(1.0, ratio / ideal)}
        for name, (ratio, ideal) in zip(pruned, found, strict=True)
    }


def host_errors(settings: Settings, step: Step) -> Results:
    """Errors of this CPU's calibrated model on layers that it was not calibrated on."""
    seen = host.random_shapes(settings.calibration, 0)
    asked = host.random_shapes(settings.asked, 1)
    seconds = host.measure([*seen, *asked])
    model = host.calibrate_host(seen, seconds[: len(seen)])
    step.progress("layers", len(seconds), len(seconds))
    return {
        "errors": host.errors(model, asked, seconds[len(seen) :]),
        "kinds": [shape.kind for shape in asked],
    }


def anchored(_: Step) -> Results:
    """An FPGA calibrated on the first rows of the measured table, and what it says of the rest."""
    rows = range(len(anchors.ANCHORS))
    found = anchors.calibrated(parameters("zc706"), rows[: anchors.CALIBRATED_ON])
    predicted = [anchors.predicted_ms(found, row) for row in rows]
    return {
        "predicted_ms": predicted,
        "clock_hz": found["fabric.clock"],
        "bandwidth": found["board.bandwidth"],
        "power_w": found["board.board_power"],
    }


def entries(
    study: Study[Settings],
    data: Dataset,
    found: Mapping[str, Results],
    accuracies: Mapping[str, float],
    measured: Results,
) -> dict[tuple[str, str], Entry]:
    """Every variant on every platform; phones get the speed-ups measured on this CPU."""
    table = {}
    for name in found:
        variant = VARIANTS[name]
        asked = works(study.settings, data, name, found[name])
        share = dict(PRUNED_SHARE)
        if variant.structure is not None:
            share[variant.scheme] = measured[name]["share"]
        for platform in PLATFORMS:
            table[name, platform] = entry(
                f"{name} on {platform}", parameters(platform), asked, accuracies[name],
                study.settings.draws, share,
            )  # fmt: skip
    return table


def run_steps(study: Study[Settings]) -> Results:
    """Everything, step by step; prices are those of the first seed's networks."""
    data = images(study.settings)
    seeds = []
    for seed in study.seeds:
        start = dense(study, data, seed)
        seeds.append(
            {name: tuned(study, data, start, name, seed) for name in study.settings.variants}
        )
    accuracies = {
        name: [100 * float(found[name]["accuracy"]) for found in seeds]
        for name in study.settings.variants
    }
    mean = {name: sum(values) / len(values) for name, values in accuracies.items()}
    measured = study.step("pruned layers", partial(shares, study.settings))
    return {
        "accuracies": accuracies,
        "shares": measured,
        "entries": entries(study, data, seeds[0], mean, measured),
        "host": study.step("this CPU", partial(host_errors, study.settings)),
        "anchors": study.step("measured table", anchored),
    }
