"""Point clouds: images as sets of their brightest pixels, and solids of ten kinds."""

from __future__ import annotations

import math

import torch

from cofit.core import DataError

SOLIDS = (
    "sphere", "cube", "cylinder", "cone", "torus",
    "tetrahedron", "disc", "spiral", "cross", "shell",
)  # fmt: skip


def clouds_from_images(images: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Points (x, y, intensity) of images, drawn by intensity without repetition.

    Pixels of zero intensity come last, so that an image with few bright ones still gives `n`.

    Args:
        images: (N, 1, H, W) in [0, 1].
        n: points per image.
        generator: of the draw.

    Returns:
        (N, n, 3) float32; x and y in [-1, 1], downwards and to the right.

    Raises:
        DataError: another shape, or fewer than `n` pixels.
    """
    if images.dim() != 4 or images.shape[1] != 1 or images[0].numel() < n:
        raise DataError(f"images of shape {tuple(images.shape)}; give (N, 1, H, W), H W >= {n}")
    flat = images.flatten(1)
    noise = torch.rand(flat.shape, generator=generator).clamp_(1e-9, 1 - 1e-7)
    keys = flat.clamp_min(1e-6).log() - (-noise.log()).log()  # Gumbel: weighted, no repetition
    chosen = keys.topk(n, dim=1).indices
    height, width = images.shape[2:]
    x = (chosen % width) * (2 / (width - 1)) - 1
    y = (chosen // width) * (2 / (height - 1)) - 1
    return torch.stack([x, y, flat.gather(1, chosen)], 2).float()


def solids(
    number: int, n: int, generator: torch.Generator, noise: float = 0.02
) -> tuple[torch.Tensor, torch.Tensor]:
    """Surfaces of ten kinds, turned at random about all axes, stretched a little, with noise.

    Args:
        number: clouds; kinds follow each other in turn.
        n: points per cloud.
        generator: of all draws.
        noise: standard deviation of a coordinate.

    Returns:
        (number, n, 3) float32 clouds about the origin in the unit sphere but for noise, and
        (number,) int64 kinds, indices of `SOLIDS`.
    """
    kinds = torch.arange(number) % len(SOLIDS)
    u, v = torch.rand(2, number, n, generator=generator)
    sides = torch.randint(0, 12, (number, n), generator=generator)
    clouds = torch.empty(number, n, 3)
    for kind, name in enumerate(SOLIDS):
        rows = kinds == kind
        clouds[rows] = _surface(name, u[rows], v[rows], sides[rows])
    clouds *= 1 + 0.3 * (torch.rand(number, 1, 3, generator=generator) - 0.5)
    clouds = clouds @ _rotations(number, generator)
    clouds -= clouds.mean(1, keepdim=True)
    clouds /= clouds.norm(dim=2).amax(1)[:, None, None]
    return clouds + noise * torch.randn(clouds.shape, generator=generator), kinds


def _surface(name: str, u: torch.Tensor, v: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Points of one kind from two uniform numbers and a face each."""
    angle, height = 2 * math.pi * u, 2 * v - 1
    round_x, round_y = angle.cos(), angle.sin()
    if name == "cube":
        sign = ((side // 3 % 2) * 2 - 1).float()
        return _along(torch.stack([2 * u - 1, height, sign], 2), side % 3)
    if name == "tetrahedron":
        corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        face = torch.stack([corners[(side % 4 + i) % 4] for i in range(3)])
        root = u.sqrt()
        weights = torch.stack([1 - root, root * (1 - v), root * v])
        return (face * weights[..., None]).sum(0)
    if name == "cross":  # three bars along the axes
        bar = torch.stack([0.15 * round_x, 0.15 * round_y, height], 2)
        return _along(bar, side % 3)
    if name == "torus":
        tube = 2 * math.pi * v
        radius = 0.7 + 0.3 * tube.cos()
        return torch.stack([radius * round_x, radius * round_y, 0.3 * tube.sin()], 2)
    radius, z = {
        "sphere": ((1 - height**2).clamp_min(0).sqrt(), height),
        "cylinder": (torch.full_like(v, 0.6), height),
        "cone": (v.sqrt(), 1 - 2 * v.sqrt()),
        "disc": (v.sqrt(), torch.zeros_like(v)),
        "spiral": (0.3 + 0.7 * u, 0.4 * height),
        "shell": ((1 - v**2).sqrt(), v),  # half a sphere, open below
    }[name]
    turns = 3 if name == "spiral" else 1
    turned = angle * turns
    return torch.stack([radius * turned.cos(), radius * turned.sin(), z], 2)


def _along(points: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    """Coordinates in turn, so that the last one lies along an axis chosen per point."""
    rolled = torch.stack([points.roll(a, 2) for a in range(3)])
    return rolled.gather(0, axis[None, :, :, None].expand(1, *points.shape))[0]


def _rotations(number: int, generator: torch.Generator) -> torch.Tensor:
    """Uniform rotations from unit quaternions, (number, 3, 3)."""
    q = torch.randn(number, 4, generator=generator)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, 1).view(number, 3, 3)
