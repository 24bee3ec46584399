"""One dense network, and the sparse ones made of it at equal density and in equal epochs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cofit.core import torch_generator
from cofit.data import Dataset, load
from cofit.models import model as known_model
from cofit.models.plain import ConvNet
from cofit.regimes import Masked, PatternADMM, Recipe, Regime, RegimeStack, bisect
from cofit.reproductions.harness import (
    Step,
    accuracy,
    fewer,
    kernel_weights,
    normalised,
    seeded,
    train,
)
from cofit.structures import (
    ALL_CENTRED,
    ALL_OF_FOUR,
    Channel,
    Connectivity,
    Pattern,
    PatternLibrary,
    Structure,
    Unstructured,
    extract_library,
)
from cofit.structures.counting import observed_rate

PATTERN_RATE = 2.25
"""Nine positions to four."""


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        data: name of the data set.
        entry: name of the network whose normalisation the data set takes.
        examples: training examples.
        widths: of the network, two 3x3 convolutions each.
        batch: examples per step.
        dense_epochs: of the dense network that all start from.
        stage_epochs: of each of the four stages of ADMM; the others train as long, masked.
        retrain_epochs: with masks.
        connectivity: kernels over kept kernels.
        sizes: of the libraries after the 56 patterns of the first stage.
        rho: of the first stage.
        learning_rate: of the dense network.
        fine_rate: of ADMM, and again of retraining.
        layer: channels and side of the layer that is timed alone.
        peers: whether other runtimes are timed.
    """

    data: str = "fashion_mnist"
    entry: str = "convnet"
    examples: int = 6000
    widths: tuple[int, ...] = (16, 32, 64)
    batch: int = 32
    dense_epochs: int = 4
    stage_epochs: int = 1
    retrain_epochs: int = 4
    connectivity: float = 3.6
    sizes: tuple[int, ...] = (32, 16, 8)
    rho: float = 1e-2
    learning_rate: float = 0.1
    fine_rate: float = 0.02
    layer: tuple[int, int] = (64, 56)
    peers: bool = True

    @property
    def rate(self) -> float:
        """Of patterns and connectivity together."""
        return PATTERN_RATE * self.connectivity

    @property
    def admm_epochs(self) -> int:
        """Of all stages."""
        return self.stage_epochs * (len(self.sizes) + 1)


Prune = Callable[[nn.Module, Settings, int], None]


def dataset(settings: Settings) -> Dataset:
    """The data as the network takes them."""
    entry = known_model(settings.entry)
    return normalised(fewer(load(settings.data), settings.examples), entry.preprocess)


def network(settings: Settings, data: Dataset, seed: int) -> ConvNet:
    """A fresh network."""
    channels = data.input_shape[0]
    return seeded(
        lambda: ConvNet(channels=channels, classes=len(data.classes), widths=settings.widths), seed
    )


def joint(settings: Settings, library: PatternLibrary) -> Pattern:
    """Connectivity and pattern in one, as a program stores them."""
    return Pattern(library, 1, settings.rate)


def compare(step: Step, settings: Settings, data: Dataset, seed: int) -> dict[str, Any]:
    """All networks of one seed; what a `Step` stores."""
    dense, _ = train(
        step, network(settings, data, seed), data,
        Recipe(settings.dense_epochs, settings.learning_rate), seed, None, "dense", settings.batch,
    )  # fmt: skip
    found: dict[str, Any] = {}
    for arm, prune in PRUNINGS.items():
        model = copy.deepcopy(dense)
        prune(model, settings, seed)
        found[f"{arm} hardened"] = accuracy(model, data.validation)
        masked = [Masked(kernel_weights(model)) if arm != "dense" else Regime() for _ in range(2)]
        for phase, regime in zip(("first", "second"), masked, strict=True):
            model = _phase(step, settings, data, seed, model, regime, arm, phase)
        found |= _results(arm, model, data)
    return found | _by_admm(step, settings, data, seed, dense)


def _by_admm(
    step: Step, settings: Settings, data: Dataset, seed: int, dense: nn.Module
) -> dict[str, Any]:
    model = copy.deepcopy(dense)
    sets: tuple[Structure, ...] = (
        Connectivity(settings.connectivity),
        Pattern(ALL_CENTRED, 1, PATTERN_RATE),
    )
    admm = PatternADMM(
        dict.fromkeys(kernel_weights(model), sets),
        settings.sizes,
        rho=settings.rho,
        stage_epochs=settings.stage_epochs,
    )
    gap = Gap(admm)
    stack = RegimeStack([gap, admm])
    model = _phase(step, settings, data, seed, model, stack, "admm", "first")
    found = {"admm hardened": accuracy(model, data.validation), "gap": gap.value}
    masked = Masked(kernel_weights(model))
    model = _phase(step, settings, data, seed, model, masked, "admm", "second")
    weights = {f"weight {name}": value for name, value in model.state_dict().items()}
    structure = joint(settings, admm.library).text
    return {**found, **_results("admm", model, data), "structure": structure, **weights}


