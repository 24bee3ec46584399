"""From maps to people: peaks of keypoints, line integrals over limb fields, greedy assignment.

Z. Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017,
with the constants of Lightweight OpenPose. `group` is the reference; `grouping.c` is the same in C
(see `compiled`), decision by decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cofit.core import DataError
from cofit.reproductions.pose_pruning.oks import Person
from cofit.reproductions.pose_pruning.skeleton import Skeleton

THRESHOLD = 0.1
"""Least value of a keypoint's peak."""
RADIUS_PX = 6.0
"""A better peak suppresses others of its keypoint this near."""
SAMPLES = 10
"""Points along a limb."""
LEAST_DOT = 0.05
LEAST_SUCCESS = 0.8
"""Share of the samples that must agree with the limb's direction."""
LEAST_KEYPOINTS = 3
LEAST_SCORE = 0.2
"""Per keypoint of a person."""
MAX_PEAKS = 32
"""Peaks kept per keypoint, best first."""
MAX_PEOPLE = 64

Maps = NDArray[np.float32]
Peak = tuple[float, float, float]
"""x and y in cells, score."""


@dataclass
class _Body:
    peaks: dict[int, int] = field(default_factory=dict)
    score: float = 0.0


def group(maps: Maps, skeleton: Skeleton, stride: int) -> list[Person]:
    """People in the maps of one image.

    Args:
        maps: (keypoints + 1 + 2 * limbs, h, w), as `target_maps` gives them.
        skeleton: keypoints and limbs.
        stride: pixels per cell.

    Raises:
        DataError: the shape does not fit the skeleton, or a value is NaN or infinite.
    """
    check_maps(maps, skeleton)
    values = maps.astype(np.float64)
    peaks = [find_peaks(values[i], stride) for i in range(len(skeleton.keypoints))]
    bodies: list[_Body] = []
    for limb, (a, b) in enumerate(skeleton.limbs):
        start = len(skeleton.keypoints) + 1 + 2 * limb
        for score, i, j in _connections(peaks[a], peaks[b], values[start : start + 2]):
            _assemble(bodies, (a, i), (b, j), score, peaks)
    return [
        _person(body, peaks, stride)
        for body in bodies
        if len(body.peaks) >= LEAST_KEYPOINTS and body.score / len(body.peaks) >= LEAST_SCORE
    ]


def check_maps(maps: Maps, skeleton: Skeleton) -> None:
    """Refuse maps that cannot be grouped.

    Raises:
        DataError: see `group`.
    """
    if maps.ndim != 3 or maps.shape[0] != skeleton.maps:
        raise DataError(f"maps of shape {maps.shape}; give ({skeleton.maps}, h, w)")
    if not np.isfinite(maps).all():
        raise DataError("the maps hold NaN or infinite values; look at the network's weights")


def find_peaks(values: NDArray[np.float64], stride: int) -> list[Peak]:
    """Strict maxima among four neighbours above the threshold, best first, refined by parabolas."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    highest = np.maximum.reduce(
        [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    )
    rows, columns = np.nonzero((values > THRESHOLD) & (values > highest))
    order = np.argsort(-values[rows, columns], kind="stable")
    kept: list[Peak] = []
    for y, x in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        place = x + _offset(values[y, :], x), y + _offset(values[:, x], y)
        near = (RADIUS_PX / stride) ** 2
        if all((place[0] - u) ** 2 + (place[1] - v) ** 2 >= near for u, v, _ in kept):
            kept.append((*place, float(values[y, x])))
        if len(kept) == MAX_PEAKS:
            break
    return kept


def _offset(line: NDArray[np.float64], at: int) -> float:
    """Where the parabola through a maximum and its two neighbours is highest, from the maximum."""
    if at == 0 or at == len(line) - 1:
        return 0.0
    left, middle, right = line[at - 1], line[at], line[at + 1]
    return float((right - left) / (2 * (2 * middle - left - right)))


def _connections(
    starts: list[Peak], ends: list[Peak], field: NDArray[np.float64]
) -> list[tuple[float, int, int]]:
    """Limbs (score, start, end), best first, each peak in one of them at most."""
    found = []
    for i, start in enumerate(starts):
        for j, end in enumerate(ends):
            score = _limb_score(start, end, field)
            if score > 0:
                found.append((score, i, j))
    found.sort(key=lambda limb: (-limb[0], limb[1], limb[2]))
    used_starts, used_ends, kept = set(), set(), []
    for score, i, j in found:
        if i not in used_starts and j not in used_ends:
            used_starts.add(i)
            used_ends.add(j)
            kept.append((score, i, j))
    return kept


def _limb_score(start: Peak, end: Peak, field: NDArray[np.float64]) -> float:
    """Mean of the field along a limb, less for limbs over half the height; 0 if too few agree."""
    height, width = field.shape[1:]
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = float(np.sqrt(dx * dx + dy * dy))
    if length < 1e-9:
        return 0.0
    passed, total = 0, 0.0
    for sample in range(SAMPLES):
        share = sample / (SAMPLES - 1)
        x = min(max(start[0] + share * dx, 0.0), width - 1.0)
        y = min(max(start[1] + share * dy, 0.0), height - 1.0)
        dot = (_bilinear(field[0], x, y) * dx + _bilinear(field[1], x, y) * dy) / length
        if dot > LEAST_DOT:
            passed += 1
            total += dot
    if passed <= LEAST_SUCCESS * SAMPLES:
        return 0.0
    far = min(0.5 * height / length - 1, 0.0)
    return float(total / passed + far)


def _bilinear(values: NDArray[np.float64], x: float, y: float) -> float:
    left, top = int(x), int(y)
    right, bottom = min(left + 1, values.shape[1] - 1), min(top + 1, values.shape[0] - 1)
    u, v = x - left, y - top
    upper = values[top, left] * (1 - u) + values[top, right] * u
    lower = values[bottom, left] * (1 - u) + values[bottom, right] * u
    return float(upper * (1 - v) + lower * v)


def _assemble(
    bodies: list[_Body],
    a: tuple[int, int],
    b: tuple[int, int],
    score: float,
    peaks: list[list[Peak]],
) -> None:
    """Add a limb to the body that has one of its ends, join two bodies, or begin one."""
    first = next((body for body in bodies if body.peaks.get(a[0]) == a[1]), None)
    second = next((body for body in bodies if body.peaks.get(b[0]) == b[1]), None)
    if first is None and second is None:
        if len(bodies) < MAX_PEOPLE:
            both = peaks[a[0]][a[1]][2] + peaks[b[0]][b[1]][2]
            bodies.append(_Body(dict([a, b]), both + score))
    elif first is not None and second is not None:
        if first is second:
            first.score += score
        elif not first.peaks.keys() & second.peaks.keys():
            first.peaks |= second.peaks
            first.score += second.score + score
            bodies.remove(second)
    else:
        body, (kind, peak) = (first, b) if second is None else (second, a)
        assert body is not None
        if kind not in body.peaks:
            body.peaks[kind] = peak
            body.score += peaks[kind][peak][2] + score


def _person(body: _Body, peaks: list[list[Peak]], stride: int) -> Person:
    points = np.full((len(peaks), 2), np.nan)
    for kind, peak in body.peaks.items():
        points[kind] = (np.array(peaks[kind][peak][:2]) + 0.5) * stride - 0.5
    return Person(points, body.score)
