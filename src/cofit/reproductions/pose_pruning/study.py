"""The run: operators, depth, then per seed a dense baseline and the pruned network, end to end."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from cofit.codegen import Program, compile
from cofit.core import ConfigError
from cofit.fit.peers import race
from cofit.fit.runtimes import Runtime, runtimes
from cofit.ir import Graph, calibrate, kept_macs, macs, quantise, trace
from cofit.regimes import ADMM, Batches, Masked, Recipe, Regime, fit
from cofit.reproductions.harness import Step, Study, seeded
from cofit.reproductions.pose_pruning.compiled import CompiledGrouping
from cofit.reproductions.pose_pruning.figures import SIZE, Scenes, make_scenes
from cofit.reproductions.pose_pruning.grouping import Maps, group
from cofit.reproductions.pose_pruning.network import PoseNet, PoseShape, map_loss
from cofit.reproductions.pose_pruning.oks import Person, average_precision
from cofit.reproductions.pose_pruning.pruning import (
    layer_times,
    plan,
    projected,
    prunable,
    sensitivities,
    structures_of,
)
from cofit.reproductions.pose_pruning.skeleton import STICK

BATCH = 50
UNFRIENDLY = 1.5
"""Time per MAC over that of a plain 3x3 convolution from which an operator is replaced."""
LATENCY_SERIES = 60


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        scenes, validation, test: numbers of synthetic scenes.
        shape: of the dense baseline.
        stride: of its output.
        depths: backbone blocks that are tried.
        sweep_epochs: of training per depth.
        epochs, admm_epochs, retrain_epochs: the baseline trains for their sum.
        rates: of pruning.
        time_share: of the prunable layers' dense time that the plan may take.
        batch, learning_rate: of training, Adam.
        peer: runtime of the dense baseline.
    """

    scenes: int
    validation: int
    test: int
    shape: PoseShape
    stride: int
    depths: tuple[int, ...]
    sweep_epochs: int
    epochs: int
    admm_epochs: int
    retrain_epochs: int
    rates: tuple[float, ...]
    time_share: float
    batch: int
    learning_rate: float
    peer: str

    @property
    def total_epochs(self) -> int:
        """Of every arm."""
        return self.epochs + self.admm_epochs + self.retrain_epochs


@dataclass(frozen=True, eq=False)
class Data:
    """Scenes of the three parts."""

    train: Scenes
    validation: Scenes
    test: Scenes


def make_data(settings: Settings) -> Data:
    """Draw all scenes; they depend on the settings only."""
    parts = {"train": settings.scenes, "validation": settings.validation, "test": settings.test}
    return Data(**{name: make_scenes(count, 0, name) for name, count in parts.items()})


def precision_of(
    maps_of: Callable[[Maps], Maps], scenes: Scenes, find: Callable[[Maps], list[Person]]
) -> float:
    """OKS-AP in percent of what computes maps (N, maps, h, w) of images, and what groups them."""
    maps = [
        maps_of(images)
        for images in np.split(scenes.images, range(BATCH, len(scenes.images), BATCH))
    ]
    found = [find(each) for batch in maps for each in batch]
    truths = [
        [Person(points, area=float(np.prod(np.ptp(points, axis=0)))) for points in people]
        for people in scenes.people
    ]
    return 100 * average_precision(truths, found, STICK.kappas)


def maps_by(model: nn.Module) -> Callable[[Maps], Maps]:
    """Maps by a module in eval mode."""

    def compute(images: Maps) -> Maps:
        model.eval()
        with torch.no_grad():
            found: Maps = model(torch.from_numpy(images)).numpy()
        return found

    return compute


def trained(
    step: Step,
    model: PoseNet,
    settings: Settings,
    data: Data,
    seed: int,
    epochs: int,
    regime: Regime | None = None,
    rate: float | None = None,
    name: str = "training",
    targets: Maps | None = None,
) -> nn.Module:
    """Train on synthetic scenes in place, from the step's checkpoint if there is one."""
    wanted = data.train.targets(settings.stride) if targets is None else targets
    batches = Batches(
        torch.from_numpy(data.train.images),
        torch.from_numpy(wanted),
        size=settings.batch,
        seed=seed,
    )
    recipe = Recipe(epochs, rate or settings.learning_rate, "adam")
    found, _ = fit(
        model, batches, recipe, regime, criterion=map_loss,
        checkpoint=step.checkpoint(name), progress=step.progress, stage=name,
    )  # fmt: skip
    return found