class Gap(Regime):
    """Reads the gap of an ADMM when training has ended, before it hardens."""

    def __init__(self, admm: PatternADMM) -> None:
        self.value = 1.0
        self._admm = admm

    def finalize(self, model: nn.Module) -> nn.Module:
        """Read; stands before the ADMM in its stack."""
        self.value = self._admm.gap()
        return model


def _phase(
    step: Step, settings: Settings, data: Dataset, seed: int, model: nn.Module, regime: Regime,
    arm: str, phase: str,
) -> nn.Module:  # fmt: skip
    epochs = settings.admm_epochs if phase == "first" else settings.retrain_epochs
    recipe = Recipe(epochs, settings.fine_rate)
    trained, _ = train(step, model, data, recipe, seed, regime, f"{arm} {phase}", settings.batch)
    return trained


def _results(arm: str, model: nn.Module, data: Dataset) -> dict[str, Any]:
    weights = [model.get_parameter(name).detach() for name in kernel_weights(model)]
    kept = sum(int(weight.count_nonzero()) for weight in weights)
    return {
        f"{arm} accuracy": accuracy(model, data.test),
        f"{arm} validation": accuracy(model, data.validation),
        f"{arm} rate": sum(weight.numel() for weight in weights) / kept,
    }


def _nothing(model: nn.Module, settings: Settings, seed: int) -> None:
    """Train on."""


def _one_shot(model: nn.Module, settings: Settings, seed: int) -> None:
    """Patterns of the trained network's own library, by magnitude (PatDNN's cheaper variant)."""
    weights = _weights(model)
    library = extract_library(weights.values(), settings.sizes[-1])
    _project(weights, dict.fromkeys(weights, joint(settings, library)))


def _unstructured(model: nn.Module, settings: Settings, seed: int) -> None:
    """The largest weights of each layer, as many as patterns keep."""
    weights = _weights(model)
    rates = {n: observed_rate(w.numel(), 4 * _kept(w, settings)) for n, w in weights.items()}
    _project(weights, {name: Unstructured(rate) for name, rate in rates.items()})


def _random(model: nn.Module, settings: Settings, seed: int) -> None:
    """Each kernel gets a pattern of a random library at random; the largest results stay."""
    generator = torch_generator(seed, "random patterns")
    size = settings.sizes[-1]
    chosen = torch.randperm(len(ALL_OF_FOUR.masks), generator=generator)[:size].tolist()
    bits = PatternLibrary(tuple(ALL_OF_FOUR.masks[i] for i in chosen)).bits()
    kernels = Connectivity(settings.connectivity)
    for weight in _weights(model).values():
        which = torch.randint(size, weight.shape[:2], generator=generator)
        shaped = torch.where(bits[which].reshape(weight.shape), weight, 0.0)
        weight.copy_(kernels.project(shaped))


def _filters(model: nn.Module, settings: Settings, seed: int) -> None:
    """Whole filters, and in the next layer the kernels that read them, at equal density.

    One rate for all layers, the least that leaves no more weights than patterns do.
    """
    weights = _weights(model)
    wanted = sum(4 * _kept(weight, settings) for weight in weights.values())

    def left(rate: float) -> float:
        return float(sum(int(mask.sum()) for mask in _filter_masks(weights, rate).values()))

    rate = bisect(left, wanted, 1.0, settings.rate)
    for name, mask in _filter_masks(weights, rate).items():
        weights[name].masked_fill_(~mask, 0.0)


def _filter_masks(weights: Mapping[str, torch.Tensor], rate: float) -> dict[str, torch.Tensor]:
    masks: dict[str, torch.Tensor] = {}
    read = None
    for name, weight in weights.items():
        outputs = Channel(rate).mask(weight)
        masks[name] = outputs if read is None else outputs & read[None, :, None, None]
        read = outputs[:, 0, 0, 0]
    return masks


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: model.get_parameter(name).detach() for name in kernel_weights(model)}


def _kept(weight: torch.Tensor, settings: Settings) -> int:
    return Connectivity(settings.connectivity).kept(tuple(weight.shape))


def _project(weights: Mapping[str, torch.Tensor], structures: Mapping[str, Structure]) -> None:
    for name, structure in structures.items():
        weights[name].copy_(structure.project(weights[name]))


PRUNINGS: dict[str, Prune] = {
    "dense": _nothing,
    "one-shot": _one_shot,
    "random": _random,
    "unstructured": _unstructured,
    "filters": _filters,
}
"""What is done to the dense network at once, by arm; each is then trained in the same epochs."""
