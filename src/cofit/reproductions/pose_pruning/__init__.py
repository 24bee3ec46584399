"""Pose pruning: a light multi-person pose network, made lighter layer by layer, grouped in C.

X. Shen et al., "Towards Fast and Accurate Multi-Person Pose Estimation on Mobile Devices", IJCAI
2021, arXiv 2106.15304. The network is trained on synthetic stick figures, which stand for no real
people; the grouping is also tried on real COCO keypoints.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cofit.data.locate import find_folder
from cofit.reproductions.harness import COLOURS, Outcome, Reproduction, Step, Study, axes, figure
from cofit.reproductions.pose_pruning.claims import (
    choice_table,
    claims,
    grouping_claim,
    plan_table,
    run_table,
)
from cofit.reproductions.pose_pruning.coco import read_coco
from cofit.reproductions.pose_pruning.compiled import CompiledGrouping
from cofit.reproductions.pose_pruning.grouping import group
from cofit.reproductions.pose_pruning.network import PoseShape
from cofit.reproductions.pose_pruning.oks import average_precision
from cofit.reproductions.pose_pruning.processing import post_processing
from cofit.reproductions.pose_pruning.skeleton import COCO18
from cofit.reproductions.pose_pruning.study import (
    UNFRIENDLY,
    Settings,
    at_depth,
    baseline,
    dense,
    depth_sweep,
    knee,
    make_data,
    measured,
    operator_costs,
    planned,
    pruned,
    replaced,
)
from cofit.reproductions.pose_pruning.targets import target_maps

STRIDE = 8
"""Of the published network, at which real keypoints are grouped."""


def run(study: Study[Settings]) -> Outcome:
    """Operators, depth, grouping, then per seed: baseline, dense, plan, pruned, measured."""
    settings = study.settings
    operators = study.step("operators", lambda step: operator_costs(settings, step))
    data = make_data(settings)
    shape = settings.shape
    if operators["3x3 dilated"] > UNFRIENDLY * operators["3x3"]:
        shape = replaced(shape)
    sweep = depth_sweep(study, shape, data)
    depth = knee(sweep)
    groupings = post_processing(study, at_depth(shape, depth), data)
    plans, runs = [], []
    for seed in study.seeds:
        base = baseline(study, data, seed)
        model = dense(study, at_depth(shape, depth), data, seed)
        plans.append(planned(study, model, data, seed))
        graph = pruned(study, model, plans[-1]["rates"], data, seed)
        runs.append(measured(study, base, graph, data, seed))
    real = None if study.scale == "smoke" else study.step("real keypoints", _real)
    return Outcome(
        claims=[*claims(settings, plans, runs), grouping_claim(groupings)],
        tables=[
            run_table(runs),
            plan_table(settings, plans[0]),
            choice_table(operators, sweep, depth, groupings, real),
        ],
        figure=_figure(runs),
    )


def _real(_: Step) -> dict[str, Any]:
    """Grouping of the target maps of real people: AP, and whether C and Python agree."""
    name = "test_coco.json"
    pictures = read_coco(find_folder("COCO keypoints", "coco_keypoints", (name,)) / name)
    compiled = CompiledGrouping(COCO18, STRIDE)
    found, same = [], True
    for picture in pictures:
        size = tuple(-(-side // STRIDE) * STRIDE for side in picture.size)
        points = np.array([person.points for person in picture.people]).reshape(-1, 18, 2)
        maps = target_maps(points, COCO18, (size[0], size[1]), STRIDE)
        found.append(compiled(maps))
        reference = group(maps, COCO18, STRIDE)
        same &= len(reference) == len(found[-1]) and all(
            np.allclose(a.points, b.points, atol=1e-4, equal_nan=True)
            for a, b in zip(reference, found[-1], strict=True)
        )
    truths = [picture.people for picture in pictures]
    return {
        "ap": 100 * average_precision(truths, found, COCO18.kappas),
        "people": sum(map(len, truths)),
        "pictures": len(pictures),
        "same": same,
    }


def _figure(runs: list[dict[str, Any]]) -> Figure:
    drawing = figure()
    panel = axes(drawing, "One image, mean over seeds", "", "latency (us)")
    bars = {
        "baseline,\nPython": ("peer_s", "python_s"),
        "ours dense,\nC": ("ours_dense_s", "c_s"),
        "pruned,\nC": ("pruned_s", "c_s"),
    }
    for name, parts in bars.items():
        low = 0.0
        for part, colour, label in zip(parts, COLOURS, ("network", "grouping"), strict=False):
            height = 1e6 * sum(run[part] for run in runs) / len(runs)
            first = name.startswith("baseline")
            panel.bar(name, height, bottom=low, color=colour, label=label if first else None)
            low += height
    panel.legend(fontsize=8, frameon=False)
    return drawing


_QUARTER = PoseShape(
    stem=8,
    backbone=((16, 1, 1), (32, 2, 1), (32, 1, 1), (64, 1, 1)),
    width=32,
    head=64,
    refinements=1,
    blocks=2,
    keypoints=7,
    limbs=6,
    elu=False,
)
"""A quarter of the published widths; ReLU for ELU, which the compiler lacks; stride 4, for scenes
are a quarter of the published input's size."""

_STANDARD = Settings(
    scenes=1000,
    validation=100,
    test=400,
    shape=_QUARTER,
    stride=4,
    depths=(6, 4, 2),
    sweep_epochs=3,
    epochs=8,
    admm_epochs=2,
    retrain_epochs=3,
    rates=(2.0, 4.0, 8.0),
    time_share=0.4,
    batch=16,
    learning_rate=2e-3,
    peer="onnxruntime fp32",
)

REPRODUCTION = Reproduction(
    name="pose-pruning",
    title="A light multi-person pose network pruned by measured sensitivity, grouped in C",
    source="Shen, Yuan, Niu, Ma, Guan, Li, Ren, Wang, IJCAI 2021, arXiv 2106.15304",
    scales={
        "smoke": Settings(
            scenes=32,
            validation=8,
            test=8,
            shape=PoseShape(
                stem=4,
                backbone=((8, 1, 1), (16, 2, 1)),
                width=16,
                head=16,
                refinements=1,
                blocks=1,
                keypoints=7,
                limbs=6,
                elu=False,
            ),
            stride=4,
            depths=(2,),
            sweep_epochs=1,
            epochs=1,
            admm_epochs=1,
            retrain_epochs=1,
            rates=(2.0,),
            time_share=0.8,
            batch=8,
            learning_rate=2e-3,
            peer="torch eager fp32",
        ),
        "standard": _STANDARD,
        "full": Settings(
            scenes=8000,
            validation=400,
            test=1000,
            shape=_QUARTER,
            stride=4,
            depths=(6, 4, 2),
            sweep_epochs=8,
            epochs=30,
            admm_epochs=8,
            retrain_epochs=12,
            rates=(2.0, 4.0, 8.0),
            time_share=0.4,
            batch=16,
            learning_rate=2e-3,
            peer="onnxruntime fp32",
        ),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)
