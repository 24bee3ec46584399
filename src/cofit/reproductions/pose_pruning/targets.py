"""Maps that a pose network is trained on: keypoints as bumps, limbs as fields of unit vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cofit.core import DataError
from cofit.reproductions.pose_pruning.skeleton import Skeleton

Floats = NDArray[np.float32]
SIGMA_CELLS = 7 / 8
"""Width of a bump: 7 pixels of the published input at stride 8."""
LIMB_CELLS = 1.0
"""A limb's field reaches so far to either side."""


def target_maps(
    people: NDArray[np.float64], skeleton: Skeleton, size: tuple[int, int], stride: int
) -> Floats:
    """Keypoint maps, background and limb fields.

    A keypoint's map is the largest over people of exp(-d^2 / (2 sigma^2)); fields are averaged
    where limbs of one kind overlap. Cell (i, j) lies at pixel (i + 0.5) * stride - 0.5.

    Args:
        people: (P, keypoints, 2), x and y in pixels; NaN where a keypoint is not there.
        skeleton: keypoints and limbs.
        size: height and width in pixels, multiples of the stride.
        stride: pixels per cell.

    Returns:
        (keypoints + 1 + 2 * limbs, height / stride, width / stride).

    Raises:
        DataError: the people do not fit the skeleton, or the size the stride.
    """
    count = len(skeleton.keypoints)
    if people.ndim != 3 or people.shape[1:] != (count, 2):
        raise DataError(f"people of shape {people.shape}; give (P, {count}, 2)")
    if size[0] % stride or size[1] % stride:
        raise DataError(f"an image of {size} pixels; both must be multiples of stride {stride}")
    h, w = size[0] // stride, size[1] // stride
    cells = (people + 0.5) / stride - 0.5
    y, x = np.mgrid[:h, :w].astype(np.float64)
    maps = np.zeros((skeleton.maps, h, w))
    for person in cells:
        square = (x - person[:, 0, None, None]) ** 2 + (y - person[:, 1, None, None]) ** 2
        bumps = np.nan_to_num(np.exp(-square / (2 * SIGMA_CELLS**2)))
        maps[:count] = np.maximum(maps[:count], bumps)
    maps[count] = 1 - maps[:count].max(axis=0)
    for limb, (a, b) in enumerate(skeleton.limbs):
        _add_fields(maps[count + 1 + 2 * limb :][:2], cells[:, a], cells[:, b], x, y)
    return maps.astype(np.float32)


def _add_fields(
    field: NDArray[np.float64],
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> None:
    covered = np.zeros(x.shape)
    for start, end in zip(starts, ends, strict=True):
        length = float(np.hypot(*(end - start)))
        if not length > 0:  # a missing end gives NaN
            continue
        ux, uy = (end - start) / length
        along = (x - start[0]) * ux + (y - start[1]) * uy
        aside = np.abs((x - start[0]) * uy - (y - start[1]) * ux)
        inside = (along >= -LIMB_CELLS) & (along <= length + LIMB_CELLS) & (aside <= LIMB_CELLS)
        field[0] += inside * ux
        field[1] += inside * uy
        covered += inside
    field /= np.maximum(covered, 1)
