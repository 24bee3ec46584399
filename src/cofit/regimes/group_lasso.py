"""A group lasso on what is to be removed: it shrinks there, and the rest trains freely.

The groups are the kernels of a convolution (single weights of a linear or 1x1 layer); of each group
only the removed elements count. Source: ClickTrain (ICS 2021), section on modified group lasso.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cofit.core import StructureError
from cofit.regimes.attachment import latent
from cofit.regimes.contract import Context, Handle, Regime

EPSILON = 1e-8
"""Beneath the root, so that a group at zero has a gradient (of zero)."""


def group_lasso(weight: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
    """Sum over kernels of sqrt(||what is removed of the kernel||^2 + EPSILON).

    Its gradient is w / sqrt(...) where removed, and exactly zero elsewhere. A kernel of which
    nothing is removed adds the constant sqrt(EPSILON).

    Args:
        weight: (K, C, R, S) or (K, C).
        removed: bool, same shape.
    """
    squares = torch.where(removed, weight, 0.0).square().flatten(2 if weight.dim() > 2 else 1)
    if weight.dim() > 2:
        squares = squares.sum(2)
    return (squares + EPSILON).sqrt().sum()


class GroupLasso(Regime):
    """Adds `strength` times the group lasso of marked elements.

    Args:
        removed: by parameter name, one or more marks (bool, shape of the weight). Each is a sum of
            its own: an element marked twice is pulled twice, as the paper's code does with the
            kernels that leave whole and have a pattern besides.
        strength: lambda.
    """

    def __init__(self, removed: Mapping[str, Sequence[torch.Tensor]], strength: float) -> None:
        self._removed = {name: tuple(marks) for name, marks in removed.items()}
        self._strength = strength
        self._weights: dict[str, nn.Parameter] = {}

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to the weights; the model is not changed.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: marks of another shape, naming the weight.
        """
        self._weights = {name: latent(model, name) for name in self._removed}
        for name, marks in self._removed.items():
            shape = self._weights[name].shape
            for mark in marks:
                if mark.shape != shape:
                    raise StructureError(
                        f"{name!r} has shape {tuple(shape)}, what is to be removed of it has "
                        f"{tuple(mark.shape)}; give one mark per element"
                    )
        return Handle()

    def loss(self, context: Context) -> dict[str, torch.Tensor]:
        """The term "lasso"."""
        terms = [
            group_lasso(self._weights[name], mark)
            for name, marks in self._removed.items()
            for mark in marks
        ]
        return {"lasso": self._strength * torch.stack(terms).sum()} if terms else {}

    def norm(self) -> float:
        """Present L2 norm of all marked elements together."""
        total = 0.0
        for name, marks in self._removed.items():
            marked = torch.stack(marks).any(0)
            total += float(self._weights[name].detach().double()[marked].square().sum())
        return math.sqrt(total)

    def state_dict(self) -> dict[str, Any]:
        """The marks."""
        return {name: list(marks) for name, marks in self._removed.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._removed = {name: tuple(state[name]) for name in self._removed}
