"""How long and with which optimiser to train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from cofit.core import ConfigError


@dataclass(frozen=True)
class Recipe:
    """Epochs, optimiser and a cosine learning rate from `learning_rate` to zero.

    Args:
        epochs: passes over the data.
        learning_rate: at the first step (of an extra group: its own "lr").
        optimiser: "sgd" (Nesterov momentum) or "adam" (decoupled weight decay).
        momentum: of "sgd".
        weight_decay: on weights; never on biases and normalisation.
    """

    epochs: int
    learning_rate: float = 0.1
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.learning_rate <= 0 or self.optimiser not in ("sgd", "adam"):
            raise ConfigError(
                f"recipe with epochs={self.epochs}, learning_rate={self.learning_rate}, "
                f"optimiser={self.optimiser!r}; it needs epochs >= 1, a positive rate and "
                "'sgd' or 'adam'"
            )

    def build(self, model: nn.Module, extra: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """An optimiser of the model's parameters and of extra groups."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
            *extra,
        ]
        groups = [group for group in groups if group["params"]]
        optimiser: torch.optim.Optimizer
        if self.optimiser == "sgd":
            nesterov = self.momentum > 0
            optimiser = torch.optim.SGD(
                groups, self.learning_rate, momentum=self.momentum, nesterov=nesterov
            )
        else:
            optimiser = torch.optim.AdamW(groups, self.learning_rate)
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
        return optimiser

    def set_rate(self, optimiser: torch.optim.Optimizer, step: int, total: int) -> None:
        """Set the learning rate of step `step` of `total`."""
        factor = 0.5 * (1 + math.cos(math.pi * step / total))
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state with every buffer in its parameter's memory layout.

    Saving makes tensors contiguous; kernels on another layout could round differently.
    """
    optimiser.load_state_dict(state)
    for parameter, buffers in optimiser.state.items():
        for name, value in buffers.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                buffers[name] = torch.empty_like(parameter).detach().copy_(value)
