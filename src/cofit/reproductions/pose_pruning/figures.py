"""Synthetic scenes of stick figures with exact keypoints; they stand for no real people.

A figure has a head, a neck, a hip, two hands and two feet; its left limbs are drawn in another
colour than its right ones. Scenes hold one to three figures, straight clutter and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import numpy_generator
from cofit.reproductions.pose_pruning.skeleton import STICK
from cofit.reproductions.pose_pruning.targets import target_maps

SIZE = 96
MOST_PEOPLE = 3
CLUTTER = 5
NOISE = 0.05
BORDER_PX = 4.0

_COLOURS = np.array(
    [(0.9, 0.9, 0.9), (0.9, 0.3, 0.3), (0.3, 0.5, 0.95), (0.9, 0.9, 0.9), (0.9, 0.3, 0.3),
     (0.3, 0.5, 0.95)]
)  # fmt: skip
"""Of the limbs: left ones red, right ones blue."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images and their people.

    Attributes:
        images: (N, 3, SIZE, SIZE) in [0, 1], float32.
        people: per image (P, keypoints, 2), x and y in pixels.
    """

    images: NDArray[np.float32]
    people: tuple[Floats, ...]

    def targets(self, stride: int) -> NDArray[np.float32]:
        """(N, maps, SIZE / stride, SIZE / stride), see `target_maps`."""
        return np.stack([target_maps(p, STICK, (SIZE, SIZE), stride) for p in self.people])


def make_scenes(count: int, seed: int, name: str, apart_px: float = 14.0) -> Scenes:
    """Draw scenes.

    Args:
        count: of scenes.
        seed: of everything drawn.
        name: of the part ("train", "test"); parts share no draw.
        apart_px: least distance between the same keypoint of two figures.
    """
    images = np.empty((count, 3, SIZE, SIZE), np.float32)
    people = []
    for scene in range(count):
        rng = numpy_generator(seed, "figures", name, scene)
        people.append(_people(rng, apart_px))
        images[scene] = _image(rng, people[-1])
    return Scenes(images, tuple(people))


def _people(rng: np.random.Generator, apart_px: float) -> Floats:
    wanted = int(rng.integers(1, MOST_PEOPLE + 1))
    placed: list[Floats] = []
    for _ in range(60):  # crowded draws are given up, so that a scene may hold fewer
        if len(placed) == wanted:
            break
        figure = _figure(rng)
        inside = ((figure >= BORDER_PX) & (figure <= SIZE - 1 - BORDER_PX)).all()
        apart = all((np.hypot(*(figure - other).T) >= apart_px).all() for other in placed)
        if inside and apart:
            placed.append(figure)
    return np.stack(placed) if placed else np.empty((0, len(STICK.keypoints), 2))


def _figure(rng: np.random.Generator) -> Floats:
    """Keypoints (7, 2) of one figure, upright within 25 degrees."""
    torso = rng.uniform(14, 22)
    lean = rng.normal(0, 0.2)
    neck = rng.uniform(BORDER_PX, SIZE - BORDER_PX, 2)

    def away(start: Floats, angle: float, length: float) -> Floats:
        return start + length * np.array([np.sin(angle), np.cos(angle)])  # 0 points down

    head = away(neck, np.pi + lean + rng.normal(0, 0.2), 0.5 * torso)
    hip = away(neck, lean, torso)
    hands = [
        away(neck, side * rng.uniform(0.5, 2.2) + lean, rng.uniform(0.7, 1.0) * torso)
        for side in (-1, 1)
    ]
    feet = [
        away(hip, side * rng.uniform(0.2, 0.8) + lean, rng.uniform(0.9, 1.2) * torso)
        for side in (-1, 1)
    ]
    return np.stack([head, neck, *hands, hip, *feet])


def _image(rng: np.random.Generator, people: Floats) -> Floats:
    background = rng.uniform(0, 0.35, 3)
    canvas = np.broadcast_to(background[:, None, None], (3, SIZE, SIZE)).copy()
    for _ in range(int(rng.integers(0, CLUTTER + 1))):
        ends = rng.uniform(0, SIZE, (2, 2))
        _draw(canvas, ends[0], ends[1], rng.uniform(0.2, 0.8, 3), rng.uniform(0.5, 2.0))
    for person in people:
        shade = rng.uniform(0.8, 1.1)
        for (a, b), colour in zip(STICK.limbs, _COLOURS, strict=True):
            _draw(canvas, person[a], person[b], shade * colour, 1.3)
        _draw(canvas, person[0], person[0], shade * _COLOURS[0], 3.5)
    canvas += rng.normal(0, NOISE, canvas.shape)
    return canvas.clip(0, 1)


def _draw(canvas: Floats, start: Floats, end: Floats, colour: Floats, radius: float) -> None:
    """A capsule with soft edges."""
    low = np.maximum(np.floor(np.minimum(start, end) - radius - 1), 0).astype(int)
    high = np.minimum(np.ceil(np.maximum(start, end) + radius + 2), SIZE).astype(int)
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]]
    along = end - start
    square = float(along @ along)
    share = 0.0
    if square > 0:
        share = (((x - start[0]) * along[0] + (y - start[1]) * along[1]) / square).clip(0, 1)
    distance = np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1])
    cover = (radius + 0.5 - distance).clip(0, 1)
    part = canvas[:, low[1] : high[1], low[0] : high[0]]
    part += cover * (colour[:, None, None] - part)
