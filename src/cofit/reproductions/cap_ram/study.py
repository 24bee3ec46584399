"""Networks for one CAP-RAM macro, and what they answer on simulated chips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cofit.core import torch_generator
from cofit.data import Dataset, load
from cofit.regimes import LearnedSteps, Recipe
from cofit.reproductions.forms.network import WEIGHTS, LeNet
from cofit.reproductions.harness import Step, Study, accuracy, fewer, seeded, train
from cofit.targets.arrays import (
    CHARGE,
    CURRENT,
    AnalogLayer,
    ArraySpec,
    ChargeMacro,
    InputGrid,
    LineErrors,
    Programmed,
    Residual,
    best_full_scale,
    calibrate,
    capram,
    charge_macro,
    layer_inputs,
    layer_matrix,
    levels_on,
    line_residual,
    on_arrays,
    patches,
    program,
    residual,
)

CALIBRATION = 100
"""Training examples that give the full scales of converters."""

SUMS = 200_000
"""Of a layer, at most, from which its full scale is chosen."""

POOL = 8
"""Chips that noise-aware training draws from, apart from those it is judged on."""


@dataclass(frozen=True)
class Settings:
    """What is trained, for how long.

    Attributes:
        data: name of the data set.
        train: training examples at most.
        test: test examples at most.
        widths: of the network.
        kernel: sides of its convolutions.
        pretrain_epochs: in float.
        quantise_epochs: through rounding, ternary weights and 3-bit activations.
        noise_epochs: on simulated chips, with or without noise.
        chips: on which every network is judged.
        size: examples per batch.
        rate: learning rate of Adam, in float and through rounding.
        noise_rate: on simulated chips.
    """

    data: str
    train: int
    test: int
    widths: tuple[int, int, int]
    kernel: int
    pretrain_epochs: int
    quantise_epochs: int
    noise_epochs: int
    chips: int = 5
    size: int = 64
    rate: float = 1e-3
    noise_rate: float = 1e-3


LAYERS = tuple(name.removesuffix(".weight") for name in WEIGHTS)
Write = Callable[[torch.Tensor, ArraySpec], Programmed]


@dataclass(frozen=True)
class Quantised:
    """A network on the macro's grids.

    Attributes:
        model: weights are scale * level.
        scales: (K,) of each layer's weights.
        grids: of each layer's input.
        accuracy: in exact integers.
    """

    model: LeNet
    scales: dict[str, torch.Tensor]
    grids: dict[str, InputGrid]
    accuracy: float


def dataset(settings: Settings) -> Dataset:
    """The data of a run."""
    return fewer(load(settings.data), settings.train, settings.test)


def network(settings: Settings, data: Dataset) -> LeNet:
    """Freshly initialised."""
    channels, height, width = data.input_shape
    return LeNet((channels, height, width), settings.widths, settings.kernel)


def pretrained(study: Study[Settings], data: Dataset, seed: int) -> tuple[LeNet, float]:
    """The float network of a seed, and its test accuracy."""
    settings = study.settings

    def compute(step: Step) -> dict[str, Any]:
        recipe = Recipe(settings.pretrain_epochs, settings.rate, optimiser="adam")
        start = seeded(lambda: network(settings, data), seed)
        model, _ = train(step, start, data, recipe, seed, size=settings.size)
        return {**model.state_dict(), "accuracy": accuracy(model, data.test)}

    found = study.step(f"pretrained {seed}", compute)
    score = float(found.pop("accuracy"))
    model = network(settings, data)
    model.load_state_dict(found)
    return model.eval(), score


def quantised(study: Study[Settings], data: Dataset, start: LeNet, seed: int) -> Quantised:
    """Ternary weights and 3-bit inputs of every layer, steps learned with the weights."""
    settings = study.settings

    def compute(step: Step) -> dict[str, Any]:
        model: nn.Module = network(settings, data)
        model.load_state_dict(start.state_dict())
        regime = LearnedSteps(dict.fromkeys(WEIGHTS, 2), capram().spec.input_bits)
        recipe = Recipe(settings.quantise_epochs, settings.rate, optimiser="adam")
        model, _ = train(step, model, data, recipe, seed, regime, size=settings.size)
        scales = {f"scale {name}": regime.levels[name].scale for name in WEIGHTS}
        steps = {f"step {name}": regime.inputs[name].step.item() for name in WEIGHTS}
        return {**model.state_dict(), **scales, **steps}

    found = study.step(f"quantised {seed}", compute)
    model = network(settings, data)
    model.load_state_dict({name: found[name] for name in model.state_dict()})
    model.eval()
    scales = {name: found[f"scale {name}.weight"] for name in LAYERS}
    top = (1 << capram().spec.input_bits) - 1
    grids = {name: InputGrid(float(found[f"step {name}.weight"]), 0, top) for name in LAYERS}
    exact = on_macro(model, data, scales, grids, lambda name: program)
    return Quantised(model, scales, grids, accuracy(exact, data.test))


def on_macro(
    model: LeNet,
    data: Dataset,
    scales: Mapping[str, torch.Tensor],
    grids: Mapping[str, InputGrid],
    write: Callable[[str], Write],
    reads: torch.Generator | None = None,
) -> nn.Module:
    """The network with its layers on arrays."""
    samples = data.train.inputs[:CALIBRATION]
    return on_arrays(model, samples, capram().spec, write, scales, grids, reads)


def full_scales(network: Quantised, data: Dataset) -> dict[str, float]:
    """Full scale of the converters for each layer, of least squared error on training examples."""
    exact = on_macro(network.model, data, network.scales, network.grids, lambda name: program)
    layers = {name: exact.get_submodule(name) for name in LAYERS}
    found = {}
    for name, x in layer_inputs(exact, layers, data.train.inputs[:CALIBRATION]).items():
        layer = layers[name]
        assert isinstance(layer, AnalogLayer) and layer.scale is not None
        words = layer.grid.words(x)
        if isinstance(layer.layer, nn.Conv2d):
            words = patches(words, layer.layer)[:, 0].flatten(0, 1)
        matrix = layer_matrix(levels_on(layer.layer.weight, layer.scale, layer.spec))
        rows = max(1, SUMS // matrix.shape[1])
        sums = program(matrix, layer.spec).line_sums(words[:: -(-len(words) // rows)].long())
        found[name] = best_full_scale(sums, capram().converter_bits)
    return found


def chips(seed: int, name: str, line: LineErrors, count: int) -> Iterator[ChargeMacro]:
    """Chips of one kind as they come, each unlike the others."""
    for number in range(count):
        yield charge_macro(capram(), torch_generator(seed, name, number), line)


def written(
    network: Quantised,
    data: Dataset,
    scales: Mapping[str, float],
    macros: Iterable[ChargeMacro],
    seed: int,
    adjusted: bool = True,
) -> Iterator[nn.Module]:
    """The network in each of the chips, as a whole.

    Args:
        network: to be written.
        data: its training part.
        scales: full scale of the converters for each layer.
        macros: empty chips.
        seed: of reads and calibration.
        adjusted: calibrate every chip at the full scale of every layer.
    """
    for number, macro in enumerate(macros):
        reads = torch_generator(seed, "reads", number)

        def write(name: str, macro: ChargeMacro = macro, number: int = number) -> Write:
            def put(matrix: torch.Tensor, spec: ArraySpec) -> Programmed:
                if adjusted:
                    sweep = torch_generator(seed, "sweep", number, name)
                    macro.bank = calibrate(macro, sweep, scales[name]).bank
                return macro.write(matrix, spec, scales[name])

            return put

        yield on_macro(network.model, data, network.scales, network.grids, write, reads)


def accuracies(
    network: Quantised,
    data: Dataset,
    scales: Mapping[str, float],
    macros: Iterable[ChargeMacro],
    seed: int,
    adjusted: bool = True,
) -> list[float]:
    """Test accuracy of the network in each chip; arguments as of `written`."""
    models = written(network, data, scales, macros, seed, adjusted)
    return [accuracy(model, data.test) for model in models]


def tuned_on_chips(
    study: Study[Settings], data: Dataset, network: Quantised, noisy: bool, seed: int
) -> Quantised:
    """Trained further through simulated converters.

    Args:
        study: of the run.
        data: its training part.
        network: where to begin.
        noisy: every pass on another chip, with noise; else one without any error.
        seed: of the run.
    """
    settings = study.settings
    scales = full_scales(network, data)
    label = "noise-aware" if noisy else "noise-free"

    def compute(step: Step) -> dict[str, Any]:
        pool = _calibrated_pool(seed, scales) if noisy else []
        draw = torch_generator(seed, "which chip")

        def write(name: str) -> Write:
            def put(matrix: torch.Tensor, spec: ArraySpec) -> Programmed:
                if not noisy:
                    return program(matrix, spec)
                macro = pool[int(torch.randint(POOL, (), generator=draw))][name]
                blank = replace(macro, cells=torch.zeros_like(macro.cells), used=0)
                return blank.write(matrix, spec, scales[name])

            return put

        reads = torch_generator(seed, "training reads")
        model = on_macro(network.model, data, network.scales, network.grids, write, reads)
        recipe = Recipe(settings.noise_epochs, settings.noise_rate, optimiser="adam",
                        weight_decay=0.0)  # fmt: skip
        train(step, model, data, recipe, seed, size=settings.size, channels_last=False)
        return {name.replace(".layer.", "."): v for name, v in model.state_dict().items()}

    found = study.step(f"{label} {seed}", compute)
    model = with_state(study, data, found)
    exact = on_macro(model, data, network.scales, network.grids, lambda name: program)
    return Quantised(model, network.scales, network.grids, accuracy(exact, data.test))


def _calibrated_pool(seed: int, scales: Mapping[str, float]) -> list[dict[str, ChargeMacro]]:
    """Chips for training, by layer as they are calibrated for it."""
    return [
        {
            name: calibrate(macro, torch_generator(seed, "pool", number, name), scale)
            for name, scale in scales.items()
        }
        for number, macro in enumerate(chips(seed, "training", CHARGE, POOL))
    ]


def with_state(study: Study[Settings], data: Dataset, state: Mapping[str, Any]) -> LeNet:
    """A network with these parameters."""
    model = network(study.settings, data)
    model.load_state_dict(dict(state))
    return model.eval()


def linearity(seed: int) -> dict[str, Residual]:
    """Residuals of a chip that shares charge and of one that discharges, calibrated alike."""
    found = {}
    for name, line in (("charge", CHARGE), ("current", CURRENT)):
        (raw,) = chips(seed, f"{name} linearity", line, 1)
        good = calibrate(raw, torch_generator(seed, name, "sweep"))
        drawn = [torch_generator(seed, name, text) for text in ("raw", "good", "line")]
        found[f"{name}, raw"] = residual(raw, drawn[0])
        found[f"{name}, calibrated"] = residual(good, drawn[1], 10)
        found[f"{name}, line"] = line_residual(good, drawn[2])
    return found
