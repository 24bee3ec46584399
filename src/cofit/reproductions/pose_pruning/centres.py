"""Grouping by centres: a map of the people's centres, and from there an offset to every keypoint.

The alternative to limb fields. A network of `with_centres` gives keypoint maps, the map of centres
in place of the background, and two maps per keypoint: how far it is from the centre, in units of
`UNIT_PX`. The offsets of a centre are rough; the nearest peak of the keypoint's own map says where
it is. After X. Zhou et al., "Objects as Points", arXiv 1904.07850, section 4.2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cofit.core import DataError
from cofit.reproductions.pose_pruning.grouping import LEAST_KEYPOINTS, Maps, find_peaks
from cofit.reproductions.pose_pruning.network import PoseShape
from cofit.reproductions.pose_pruning.oks import Person
from cofit.reproductions.pose_pruning.skeleton import Skeleton
from cofit.reproductions.pose_pruning.targets import SIGMA_CELLS, target_maps

UNIT_PX = 32.0
"""Offsets are stored relative to this, so that they are as large as the values of other maps."""
KNOWN_CELLS = 1.5
"""Offsets are trained so near to a centre; elsewhere they are free."""
SNAP_PX = 8.0
"""A peak so near to where an offset points is the keypoint."""


def with_centres(shape: PoseShape) -> PoseShape:
    """The network whose second head gives two maps per keypoint instead of per limb."""
    return replace(shape, limbs=shape.keypoints)


def centre_maps(
    people: NDArray[np.float64], skeleton: Skeleton, size: tuple[int, int], stride: int
) -> Maps:
    """Keypoint maps, the map of centres, and offsets (x then y per keypoint).

    A centre is the mean of a person's keypoints. Offsets that are not known, far from all centres
    or of keypoints that are not there, are NaN.

    Args:
        people: see `target_maps`, as the others.
        skeleton: keypoints.
        size: height and width in pixels.
        stride: pixels per cell.

    Returns:
        (keypoints + 1 + 2 * keypoints, height / stride, width / stride).

    Raises:
        DataError: see `target_maps`.
    """
    count = len(skeleton.keypoints)
    keypoints = target_maps(people, skeleton, size, stride)[:count]
    h, w = keypoints.shape[1:]
    y, x = np.mgrid[:h, :w].astype(np.float64)
    centres = np.zeros((h, w))
    offsets = np.full((2 * count, h, w), np.nan)
    nearest = np.full((h, w), np.inf)
    for person in people[~np.isnan(people).all(axis=(1, 2))]:
        middle = (np.nanmean(person, axis=0) + 0.5) / stride - 0.5  # in cells
        square = (x - middle[0]) ** 2 + (y - middle[1]) ** 2
        centres = np.maximum(centres, np.exp(-square / (2 * SIGMA_CELLS**2)))
        known = (square <= KNOWN_CELLS**2) & (square < nearest)
        nearest = np.where(known, square, nearest)
        cells = np.stack((x, y))[None]  # from each cell, not from the centre itself
        away = ((person[:, :, None, None] + 0.5) / stride - 0.5 - cells) * stride / UNIT_PX
        offsets = np.where(known, away.reshape(2 * count, h, w), offsets)
    return np.concatenate((keypoints, centres[None], offsets)).astype(np.float32)


def group_by_centres(maps: Maps, skeleton: Skeleton, stride: int) -> list[Person]:
    """People in the maps of one image, best first.

    Every centre is a person; each of its keypoints is the nearest free peak to where its offset
    points, or that point itself where there is no peak near.

    Args:
        maps: (keypoints + 1 + 2 * keypoints, h, w), as `centre_maps` gives them.
        skeleton: keypoints.
        stride: pixels per cell.

    Raises:
        DataError: the shape does not fit the skeleton, or a value is NaN or infinite.
    """
    count = len(skeleton.keypoints)
    if maps.ndim != 3 or maps.shape[0] != 3 * count + 1:
        raise DataError(f"maps of shape {maps.shape}; give ({3 * count + 1}, h, w)")
    if not np.isfinite(maps).all():
        raise DataError("the maps hold NaN or infinite values; look at the network's weights")
    values = maps.astype(np.float64)
    peaks = [find_peaks(values[i], stride) for i in range(count)]
    taken: list[set[int]] = [set() for _ in range(count)]
    people = []
    for x, y, score in find_peaks(values[count], stride):
        column, row = round(x), round(y)
        away = values[count + 1 :, row, column].reshape(count, 2) * UNIT_PX / stride
        points, snapped = np.array((column, row)) + away, 0
        for kind in range(count):
            near = _nearest(points[kind], peaks[kind], taken[kind], SNAP_PX / stride)
            if near is not None:
                taken[kind].add(near)
                points[kind] = peaks[kind][near][:2]
                snapped += 1
        if snapped >= LEAST_KEYPOINTS:
            people.append(Person((points + 0.5) * stride - 0.5, score * snapped / count))
    return people


def _nearest(
    point: NDArray[np.float64],
    peaks: list[tuple[float, float, float]],
    taken: set[int],
    reach: float,
) -> int | None:
    """Index of the nearest free peak within reach, in cells."""
    distances = {
        i: (x - point[0]) ** 2 + (y - point[1]) ** 2
        for i, (x, y, _) in enumerate(peaks)
        if i not in taken
    }
    best = min(distances, key=lambda i: distances[i], default=None)
    return best if best is not None and distances[best] <= reach**2 else None