def graph_of(model: nn.Module) -> Graph:
    """The float graph at inference."""
    return trace(model, torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))


def at_depth(shape: PoseShape, blocks: int) -> PoseShape:
    """The network with so many backbone blocks; the last repeats, or is taken away.

    Raises:
        ConfigError: blocks that reduce the size would go.
    """
    last = shape.backbone[-1]
    backbone = (*shape.backbone, *[(last[0], 1, 1)] * blocks)[:blocks]
    if math.prod(s for _, s, _ in backbone) != math.prod(s for _, s, _ in shape.backbone):
        raise ConfigError(f"{blocks} backbone blocks leave out a stride; keep more")
    return replace(shape, backbone=backbone)


def replaced(shape: PoseShape) -> PoseShape:
    """Plain convolutions for dilated ones, and blocks enough to see as far as before."""
    return replace(shape, dilated=False, blocks=math.ceil(1.5 * shape.blocks))


def operator_costs(settings: Settings, _: Step) -> dict[str, float]:
    """Picoseconds per MAC of operators at the width of the maps, one after the other in a program.

    Returns:
        By name of the operator.
    """
    width, cells = settings.shape.width, SIZE // settings.stride
    layers = {
        "3x3": nn.Conv2d(width, width, 3, 1, 1),
        "3x3 dilated": nn.Conv2d(width, width, 3, 1, 2, 2),
        "1x1": nn.Conv2d(width, width, 1),
        "3x3 depthwise": nn.Conv2d(width, width, 3, 1, 1, groups=width),
    }
    graph = trace(nn.Sequential(*layers.values()), torch.zeros(1, width, cells, cells))
    seconds = compile(graph).measure().per_step_s
    return {
        name: 1e12 * seconds[op.output] / macs(graph, op)
        for name, op in zip(layers, graph.ops, strict=True)
    }


def depth_sweep(study: Study[Settings], shape: PoseShape, data: Data) -> dict[int, dict[str, Any]]:
    """Validation AP and latency by number of backbone blocks, first seed, short trainings.

    Of a single depth there is nothing to find out.
    """
    settings, seed = study.settings, study.seeds[0]

    def compute(depth: int, step: Step) -> dict[str, Any]:
        model = seeded(lambda: PoseNet(at_depth(shape, depth)), seed, "depth", depth)
        found = trained(step, model, settings, data, seed, settings.sweep_epochs)
        find = CompiledGrouping(STICK, settings.stride)
        return {
            "ap": precision_of(maps_by(found), data.validation, find),
            "latency_s": compile(graph_of(found)).measure().latency_s,
        }

    if len(settings.depths) == 1:
        return {settings.depths[0]: {"ap": 0.0, "latency_s": 0.0}}
    return {d: study.step(f"depth {d}", partial(compute, d)) for d in settings.depths}


