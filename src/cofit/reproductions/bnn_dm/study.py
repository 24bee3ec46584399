"""The steps: train, count and time the flows, sample them often, run both engines."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from cofit.core import torch_generator
from cofit.data import Dataset, load
from cofit.models.bayesian import (
    BayesianLinear,
    Plan,
    Posterior,
    count_multiplications,
    expected_calibration_error,
    hybrid,
    local,
    negative_log_likelihood,
    normal_noise,
    posteriors,
    predictive_entropy,
    sample_votes,
    standard,
    tree,
    votes,
)
from cofit.regimes import Recipe, Variational
from cofit.reproductions.bnn_dm.hardware import Run, generator_j, netlist, quantise, rates, simulate
from cofit.reproductions.bnn_dm.kernel import layer_times
from cofit.reproductions.bnn_dm.scale import scaled
from cofit.reproductions.harness import Step, Study, fewer, seeded, train
from cofit.rtl import Engine, default_table

PUBLISHED_SIZES = (784, 200, 200, 10)
"""The size for which the specification derives its numbers (MNIST-like, 100 voters)."""

PUBLISHED_TREE = (10, 10, 1)

BATCH = 250


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        data: name of the data set of the software part.
        train, test: examples at most.
        hidden: outputs of the hidden layers.
        epochs, learning_rate: of variational training.
        voters: of a prediction.
        trees: samples per layer, each with `voters` voters.
        images: test images on which the spread of predictive means is taken.
        repeats: predictions of each of them.
        timed: runs of each flow on one image.
        chip_hidden, chip_epochs: of the network on the digits that the engines run.
        chip_tree: samples per layer of it; their product is its voters.
        chip_images: computed side by side.
        multipliers: of the standard engine and of the larger memorised one.
        narrow: also an engine whose memorised products have 8 bits.
    """

    data: str
    train: int
    test: int
    hidden: tuple[int, ...]
    epochs: int
    learning_rate: float
    voters: int
    trees: tuple[tuple[int, ...], ...]
    images: int
    repeats: int
    timed: int
    chip_hidden: int
    chip_epochs: int
    chip_tree: tuple[int, int]
    chip_images: int
    multipliers: int
    narrow: bool = True


def network(sizes: tuple[int, ...], bias: bool) -> nn.Sequential:
    """A Bayesian perceptron with ReLU between its layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [BayesianLinear(inputs, outputs, bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def trained(
    study: Study[Settings], data: Dataset, hidden: tuple[int, ...], bias: bool, epochs: int,
    seed: int, purpose: str,
) -> list[Posterior]:  # fmt: skip
    """The layers of a network trained by variational inference."""
    sizes = (data.train.inputs[0].numel(), *hidden, len(data.classes))
    rate = study.settings.learning_rate

    def compute(step: Step) -> dict[str, Any]:
        recipe = Recipe(epochs, rate, "adam", weight_decay=0.0)
        model, _ = train(
            step, seeded(lambda: network(sizes, bias), seed), data, recipe, seed,
            Variational(len(data.train)), size=min(128, len(data.train) // 8),
        )  # fmt: skip
        return dict(model.state_dict())

    model = network(sizes, bias)
    model.load_state_dict(study.step(f"train {purpose}seed {seed}", compute))
    return posteriors(nn.Sequential(*list(model)[1:]))


def plans(settings: Settings) -> dict[str, Plan]:
    """All that are compared, by name."""
    layers, voters = len(settings.hidden) + 1, settings.voters
    named = {
        "standard": standard(voters, layers),
        "hybrid": hybrid(voters, layers),
        "local": local(voters, layers),
    }
    for samples in settings.trees:
        named[f"tree {'x'.join(map(str, samples))}"] = tree(samples, voters)
    return named


def counted(settings: Settings, layers: list[Posterior], x: torch.Tensor, step: Step) -> Any:
    """Multiplications and seconds of a prediction; and how far two flows are apart."""
    found: dict[str, Any] = {}
    for done, (name, plan) in enumerate(plans(settings).items()):
        _ = [(layer.variance, layer.bias_variance) for layer in layers]  # are made once
        with count_multiplications() as count:
            votes(layers, x, plan, normal_noise(torch_generator(0, "count")))
        found[name] = {"multiplications": count.total, "seconds": []}
        step.progress("count", done + 1, len(plans(settings)))
    for _ in range(settings.timed):
        for name, plan in plans(settings).items():
            noise = normal_noise(torch_generator(0, "time"))
            start = time.perf_counter()
            votes(layers, x, plan, noise)
            found[name]["seconds"].append(time.perf_counter() - start)
    for each in found.values():
        each["seconds"] = statistics.median(each["seconds"])
    return found | one_layer(settings, layers, x)


def one_layer(settings: Settings, layers: list[Posterior], x: torch.Tensor) -> dict[str, Any]:
    """The first layer without its bias: counts, relative gap of the flows, seconds in C."""
    rows, columns = layers[0].mu.shape
    layer = Posterior(layers[0].mu.double(), layers[0].sigma.double())
    x = x.double()
    outs, counts = [], []
    for plan in (standard(settings.voters, 1), hybrid(settings.voters, 1)):
        with count_multiplications() as count:
            noise = normal_noise(torch_generator(0, "one"), torch.float64)
            outs.append(votes([layer], x, plan, noise))
        counts.append(count.total)
    gap = float((outs[0] - outs[1]).abs().max() / outs[0].abs().max())
    seconds = layer_times(rows, columns, settings.voters)
    return {"layer": {"counts": counts, "gap": gap, "seconds": seconds}}


def predicted(
    settings: Settings, layers: list[Posterior], data: Dataset, seed: int, step: Step
) -> dict[str, Any]:
    """Quality of each plan's predictions on the test part, and the spread of their means."""
    inputs, targets = data.test.inputs.flatten(1), data.test.targets
    found: dict[str, Any] = {}
    named = plans(settings)
    for done, (name, plan) in enumerate(named.items()):
        noise = normal_noise(torch_generator(seed, "predict", name))
        p = torch.cat([_mean(layers, x, plan, noise) for x in inputs.split(BATCH)])
        some = inputs[: settings.images]
        means = torch.stack([_mean(layers, some, plan, noise) for _ in range(settings.repeats)])
        found[name] = {
            "accuracy": float((p.argmax(1) == targets).float().mean()),
            "nll": negative_log_likelihood(p, targets),
            "ece": expected_calibration_error(p, targets),
            "entropy": float(predictive_entropy(p).mean()),
            "spread": float(means.var(0).mean().sqrt()),
        }
        step.progress("predict", done + 1, len(named))
    return found


