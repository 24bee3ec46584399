"""People of a COCO keypoint file, with a neck between their shoulders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cofit.core import DataError
from cofit.reproductions.pose_pruning.oks import Person, Points

_ORDER = (0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""COCO's keypoint of each of `COCO18`; -1 is the neck."""
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6


@dataclass(frozen=True, eq=False)
class Picture:
    """Size (height, width) in pixels, and the people with labelled keypoints."""

    size: tuple[int, int]
    people: tuple[Person, ...]


def read_coco(path: Path) -> tuple[Picture, ...]:
    """Pictures of an annotation file, in the order of its images.

    Raises:
        DataError: the file is absent or not in COCO's keypoint format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        people: dict[int, list[Person]] = {image["id"]: [] for image in found["images"]}
        for annotation in found["annotations"]:
            person = _person(annotation)
            if person is not None:
                people[annotation["image_id"]].append(person)
        return tuple(
            Picture((int(i["height"]), int(i["width"])), tuple(people[i["id"]]))
            for i in found["images"]
        )
    except OSError as error:
        raise DataError(f"cannot read keypoints {str(path)!r}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{str(path)!r} is not a COCO keypoint file ({error!r})") from error


def _person(annotation: dict[str, Any]) -> Person | None:
    rows = np.array(annotation["keypoints"], np.float64).reshape(17, 3)
    if annotation["iscrowd"] or not rows[:, 2].any():
        return None
    points: Points = np.where(rows[:, 2:] > 0, rows[:, :2], np.nan)
    neck = (points[LEFT_SHOULDER] + points[RIGHT_SHOULDER]) / 2
    return Person(np.vstack([points, neck])[list(_ORDER)], area=float(annotation["area"]))
