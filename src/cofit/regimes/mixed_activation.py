"""Activations mixed with the identity: y = act(x) + (x - act(x)) q, q = 0 (stays) to 1 (gone).

What decides q is a regime's business; activations of one unit (both of an inverted residual) have
one q.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn

from cofit.core import ConfigError, UnknownNameError
from cofit.regimes.contract import Handle

Units = Mapping[str, Sequence[str]]
"""Names of activation modules, by unit."""


class MixedActivation(nn.Module):
    """An activation and the share of the identity in it, which is asked for at each call."""

    def __init__(self, activation: nn.Module, share: Callable[[int], torch.Tensor], unit: int):
        super().__init__()
        self.activation = activation
        self._share = share
        self._unit = unit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The mixture, shape of `x`."""
        active: torch.Tensor = self.activation(x)
        return active + (x - active) * self._share(self._unit)


def checked(units: Units) -> dict[str, tuple[str, ...]]:
    """The units, each activation in one of them.

    Raises:
        ConfigError: no units, an empty one, or an activation in two.
    """
    names = [name for members in units.values() for name in members]
    if not units or not all(units.values()) or len(set(names)) < len(names):
        raise ConfigError(
            f"activation gates got units {dict(units)}; give one or more units, each with "
            "activations that are in no other"
        )
    return {unit: tuple(members) for unit, members in units.items()}


def mix(model: nn.Module, units: Units, share: Callable[[int], torch.Tensor]) -> Handle:
    """Put a mixture into the slot of every activation.

    Args:
        model: changed in place.
        units: see `checked`.
        share: q of a unit, by its number.

    Raises:
        UnknownNameError: a module the model does not have.
    """
    modules = dict(model.named_modules())
    for unit, members in units.items():
        for name in members:
            if name not in modules:
                raise UnknownNameError(f"activation of unit {unit!r}", name, modules)
    undo = []
    for number, members in enumerate(units.values()):
        for name in members:
            mixed = MixedActivation(modules[name], share, number)
            _swap(model, name, mixed)
            undo.append(lambda name=name, mixed=mixed: _restore(model, name, mixed))
    return Handle(*undo)


def harden(model: nn.Module, units: Units, gone: Iterable[bool]) -> None:
    """Identities for the activations of units that are gone, the others as they were."""
    for lost, members in zip(gone, units.values(), strict=True):
        for name in members:
            mixed = model.get_submodule(name)
            if isinstance(mixed, MixedActivation):
                _swap(model, name, nn.Identity() if lost else mixed.activation)


def _swap(model: nn.Module, name: str, new: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, new)


def _restore(model: nn.Module, name: str, mixed: MixedActivation) -> None:
    if model.get_submodule(name) is mixed:
        _swap(model, name, mixed.activation)
