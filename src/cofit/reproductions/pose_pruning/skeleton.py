"""Which keypoints a person has, which of them limbs join, and how far annotators scatter."""

from __future__ import annotations

from dataclasses import dataclass

from cofit.core import ConfigError


@dataclass(frozen=True)
class Skeleton:
    """Keypoints and limbs.

    Attributes:
        keypoints: names.
        limbs: pairs of keypoints; every limb but the first shares one with those before it.
        kappas: per keypoint the constant k of the object keypoint similarity.
    """

    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    kappas: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        ends = [end for limb in self.limbs for end in limb]
        if len(self.kappas) != count or not all(0 <= end < count for end in ends):
            raise ConfigError(
                f"skeleton of {count} keypoints with {len(self.kappas)} constants and limbs "
                f"{self.limbs}; give a constant for each, and limbs between existing keypoints"
            )

    @property
    def maps(self) -> int:
        """Channels of a network's output: keypoints, background, two per limb."""
        return len(self.keypoints) + 1 + 2 * len(self.limbs)


STICK = Skeleton(
    keypoints=("head", "neck", "left hand", "right hand", "hip", "left foot", "right foot"),
    limbs=((1, 0), (1, 2), (1, 3), (1, 4), (4, 5), (4, 6)),
    kappas=(0.1,) * 7,
)
"""Synthetic stick figures."""

COCO18 = Skeleton(
    keypoints=(
        "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder",
        "left elbow", "left wrist", "right hip", "right knee", "right ankle", "left hip",
        "left knee", "left ankle", "right eye", "left eye", "right ear", "left ear",
    ),
    limbs=(
        (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 2), (2, 3), (3, 4), (2, 16),
        (1, 5), (5, 6), (6, 7), (5, 17), (1, 0), (0, 14), (0, 15), (14, 16), (15, 17),
    ),
    kappas=(
        0.052, 0.158, 0.158, 0.144, 0.124, 0.158, 0.144, 0.124, 0.214, 0.174, 0.178, 0.214, 0.174,
        0.178, 0.05, 0.05, 0.07, 0.07,
    ),
)  # fmt: skip
"""The 17 keypoints of COCO and a neck between the shoulders; kappa is twice COCO's sigma."""
