"""Object keypoint similarity and average precision, as COCO defines them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
_RECALLS = np.linspace(0, 1, 101)

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Person:
    """Keypoints of one person: (keypoints, 2), x and y in pixels, NaN where not there.

    `score` ranks detections; `area` in pixels scales distances to a true person.
    """

    points: Points
    score: float = 1.0
    area: float = 0.0


def oks(truth: Person, found: Points, kappas: Sequence[float]) -> float:
    """Mean over labelled keypoints of exp(-d^2 / (2 area kappa^2)); missing ones count 0."""
    labelled = ~np.isnan(truth.points[:, 0])
    square = ((found - truth.points) ** 2).sum(axis=1)
    similarity = np.exp(-square / (2 * truth.area * np.square(kappas)))
    return float(np.nan_to_num(similarity)[labelled].mean())


def average_precision(
    truths: Sequence[Sequence[Person]],
    found: Sequence[Sequence[Person]],
    kappas: Sequence[float],
) -> float:
    """Mean over thresholds 0.50 to 0.95 of the precision interpolated at 101 recalls.

    Detections of an image are matched in the order of their scores, each to the free person it is
    most similar to.

    Args:
        truths: people of every image; those without a labelled keypoint are left out beforehand.
        found: detections of every image.
        kappas: per keypoint.

    Returns:
        From 0 to 1; NaN where there is no person at all.
    """
    total = sum(map(len, truths))
    if total == 0:
        return float("nan")
    scores: list[float] = []
    hits: list[NDArray[np.bool_]] = []
    for people, detections in zip(truths, found, strict=True):
        ranked = sorted(detections, key=lambda person: -person.score)
        similar = np.array([[oks(p, d.points, kappas) for p in people] for d in ranked])
        scores += [person.score for person in ranked]
        hits += list(_matches(similar.reshape(len(ranked), len(people))))
    if not scores:
        return 0.0
    order = np.argsort(-np.array(scores), kind="stable")
    right = np.array(hits)[order]  # (detections, thresholds)
    return float(np.mean([_interpolated(right[:, t], total) for t in range(len(THRESHOLDS))]))


def _matches(similar: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each ranked detection takes a person, per threshold: (detections, thresholds)."""
    hit = np.zeros((len(similar), len(THRESHOLDS)), bool)
    for t, threshold in enumerate(THRESHOLDS):
        free = np.ones(similar.shape[1], bool)
        for d, row in enumerate(similar):
            best = np.where(free, row, -1.0)
            if best.size and best.max() >= threshold:
                free[best.argmax()] = False
                hit[d, t] = True
    return hit


def _interpolated(right: NDArray[np.bool_], total: int) -> float:
    hits = right.cumsum()
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(hits / total, _RECALLS, side="left")
    return float(np.where(place < len(best), best[np.minimum(place, len(best) - 1)], 0.0).mean())
