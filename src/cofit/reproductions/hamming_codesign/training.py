"""Training that makes streamed weights toggle fewer bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cofit.core import ConfigError
from cofit.regimes import Context, Handle, Regime, straight_through
from cofit.regimes.attachment import latent
from cofit.reproductions.hamming_codesign.flips import codes
from cofit.reproductions.hamming_codesign.path import Ints
from cofit.reproductions.hamming_codesign.streams import Stream, segmented, weight_matrix

_LARGEST = 127
_ONES = torch.tensor([value.bit_count() for value in range(256)], dtype=torch.float32)


class HammingAware(Regime):
    """Adds `strength` times the flips per streamed bit of int8 weights, in the present orders.

    The value is exact; its gradient is that of sum ||W[next] - W[this]||_1 in quantised units, for
    that of the bits themselves is zero almost everywhere and periodic where it is softened. Orders
    of the segments are improved at the start of every epoch.

    Args:
        repeats: output positions of each weight, by parameter name.
        encoding: of the streamed weights.
        height: of the array.
        strength: of the term.

    Raises:
        ConfigError: no weights, a height below 1, or a strength below 0.
    """

    def __init__(
        self, repeats: Mapping[str, int], encoding: str, height: int, strength: float
    ) -> None:
        if not repeats or height < 1 or not strength >= 0:
            raise ConfigError(
                f"Hamming-aware training got {len(repeats)} weights, height {height}, strength "
                f"{strength}; it needs weights, a height of at least 1 and a strength not below 0"
            )
        codes(np.zeros(1, np.int8), encoding)  # refuses an unknown encoding
        self._repeats = dict(repeats)
        self._encoding = encoding
        self._height = height
        self._strength = strength
        self._weights: dict[str, nn.Parameter] = {}
        self._orders: dict[str, list[Ints]] = {}
        self._places: dict[str, torch.Tensor] = {}

    @property
    def name(self) -> str:
        """See `Regime`."""
        return "hamming"

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to the weights, in natural order.

        Raises:
            UnknownNameError: a weight the model does not have.
        """
        self._weights = {name: latent(model, name) for name in self._repeats}
        for name, weight in self._weights.items():
            columns = weight[0].numel()
            segments = -(-columns // self._height)
            self._set_orders(name, [np.arange(len(weight))] * segments)
        return Handle()

    def on_epoch(self, epoch: int) -> None:
        """Shorten the orders for the weights as they are."""
        for name, weight in self._weights.items():
            levels = _levels(weight.detach()).round().to(torch.int8).numpy()
            rows = codes(weight_matrix(levels), self._encoding)
            stream = Stream(name, rows, rows.shape[1], self._repeats[name])
            self._set_orders(name, segmented(stream, self._height, self._orders[name]))

    def loss(self, context: Context) -> dict[str, torch.Tensor]:
        """The term "flips"."""
        value, soft, bits = torch.zeros(()), torch.zeros(()), 0
        for name, weight in self._weights.items():
            levels = _levels(weight)
            passed = levels.movedim(1, -1).flatten(1).gather(0, self._places[name])
            soft = soft + self._repeats[name] * passed.diff(dim=0).abs().sum()
            patterns = self._patterns(passed.detach().round().to(torch.int64))
            value = value + self._repeats[name] * _ONES[patterns[1:] ^ patterns[:-1]].sum()
            bits += self._repeats[name] * 8 * (len(weight) - 1) * weight[0].numel()
        return {"flips": self._strength * straight_through(soft / bits, value / bits)}

    def state_dict(self) -> dict[str, Any]:
        """The orders."""
        return {name: torch.from_numpy(np.stack(orders)) for name, orders in self._orders.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for name, orders in state.items():
            self._set_orders(name, list(orders.numpy()))

    def _set_orders(self, name: str, orders: list[Ints]) -> None:
        columns = self._weights[name][0].numel()
        self._orders[name] = orders
        places = np.stack(orders).T.repeat(self._height, axis=1)[:, :columns]
        self._places[name] = torch.from_numpy(np.ascontiguousarray(places))

    def _patterns(self, levels: torch.Tensor) -> torch.Tensor:
        if self._encoding == "twos_complement":
            return levels & 255
        return levels.abs() | torch.where(levels < 0, 128, 0)


def _levels(weight: torch.Tensor) -> torch.Tensor:
    """Weights (K, ...) in units of their channel's int8 grid, which follows its largest weight."""
    top = weight.detach().flatten(1).abs().amax(dim=1)
    scale = torch.where(top > 0, top / _LARGEST, 1.0)
    return weight / scale.reshape(-1, *[1] * (weight.dim() - 1))
