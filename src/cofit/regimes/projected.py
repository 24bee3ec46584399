"""Project-in-the-forward training: the network computes with transformed weights.

The latent weight is what the optimiser moves; what the operator multiplies is its transform, for
example its projection onto filter pairs, rounded to their grid (DDC-PIM, arXiv 2310.20424).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from cofit.regimes.attachment import latent_weight, parametrise
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.regimes.gates import straight_through
from cofit.structures.complementary import pair_levels, pair_scale, real_pairs


@runtime_checkable
class Fitted(Protocol):
    """A transform with a slow part, brought up to date once per epoch."""

    def fit(self, weight: torch.Tensor) -> None:
        """Fit to the present latent weight."""
        ...


class Projected(Regime):
    """Trains weights through transforms; `finalize` writes the transformed values for good.

    Args:
        transforms: by parameter name, a module from a weight to a weight of that shape, with the
            gradient that the latent weight is to take.
    """

    def __init__(self, transforms: Mapping[str, nn.Module]) -> None:
        self._transforms = dict(transforms)
        self._weights: dict[str, nn.Parameter] = {}
        self._handle = Handle()

    def slots(self) -> frozenset[Slot]:
        """One structure slot per weight."""
        return frozenset(Slot(name, Role.STRUCTURE) for name in self._transforms)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Read the weights through their transforms.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a parameter that is no weight or not finite, naming it.
        """
        self._weights = {name: latent_weight(model, name) for name in self._transforms}
        undo = [parametrise(model, name, module) for name, module in self._transforms.items()]
        self._handle = Handle(*undo)
        return self._handle

    def on_epoch(self, epoch: int) -> None:
        """Bring transforms up to date that are fitted to the weights."""
        for name, transform in self._transforms.items():
            if isinstance(transform, Fitted):
                transform.fit(self._weights[name].detach())

    def finalize(self, model: nn.Module) -> nn.Module:
        """The plain model with the transformed weights."""
        with torch.no_grad():
            values = {name: t(self._weights[name]) for name, t in self._transforms.items()}
            self._handle.remove()
            for name, value in values.items():
                self._weights[name].copy_(value)
        return model


class PairedGrid(nn.Module):
    """Nearest complementary pairs on an integer grid with one scale per pair.

    The gradient is that of the real projection, which is linear; it passes straight through the
    rounding. The result is a member of `Complementary` to the bit.
    """

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """(K, ...) on the grids, same shape."""
        real = real_pairs(weight)
        scale = pair_scale(real.detach())
        levels = pair_levels(real.detach(), scale)
        rounded = levels * scale.reshape(-1, *[1] * (weight.ndim - 1))
        return straight_through(real, rounded.to(weight.dtype))
