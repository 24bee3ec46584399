"""From the values of a data set to the values a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Normalise:
    """(x - mean) / std per channel; one number serves all channels. The default changes nothing."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std {self.std} must be above zero")

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs (N, C, ...) -> the same shape, on the same device."""
        shape = (1, -1, *[1] * (inputs.dim() - 2))
        mean = inputs.new_tensor(self.mean).reshape(shape)
        std = inputs.new_tensor(self.std).reshape(shape)
        return (inputs - mean) / std
