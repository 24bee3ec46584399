"""One trained network, driven into every structure at one pruning rate in equal epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from cofit.core import derive_seed, torch_generator
from cofit.data import Dataset, load
from cofit.fit.config import FitConfig
from cofit.fit.precision import accuracy, reference_scores
from cofit.fit.reconstruct import reconstruct
from cofit.fit.subject import Subject, make_subject
from cofit.fit.training import Trainer
from cofit.ir import Graph, trace
from cofit.models import find_weights, load_model
from cofit.regimes import Recipe
from cofit.reproductions.harness import Step, fewer, train
from cofit.structures import (
    ALL_OF_FOUR,
    Connectivity,
    Pattern,
    PatternLibrary,
    Structure,
    extract_library,
    parse,
)

LIBRARY = 8
"""Patterns of the network's library."""

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        data: name of the data set.
        entry: name of the network.
        weights: file of its trained weights; None trains it here, for `dense_epochs`.
        examples: training examples.
        dense_epochs: see `weights`.
        epochs: of every arm; two fifths of ADMM where there is ADMM, then within the structure.
        batch: examples per step.
        rate: weights over kept weights.
        structures: names and texts of those besides patterns, "{rate}" for the rate. Stripes are
            for matrices; of a convolution they are blocks 16x1.
        board: Cortex-M whose instructions are counted.
        int8: whether int8 programs are made too, for this CPU and the board.
        peers: whether other runtimes are timed.
    """

    data: str = "cifar10"
    entry: str = "resnet20"
    weights: str | None = "resnet20_cifar10"
    examples: int = 2000
    dense_epochs: int = 0
    epochs: int = 5
    batch: int = 64
    rate: float = 8.0
    structures: tuple[tuple[str, str], ...] = (
        ("block 16x1", "block16x1@{rate}"),
        ("block 2x4", "block2x4@{rate}"),
        ("unified", "unify1x8@{rate}"),
        ("polarised", "rows8@{rate}+polarised8"),
        ("complementary", "complementary"),
    )
    board: str = "cortex-m4"
    int8: bool = True
    peers: bool = True


@dataclass(frozen=True)
class Arm:
    """One way to give the layers a structure.

    Attributes:
        name: short, as in tables.
        form: text of the structure, "{rate}" for the rate; "" where it is made from the weights.
        how: "admm", "projected" (at once, by magnitude) or "random" (patterns drawn).
    """

    name: str
    form: str
    how: str = "admm"


PATTERN = Arm("pattern", "")
ONE_SHOT = Arm("pattern one shot", "", "projected")
RANDOM = Arm("pattern random", "", "random")
DENSE = Arm("dense", "none")


def arms_of(settings: Settings) -> tuple[Arm, ...]:
    """All arms of a run."""
    return DENSE, PATTERN, ONE_SHOT, RANDOM, *(Arm(*pair) for pair in settings.structures)


def subject_of(settings: Settings) -> Subject:
    """The network, trained unless there are no weights for it, and its data."""
    path = None if settings.weights is None else find_weights(settings.weights)
    loaded = load_model(settings.entry, path)
    data: Dataset = fewer(load(settings.data), settings.examples)
    return make_subject(
        settings.entry, loaded.module, data, loaded.preprocess, untrained=path is None
    )


def start(step: Step, settings: Settings, subject: Subject) -> dict[str, Any]:
    """The weights that all arms start from, and the accuracy they have."""
    if subject.untrained:
        recipe = Recipe(settings.dense_epochs, 0.1)
        train(step, subject.module, subject.data, recipe, 0, name="dense", size=settings.batch)
    found = accuracy(reference_scores(traced(subject)), subject.data.test)
    return {"accuracy": found, **dict(subject.module.state_dict())}


def traced(subject: Subject) -> Graph:
    """The float graph of the network, normalisation folded."""
    return trace(subject.module.eval(), subject.example, subject.identifier)


def kernels(graph: Graph) -> list[str]:
    """Names of the weights that get structures: 3x3 convolutions but the first."""
    found = [weight.name for _, weight in graph.weighted() if weight.shape[2:] == (3, 3)]
    return found[1:]


def trained(
    step: Step, settings: Settings, subject: Subject, arm: Arm, seed: int
) -> dict[str, Any]:
    """An arm after its epochs: accuracy, kept weights, structure and weights by name.

    All arms distil from the dense network, and all that remove weights solve those they keep anew
    by least squares before they are trained within their structure.
    """
    dense = traced(subject)
    names = kernels(dense)
    config = FitConfig(
        model=settings.entry, data=settings.data, budget="accuracy_drop<=1%", seed=seed,
        epochs=settings.epochs, batch_size=settings.batch,
    )  # fmt: skip
    trainer = Trainer(subject, config, step.folder, step.progress)
    structure, first = begun(settings, arm, dense, names, seed)
    chosen = {} if structure is None else dict.fromkeys(names, structure)
    if arm.how != "admm":
        first = reconstruct(first, dense, subject.calibration, chosen, step.progress)
    graph = trainer.into_structures(first, dense, chosen, "arm")
    weights = _weights(graph, names)
    return {
        "accuracy": accuracy(reference_scores(graph), subject.data.test),
        "kept": sum(int(weight.count_nonzero()) for weight in weights.values()),
        "all": sum(weight.numel() for weight in weights.values()),
        "structure": "" if structure is None else structure.text,
        **{f"tensor {t.name}": torch.from_numpy(t.data) for t in _stored(graph)},
    }


def restored(subject: Subject, found: Mapping[str, Any]) -> Graph:
    """The graph that `trained` gave."""
    graph, names = traced(subject), set(kernels(traced(subject)))
    return graph.with_tensors(
        {
            tensor.name: replace(
                tensor,
                data=found[f"tensor {tensor.name}"].numpy(),
                structure=(found["structure"] or None) if tensor.name in names else None,
            )
            for tensor in _stored(graph)
        }
    )


def begun(
    settings: Settings, arm: Arm, dense: Graph, names: list[str], seed: int
) -> tuple[Structure | None, Graph]:
    """The structure of an arm, and the graph its training starts from."""
    if arm is DENSE:
        return None, dense
    weights = _weights(dense, names)
    if arm.how == "random":
        library, moved = _drawn(weights, settings.rate, seed)
        return Pattern(library, 1, settings.rate), _with(dense, moved)
    structure = (
        parse(arm.form.format(rate=f"{settings.rate:g}"))
        if arm.form
        else Pattern(extract_library(weights.values(), LIBRARY), 1, settings.rate)
    )
    if arm.how == "projected":
        dense = _with(dense, {name: structure.project(w) for name, w in weights.items()})
    return structure, dense


def _drawn(weights: Weights, rate: float, seed: int) -> tuple[PatternLibrary, Weights]:
    """A random library, and each kernel in a random pattern of it; the largest kernels stay."""
    generator = torch_generator(derive_seed(seed, "equal-rate", "random patterns"))
    masks = torch.randperm(len(ALL_OF_FOUR.masks), generator=generator)[:LIBRARY].tolist()
    library = PatternLibrary(tuple(ALL_OF_FOUR.masks[i] for i in masks))
    joint = Pattern(library, 1, rate)
    kept = Connectivity(rate * library.entries / 9)
    moved = {}
    for name, weight in weights.items():
        which = torch.randint(LIBRARY, weight.shape[:2], generator=generator)
        shaped = torch.where(library.bits()[which].reshape(weight.shape), weight, 0.0)
        moved[name] = joint.project(kept.project(shaped))
    return library, moved


def _stored(graph: Graph) -> list[Any]:
    """All constants of a graph."""
    return [tensor for tensor in graph.tensors.values() if tensor.data is not None]


def _weights(graph: Graph, names: list[str]) -> Weights:
    return {name: torch.from_numpy(graph.tensors[name].data) for name in names}


def _with(graph: Graph, weights: Weights) -> Graph:
    return graph.with_tensors(
        {name: replace(graph.tensors[name], data=w.numpy()) for name, w in weights.items()}
    )
