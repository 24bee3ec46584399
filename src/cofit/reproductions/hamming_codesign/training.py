"""Training that makes streamed weights toggle fewer bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cofit.core import ConfigError
from cofit.regimes import Handle, Regime, Role, Slot, straight_through
from cofit.regimes.attachment import latent_weight, parametrise
from cofit.reproductions.hamming_codesign.flips import codes
from cofit.reproductions.hamming_codesign.path import Ints
from cofit.reproductions.hamming_codesign.streams import Stream, segmented, weight_matrix
from cofit.reproductions.hamming_codesign.trellis import round_for_flips

_LARGEST = 127


class HammingAware(Regime):
    """Trains int8 weights through a rounding that prices flips in the present stream orders.

    The forward pass moves every weight to the level that minimises (squared distance in levels) +
    strength * (exact flips to its neighbours in the stream); gradients pass straight through, so
    that training makes up for it. Orders of the segments are improved at the start of every epoch.
    Put it before `QAT`, which rounds the moved weights where they lie. At strength 0 nothing moves
    and training is that without it, bit for bit.

    Args:
        names: weights, by parameter name.
        encoding: of the streamed weights.
        height: of the array.
        strength: squared levels that a flip is worth.

    Raises:
        ConfigError: no weights, a height below 1, or a strength below 0.
    """

    def __init__(self, names: tuple[str, ...], encoding: str, height: int, strength: float) -> None:
        if not names or height < 1 or not strength >= 0:
            raise ConfigError(
                f"Hamming-aware training got {len(names)} weights, height {height}, strength "
                f"{strength}; it needs weights, a height of at least 1 and a strength not below 0"
            )
        codes(np.zeros(1, np.int8), encoding)  # refuses an unknown encoding
        self._names = names
        self._encoding = encoding
        self._height = height
        self._strength = strength
        self._moves: dict[str, _Move] = {}
        self._weights: dict[str, nn.Parameter] = {}
        self._handle = Handle()

    @property
    def name(self) -> str:
        """See `Regime`."""
        return "hamming"

    def slots(self) -> frozenset[Slot]:
        """A structure slot per weight."""
        return frozenset(Slot(name, Role.STRUCTURE) for name in self._names)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Read the weights through the rounding, in natural order.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a parameter that is no weight or not finite, naming it.
        """
        self._weights = {name: latent_weight(model, name) for name in self._names}
        self._moves = {}
        for name, weight in self._weights.items():
            segments = -(-weight[0].numel() // self._height)
            move = _Move(self._encoding, self._height, self._strength)
            move.orders = torch.arange(len(weight)).repeat(segments, 1)
            self._moves[name] = move
        self._handle = Handle(*(parametrise(model, n, m) for n, m in self._moves.items()))
        return self._handle

    def on_epoch(self, epoch: int) -> None:
        """Shorten the orders for the weights as they are."""
        for name, weight in self._weights.items():
            self._moves[name].reorder(weight.detach())

    def finalize(self, model: nn.Module) -> nn.Module:
        """The weights themselves move to where the forward pass saw them."""
        moved = {name: self._moves[name](w.detach()) for name, w in self._weights.items()}
        self._handle.remove()
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(moved[name])
        return model

    def state_dict(self) -> dict[str, Any]:
        """The orders."""
        return {name: move.orders for name, move in self._moves.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for name, orders in state.items():
            self._moves[name].orders = orders.clone()


class _Move(nn.Module):
    """Moves a weight (K, ...) by whole levels of its channels' int8 grids."""

    def __init__(self, encoding: str, height: int, strength: float) -> None:
        super().__init__()
        self._encoding = encoding
        self._height = height
        self._strength = strength
        self.orders = torch.empty(0, dtype=torch.int64)  # (segments, K)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The moved weight, same shape."""
        scale = _scale(weight)
        levels = weight_matrix((weight.detach() / scale).numpy())
        places = self.orders.numpy().T.repeat(self._height, axis=1)[:, : levels.shape[1]]
        passed = np.take_along_axis(levels, places, axis=0)
        found = round_for_flips(passed, self._strength, self._encoding)
        steps = np.empty_like(levels)
        np.put_along_axis(steps, places, found - np.rint(passed), axis=0)
        k, c, *window = weight.shape
        steps = np.moveaxis(steps.reshape(k, *window, c), -1, 1)
        if not steps.any():
            return weight
        moved = torch.from_numpy(np.ascontiguousarray(steps))
        return straight_through(weight, weight.detach() + scale * moved)

    def reorder(self, weight: torch.Tensor) -> None:
        """Shorten the orders for a weight as it is moved now."""
        levels = (self(weight) / _scale(weight)).round().to(torch.int8).numpy()
        rows = codes(weight_matrix(levels), self._encoding)
        stream = Stream("", rows, rows.shape[1], 1)
        given: list[Ints] = list(self.orders.numpy())
        self.orders = torch.from_numpy(np.stack(segmented(stream, self._height, given)))


def _scale(weight: torch.Tensor) -> torch.Tensor:
    """Width of a level of each channel, (K, 1, ...); it follows the channel's largest weight."""
    top = weight.detach().flatten(1).abs().amax(dim=1)
    scale = torch.where(top > 0, top / _LARGEST, 1.0)
    return scale.reshape(-1, *[1] * (weight.dim() - 1))