def knee(sweep: Mapping[int, Mapping[str, float]]) -> int:
    """The smallest depth reached without a cut that loses over 1 AP per 10 % of the time."""
    depths = sorted(sweep, reverse=True)
    chosen = depths[0]
    for deeper, shallower in itertools.pairwise(depths):
        lost = sweep[deeper]["ap"] - sweep[shallower]["ap"]
        share = 1 - sweep[shallower]["latency_s"] / sweep[deeper]["latency_s"]
        if lost > 10 * max(share, 0.0):
            break
        chosen = shallower
    return chosen


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of the second call."""
    work()  # warms caches
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def baseline(study: Study[Settings], data: Data, seed: int) -> PoseNet:
    """The dense network, trained as long as the pruned one."""
    settings = study.settings

    def compute(step: Step) -> dict[str, Any]:
        model = seeded(lambda: PoseNet(settings.shape), seed)
        return dict(trained(step, model, settings, data, seed, settings.total_epochs).state_dict())

    model = PoseNet(settings.shape)
    model.load_state_dict(study.step(f"baseline seed {seed}", compute))
    return model


def dense(study: Study[Settings], shape: PoseShape, data: Data, seed: int) -> PoseNet:
    """The network that is pruned, before that."""
    settings = study.settings

    def compute(step: Step) -> dict[str, Any]:
        model = seeded(lambda: PoseNet(shape), seed)
        return dict(trained(step, model, settings, data, seed, settings.epochs).state_dict())

    model = PoseNet(shape)
    model.load_state_dict(study.step(f"dense seed {seed}", compute))
    return model


def planned(study: Study[Settings], model: PoseNet, data: Data, seed: int) -> dict[str, Any]:
    """Sensitivities, layer times and the plan, all measured on the dense network."""
    settings = study.settings

    def compute(step: Step) -> dict[str, Any]:
        names = prunable(model)
        find = CompiledGrouping(STICK, settings.stride)

        def quality() -> float:
            return precision_of(maps_by(model), data.validation, find)

        losses = sensitivities(model, names, settings.rates, quality, step.progress)
        whole_s, times = layer_times(graph_of(model), names, settings.rates)
        limit_s = settings.time_share * sum(row[0] for row in times.values())
        fastest_s = sum(map(min, times.values()))
        rates, found = plan(losses, times, settings.rates, max(limit_s, fastest_s))
        return {
            "losses": losses, "times": times, "dense_s": whole_s, "rates": rates,
            "planned_s": found.totals["latency"],
        }  # fmt: skip

    return study.step(f"plan seed {seed}", compute)


def pruned(
    study: Study[Settings], model: PoseNet, rates: Mapping[str, float], data: Data, seed: int
) -> Graph:
    """The planned network after ADMM and masked retraining, as the graph that is compiled.

    A plan may prune nothing, where no layer is faster for it: that network trains as long, freely.
    """
    settings, structures = study.settings, structures_of(rates)

    def compute(step: Step) -> dict[str, Any]:
        sets = {name: (structure,) for name, structure in structures.items()}
        stage_epochs = max(1, settings.admm_epochs // 2)
        drawn = ADMM(sets, rho=1e-2, stages=2, stage_epochs=stage_epochs) if sets else None
        low = settings.learning_rate / 2
        trained(step, model, settings, data, seed, settings.admm_epochs, drawn, low, "admm")
        masked = Masked(structures)
        found = trained(
            step, model, settings, data, seed, settings.retrain_epochs, masked, low, "retrain"
        )
        return dict(found.state_dict())

    model.load_state_dict(study.step(f"pruned seed {seed}", compute))
    return projected(graph_of(model), structures)


def measured(
    study: Study[Settings], base: PoseNet, graph: Graph, data: Data, seed: int
) -> dict[str, Any]:
    """Test AP and times of both, network and grouping apart; a step of one timing session."""
    settings = study.settings

    def compute(step: Step) -> dict[str, Any]:
        dense_graph = graph_of(base)
        program, peer = compile(graph), peer_of(dense_graph, data, settings.peer)
        assert peer.call is not None
        find = CompiledGrouping(STICK, settings.stride)
        image = data.test.images[:1]
        seconds = race(
            {"peer": peer.call, "pruned": program.run, "ours dense": compile(dense_graph).run},
            image,
        )
        return {
            "baseline_ap": precision_of(maps_by(base), data.test, find),
            "pruned_ap": precision_of(program.run, data.test, find),
            "peer": peer.note,
            "peer_s": seconds["peer"],
            "ours_dense_s": seconds["ours dense"],
            "pruned_s": seconds["pruned"],
            "macs": sum(macs(dense_graph, op) for op in dense_graph.ops),
            "kept_macs": sum(kept_macs(graph, op) for op in graph.ops),
            **grouping_times(program, data.test, settings.stride),
        }

    return study.step(f"measured seed {seed}", compute)


def grouping_times(program: Program, scenes: Scenes, stride: int) -> dict[str, float]:
    """Median seconds of grouping one image's maps, in Python and in C, and AP of alternatives."""
    maps = program.run(scenes.images)
    find = CompiledGrouping(STICK, stride)
    fine = CompiledGrouping(STICK, 1)

    def upsampled(each: Maps) -> list[Person]:
        large = nn.functional.interpolate(
            torch.from_numpy(each[None]), scale_factor=stride, mode="bilinear"
        )
        return fine(large[0].numpy())

    ways: dict[str, Callable[[Maps], Any]] = {
        "python": lambda each: group(each, STICK, stride),
        "c": find.rows,
        "upsampled": upsampled,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for each in maps[:LATENCY_SERIES]:
        for name, way in ways.items():
            found[name].append(seconds_of(partial(way, each)))
    times = {f"{name}_s": float(np.median(values)) for name, values in found.items()}
    return {**times, "upsampled_ap": precision_of(program.run, scenes, upsampled)}


def peer_of(graph: Graph, data: Data, name: str) -> Runtime:
    """The runtime of that name on a graph; torch where it is not installed."""
    images = data.train.images[:8]
    found = {r.name: r for r in runtimes(graph, quantise(graph, calibrate(graph, [images])))}
    chosen = found[name]
    return chosen if chosen.call is not None else found["torch eager fp32"]
