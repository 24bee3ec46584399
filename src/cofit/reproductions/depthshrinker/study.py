"""The run: steps per seed, then claims."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from cofit.data import load
from cofit.ir import Graph, merge_blocks, trace
from cofit.models.zoo import CIFAR, DIGITS
from cofit.reproductions.depthshrinker.claims import PROGRAMMED, Row, conclude
from cofit.reproductions.depthshrinker.gains import Gain, all_linear, all_merged, gains, refused
from cofit.reproductions.depthshrinker.measure import (
    IMAGES,
    equality,
    latencies,
    on_board,
    throughputs,
)
from cofit.reproductions.depthshrinker.network import to_merge, units
from cofit.reproductions.depthshrinker.selector import by_programming, damages_of
from cofit.reproductions.depthshrinker.stages import Settings, Stager, prune_channels
from cofit.reproductions.harness import Outcome, Reproduction, Step, Study, fewer, normalised

NORMALISE = {"cifar10": CIFAR, "digits": DIGITS}


def _run(study: Study[Settings]) -> Outcome:
    settings = study.settings
    data = normalised(load(settings.data), NORMALISE[settings.data])
    data = fewer(data, settings.examples)
    stagers = [Stager(settings, data, seed) for seed in study.seeds]
    found = study.step("gains", lambda step: _gains(stagers[0]))
    benefits = {block: Gain(**gain) for block, gain in found["gains"].items()}
    rows = [_seed(study, stager, benefits) for stager in stagers]
    return conclude(settings, benefits, found["refused"], rows)


def _gains(stager: Stager) -> dict[str, Any]:
    """Programs take the same time whatever the weights are, so those before training serve."""
    model = stager.empty().eval()
    found = gains(trace(model, stager.example), units(model))
    return {
        "gains": {block: asdict(gain) for block, gain in found.items()},
        "refused": refused(found),
    }


def _seed(study: Study[Settings], stager: Stager, benefits: Mapping[str, Gain]) -> Row:
    """All trainings and measurements of one seed."""
    seed, widths = stager.seed, stager.settings.widths
    whole_s = sum(gain.before_s for gain in benefits.values())
    savings = {
        block: 100 * (gain.before_s - gain.after_s) / whole_s
        for block, gain in benefits.items()
        if gain.worthwhile
    }

    def dense_step(step: Step) -> dict[str, Any]:
        model = stager.dense(step)
        return {**model.state_dict(), "accuracy": stager.accuracies(model)}

    def shrunk_step(step: Step) -> dict[str, Any]:
        model, gates = stager.search(step, stager.filled(dense_state), savings)
        removed = gates.removed
        model = stager.finetune(step, model, stager.filled(dense_state), removed)
        return {
            **model.state_dict(), "removed": list(removed), "accuracy": stager.accuracies(model),
            "slopes": dict(zip(gates.units, gates.slopes.tolist(), strict=True)),
        }  # fmt: skip

    def programmed_step(step: Step) -> dict[str, Any]:
        """The other selector, at the predicted time of the slopes' choice; no epochs of search."""
        model = stager.filled(dense_state)
        damages = damages_of(model, tuple(savings), stager.data.validation)
        budget_s = sum(
            gain.after_s if block in shrunk["removed"] else gain.before_s
            for block, gain in benefits.items()
        )
        removed = by_programming(benefits, damages, budget_s)
        epochs = sum(stager.settings.epochs[1:])
        model = stager.finetune(step, model, stager.filled(dense_state), removed, epochs)
        return {
            **model.state_dict(), "removed": list(removed), "damages": damages,
            "accuracy": stager.accuracies(model),
        }  # fmt: skip

    def pruned_step(step: Step, width: float) -> dict[str, Any]:
        model = stager.pruned(step, stager.filled(dense_state), width)
        return {**model.state_dict(), "accuracy": stager.accuracies(model)}

    dense = study.step(f"dense {seed}", dense_step)
    dense_state = _tensors(dense)
    shrunk = study.step(f"shrunk {seed}", shrunk_step)
    programmed = study.step(f"programmed {seed}", programmed_step)
    pruned = {
        width: study.step(f"width {width} {seed}", partial(pruned_step, width=width))
        for width in widths
    }

    def graphs() -> tuple[Graph, dict[str, Graph]]:
        """The fine-tuned network as it was trained, and all that is timed."""
        before, merged = _merged(stager, shrunk)
        given = stager.filled(dense_state)
        graph = trace(given, stager.example)
        timed = {"dense": graph, "merged": merged, PROGRAMMED: _merged(stager, programmed)[1]}
        for width in widths:
            narrow = prune_channels(copy.deepcopy(given), graph, width)
            narrow.load_state_dict(_tensors(pruned[width]))
            timed[f"width {width}"] = trace(narrow, stager.example)
        return before, timed

    def measured_step(step: Step) -> dict[str, Any]:
        before, timed = graphs()
        removed = tuple(shrunk["removed"])
        images = stager.data.test.inputs[:IMAGES]
        given = timed["dense"]
        border = equality(all_linear(given, removed), all_merged(given, removed), removed, images)
        batch = images[: stager.settings.batch]
        chosen = {name: timed[name] for name in ("dense", "merged")}
        return {
            "equal": asdict(equality(before, timed["merged"], removed, images)),
            "border": border.pixels,
            "depthwise": _depthwise(timed["merged"], removed),
            # with keep = 1 nothing is merged: what the timing itself finds between equals
            "latency_s": latencies({**timed, "keep 1": timed["dense"]}),
            "images_per_s": throughputs(timed, batch),
            "board": on_board(chosen, stager.data.train) if stager.settings.board else {},
        }

    measured = study.step(f"measured {seed}", measured_step)
    accuracies = {
        "dense": dense["accuracy"], "merged": shrunk["accuracy"],
        PROGRAMMED: programmed["accuracy"],
        **{f"width {width}": step["accuracy"] for width, step in pruned.items()},
    }  # fmt: skip
    return Row(
        seed, accuracies, tuple(shrunk["removed"]), tuple(programmed["removed"]), measured
    )  # fmt: skip


def _merged(stager: Stager, trained: Mapping[str, Any]) -> tuple[Graph, Graph]:
    """A fine-tuned network, and that with its blocks merged."""
    removed = tuple(trained["removed"])
    model = to_merge(stager.empty(), removed)
    model.load_state_dict(_tensors(trained))
    before = trace(model, stager.example)
    return before, merge_blocks(model.eval(), before, removed)


def _depthwise(graph: Graph, removed: tuple[str, ...]) -> int:
    """Depthwise convolutions that are left in merged blocks."""
    under = tuple(f"{block}." for block in removed)
    return sum(
        op.kind == "conv2d" and getattr(op.attributes, "groups", 1) > 1
        for op in graph.ops
        if op.output.startswith(under)
    )


def _tensors(values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


_STAGES = ((6, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 2, 2))

REPRODUCTION = Reproduction(
    name="depthshrinker",
    title="removes activations and merges inverted residuals into dense convolutions",
    source="Fu, Yang, Yuan, Li, Wan, Krishnamoorthi, Chandra, Lin; ICML 2022, arXiv 2206.00843",
    scales={
        "smoke": Settings(
            "digits", 512, ((4, 8, 2, 2),), 1, 16,
            epochs=(1, 1, 1), widths=(0.5,), board=False, batch=16,
        ),
        "standard": Settings("cifar10", 10_000, _STAGES, 2, 128),
        "full": Settings("cifar10", 18_000, _STAGES, 1, 128, epochs=(40, 20, 20)),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=_run,
)  # fmt: skip
