"""Which post-processing: limb fields or centres, each with a network trained for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cofit.ir import macs
from cofit.reproductions.harness import Step, Study, seeded
from cofit.reproductions.pose_pruning.centres import (
    centre_maps,
    group_by_centres,
    with_centres,
)
from cofit.reproductions.pose_pruning.figures import SIZE
from cofit.reproductions.pose_pruning.grouping import Maps, group
from cofit.reproductions.pose_pruning.network import PoseNet, PoseShape
from cofit.reproductions.pose_pruning.oks import Person
from cofit.reproductions.pose_pruning.skeleton import STICK
from cofit.reproductions.pose_pruning.study import (
    LATENCY_SERIES,
    Data,
    Settings,
    graph_of,
    maps_by,
    precision_of,
    seconds_of,
    trained,
)


def post_processing(
    study: Study[Settings], shape: PoseShape, data: Data
) -> dict[str, dict[str, float]]:
    """Grouping by limb fields against grouping by centres, each with a network of its own.

    Both are trained as in the depth sweep, first seed; both are grouped in Python.

    Returns:
        Validation AP, multiply-accumulates of the network, which differ by its last head, and
        median seconds of grouping, by way.
    """
    settings, seed = study.settings, study.seeds[0]
    size, stride = (SIZE, SIZE), settings.stride
    ways: dict[str, tuple[PoseShape, Callable[[Maps], list[Person]], bool]] = {
        "limb fields": (shape, lambda maps: group(maps, STICK, stride), False),
        "centres": (with_centres(shape), lambda maps: group_by_centres(maps, STICK, stride), True),
    }

    def compute(way: str, step: Step) -> dict[str, Any]:
        sizes, find, centres = ways[way]
        targets = None
        if centres:
            targets = np.stack([centre_maps(p, STICK, size, stride) for p in data.train.people])
        model = seeded(lambda: PoseNet(sizes), seed, way)
        found = trained(step, model, settings, data, seed, settings.sweep_epochs, targets=targets)
        maps = maps_by(found)(data.validation.images[:LATENCY_SERIES])
        graph = graph_of(found)
        return {
            "ap": precision_of(maps_by(found), data.validation, find),
            "macs": float(sum(macs(graph, op) for op in graph.ops)),
            "grouping_s": float(np.median([seconds_of(partial(find, each)) for each in maps])),
        }

    return {way: study.step(f"grouping by {way}", partial(compute, way)) for way in ways}
