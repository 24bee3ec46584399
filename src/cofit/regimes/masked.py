"""Training with a fixed support: what is zero stays zero, bit for bit, whatever the optimiser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from cofit.regimes.attachment import latent, require_finite
from cofit.regimes.contract import Handle, Regime, Role, Slot


class Support:
    """Which elements of some parameters are held at zero.

    Args:
        parameters: by name.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._dropped: dict[str, torch.Tensor] = {}
        self.choose({name: p.detach() for name, p in self._parameters.items()})

    def choose(self, values: Mapping[str, torch.Tensor]) -> None:
        """Hold at zero what is zero in `values`; `clear_weights` makes it so."""
        self._dropped = {name: values[name] == 0 for name in self._parameters}

    def clear_gradients(self) -> None:
        """Zero the gradients outside the support."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(self._dropped[name], 0.0)

    def clear_weights(self) -> None:
        """Write +0.0 outside the support (a product with a mask could give -0.0)."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.masked_fill_(self._dropped[name], 0.0)

    def density(self) -> float:
        """Kept fraction over all parameters."""
        total = sum(dropped.numel() for dropped in self._dropped.values())
        return 1.0 - sum(int(dropped.sum()) for dropped in self._dropped.values()) / max(total, 1)

    def state_dict(self) -> dict[str, Any]:
        """The dropped elements by parameter name."""
        return dict(self._dropped)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; does not touch the weights."""
        for name, parameter in self._parameters.items():
            held = torch.zeros_like(parameter, dtype=torch.bool)
            self._dropped[name] = held.copy_(state[name])


class Masked(Regime):
    """Fine-tunes the non-zeros of weights; their zeros at `attach` are the mask.

    Args:
        names: parameter names, for example those an ADMM has hardened.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._support = Support({})

    def slots(self) -> frozenset[Slot]:
        """One mask slot per weight."""
        return frozenset(Slot(name, Role.MASK) for name in self._names)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Read the support from the weights; the model is not changed.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a weight that is not finite, naming it.
        """
        weights = {name: latent(model, name) for name in self._names}
        for name, weight in weights.items():
            require_finite(name, weight)
        self._support = Support(weights)
        return Handle()

    def after_backward(self) -> None:
        """Mask the gradients, so that optimiser statistics see no dropped element."""
        self._support.clear_gradients()

    def after_step(self) -> None:
        """Mask the weights again: momentum from before the mask must not revive a zero."""
        self._support.clear_weights()

    def density(self) -> float:
        """Kept fraction over the named weights."""
        return self._support.density()

    def state_dict(self) -> dict[str, Any]:
        """The masks."""
        return self._support.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._support.load_state_dict(state)
