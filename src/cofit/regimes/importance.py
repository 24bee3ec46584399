"""How much the loss would change without a weight: first-order Taylor, averaged over batches.

Removing w changes the loss by about w * dLoss/dw; its square is the importance (Molchanov et al.,
CVPR 2019, eq. 8). The gradients are those of the ordinary training steps, so nothing is run for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class TaylorImportance:
    """Mean over batches of (w * dLoss/dw)^2 for each element of some parameters.

    Args:
        parameters: by name.

    Attributes:
        batches: taken in so far.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._sums = {n: torch.zeros_like(p).detach() for n, p in self._parameters.items()}
        self.batches = 0

    def add(self) -> None:
        """Take in the gradients of one batch, as backward has just left them."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self._sums[name] += (parameter.detach() * parameter.grad).square()
        self.batches += 1

    def mean(self) -> dict[str, torch.Tensor]:
        """Importance by parameter name; zero where no gradient has come."""
        return {name: total / max(self.batches, 1) for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and number of batches."""
        return {"sums": dict(self._sums), "batches": self.batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for name, total in self._sums.items():
            total.copy_(state["sums"][name])
        self.batches = state["batches"]