def _mean(layers: list[Posterior], x: torch.Tensor, plan: Plan, noise: Any) -> torch.Tensor:
    """Predictive mean probabilities (B, classes).

    Weights are drawn per batch where they are drawn at all; outputs do not depend on the flow.
    """
    if "local" in plan.flows:
        each = [votes(layers, one, plan, noise).softmax(-1).mean(0) for one in x]
        return torch.stack(each)
    return sample_votes(layers, x, plan.samples, noise).softmax(-1).mean(0)


def engines(settings: Settings) -> dict[str, Engine]:
    """Standard and memorised: with as many lanes, and with as many multipliers."""
    voters = settings.chip_tree[0] * settings.chip_tree[1]
    lanes = settings.multipliers // 2
    rows = max(settings.chip_hidden, 10)
    plain = Engine(False, lanes, 64, rows, voters)
    found = {"standard": plain, "memorised": replace(plain, memorise=True)}
    if settings.narrow:
        found["memorised, 8-bit beta"] = replace(plain, memorise=True, drop=7)
    return found | {"memorised, all multipliers": replace(plain, memorise=True, lanes=2 * lanes)}


def on_chip(
    settings: Settings, name: str, layers: list[Posterior], data: Dataset, step: Step
) -> dict[str, Any]:
    """An engine on one layer, on the network, and scaled to the published size."""
    engine = engines(settings)[name]
    design = netlist(engine)
    step.progress("synthesis", 1, 4)
    whole = np.rint(127 * data.train.inputs.flatten(1).numpy()).astype(np.int8)
    integer = quantise(layers, whole)
    x = np.rint(127 * data.test.inputs.flatten(1).numpy()).astype(np.int8)[: settings.chip_images]
    voters = engine.voters
    alone = simulate(engine, design, integer[:1], x, [voters])
    step.progress("one layer", 2, 4)
    samples = settings.chip_tree if engine.memorise else (voters, 1)
    both = simulate(engine, design, integer, x, samples)
    step.progress("network", 3, 4)
    spent = rates(engine, design, integer[0], x, voters)
    table = default_table()
    large = PUBLISHED_TREE if engine.memorise else (math.prod(PUBLISHED_TREE), 1, 1)
    scale = scaled(engine, spent, table, PUBLISHED_SIZES, large)
    once = scaled(engine, spent, table, PUBLISHED_SIZES, large, weights_once=True)
    drawn = engine.cycles(len(integer[0].mu), integer[0].mu.shape[1], voters) - engine.cycles(
        len(integer[0].mu), integer[0].mu.shape[1], 0
    )
    labels = data.test.targets[: settings.chip_images].numpy()
    return {
        "cells": sum(design.cells().values()),
        "depth": design.depth,
        "logic_um2": design.logic_um2(),
        "memory_um2": design.memory_um2(),
        "layer": _plain(alone),
        "network": _plain(both),
        "right": float((_probabilities(both, engine, integer).argmax(1) == labels).mean()),
        "generator": generator_j(engine) * engine.lanes * drawn / alone.energy.cells_j,
        "scaled": {
            "cycles": scale.cycles,
            "energy_j": scale.energy_j,
            "once_j": once.energy_j,
            "area_um2": scale.memory_um2 + design.logic_um2(),
        },
    }


def _plain(run: Run) -> dict[str, Any]:
    return {
        "cycles": run.cycles,
        "energy_j": run.energy.total_j,
        "cells_j": run.energy.cells_j,
        "mismatches": run.mismatches,
        "compared": run.compared,
    }


def _probabilities(run: Run, engine: Engine, layers: list[Any]) -> Any:
    """Mean softmax of the votes, with the scales put back."""
    scale = engine.unit * np.prod([layer.scale for layer in layers]) / 127
    scale *= 2.0 ** sum(layer.shift for layer in layers[:-1])
    return torch.from_numpy(run.votes * scale).softmax(-1).mean(1).numpy()


def images(settings: Settings) -> Dataset:
    """The data of the software part."""
    return fewer(load(settings.data), settings.train, settings.test)
