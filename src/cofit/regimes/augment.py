"""Augmentations of image batches as tensors; each draws from the generator it is given.

All take x (N, C, H, W) and a generator and return a tensor of the same shape, so they compose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from cofit.core import UnknownNameError

Augmentation = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class RandomCrop:
    """Pads with zeros by `padding` pixels and cuts a window of the old size, one per image."""

    padding: int = 4

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Crop each image of (N, C, H, W)."""
        n, _, height, width = x.shape
        offsets = torch.randint(2 * self.padding + 1, (2, n), generator=generator)
        padded = F.pad(x, [self.padding] * 4)
        # (N, C, 2p+1, 2p+1, H, W): every window as a view; one per image is copied out of it
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(n), :, offsets[0], offsets[1]]


@dataclass(frozen=True)
class RandomFlip:
    """Mirrors each image left to right with a probability."""

    probability: float = 0.5

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Flip some images of (N, C, H, W)."""
        chosen = torch.rand(len(x), generator=generator) < self.probability
        return torch.where(chosen[:, None, None, None], x.flip(-1), x)


@dataclass(frozen=True)
class Cutout:
    """Writes zeros on a square of `size` pixels around a random centre, clipped at the border."""

    size: int = 8

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Cut a hole into each image of (N, C, H, W)."""
        n, _, height, width = x.shape
        rows = self._hole(n, height, generator)
        columns = self._hole(n, width, generator)
        hole = rows[:, None, :, None] & columns[:, None, None, :]
        return x.masked_fill(hole, 0.0)

    def _hole(self, n: int, length: int, generator: torch.Generator) -> torch.Tensor:
        start = torch.randint(length, (n, 1), generator=generator) - self.size // 2
        index = torch.arange(length)
        return (index >= start) & (index < start + self.size)


_NAMED: dict[str, Augmentation] = {
    "crop": RandomCrop(),
    "flip": RandomFlip(),
    "cutout": Cutout(),
}


def augmentation(name: str) -> Augmentation:
    """The augmentation that a data set names.

    Raises:
        UnknownNameError: listing the names.
    """
    if name not in _NAMED:
        raise UnknownNameError("augmentation", name, _NAMED)
    return _NAMED[name]
