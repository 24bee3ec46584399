"""Several regimes as one: in order, with the names of their losses kept."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cofit.core import ConfigError
from cofit.regimes.contract import Context, Handle, Regime, Slot


class RegimeStack(Regime):
    """Runs regimes in the order given; its loss terms are called "regime.term".

    A regime that occurs twice gets a number: "distillation", "distillation2". An empty stack
    changes nothing, bit for bit.

    Raises:
        ConfigError: two regimes claim one slot, or act on one name in the wrong order.
    """

    def __init__(self, regimes: Sequence[Regime]) -> None:
        self._regimes: dict[str, Regime] = {}
        for regime in regimes:
            count, name = 1, regime.name
            while name in self._regimes:
                count += 1
                name = f"{regime.name}{count}"
            self._regimes[name] = regime
        self._check_slots()

    def slots(self) -> frozenset[Slot]:
        """All slots of all members."""
        return frozenset().union(*(regime.slots() for regime in self._regimes.values()))

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Attach every member in order, or none of them if one refuses."""
        with contextlib.ExitStack() as attached:
            handles = []
            for regime in self._regimes.values():
                handle = regime.attach(model, sample)
                attached.callback(handle.remove)
                handles.append(handle)
            attached.pop_all()
        return Handle(*(handle.remove for handle in handles))

    def param_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups of all members."""
        return [group for regime in self._regimes.values() for group in regime.param_groups()]

    def before_step(self, step: int, total: int) -> None:
        """See `Regime`."""
        for regime in self._regimes.values():
            regime.before_step(step, total)

    def loss(self, context: Context) -> dict[str, torch.Tensor]:
        """Terms of all members, each named "regime.term"."""
        return {
            f"{name}.{term}": value
            for name, regime in self._regimes.items()
            for term, value in regime.loss(context).items()
        }

    def after_backward(self) -> None:
        """See `Regime`."""
        for regime in self._regimes.values():
            regime.after_backward()

    def after_step(self) -> None:
        """See `Regime`."""
        for regime in self._regimes.values():
            regime.after_step()

    def on_epoch(self, epoch: int) -> None:
        """See `Regime`."""
        for regime in self._regimes.values():
            regime.on_epoch(epoch)

    def finalize(self, model: nn.Module) -> nn.Module:
        """Harden with every member in order."""
        for regime in self._regimes.values():
            model = regime.finalize(model)
        return model

    def state_dict(self) -> dict[str, Any]:
        """State by member name."""
        return {name: regime.state_dict() for name, regime in self._regimes.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore every member.

        Raises:
            ConfigError: the state is of another stack.
        """
        if list(state) != list(self._regimes):
            raise ConfigError(
                f"the state is of the regimes {list(state)}, this stack has "
                f"{list(self._regimes)}; resume with the regimes that were saved"
            )
        for name, regime in self._regimes.items():
            regime.load_state_dict(state[name])

    def _check_slots(self) -> None:
        owners: dict[str, list[tuple[Slot, str]]] = {}
        for name, regime in self._regimes.items():
            for slot in sorted(regime.slots(), key=lambda slot: (slot.name, slot.role)):
                earlier = owners.setdefault(slot.name, [])
                for other, owner in earlier:
                    if owner != name and other.role >= slot.role:
                        raise ConfigError(_conflict(owner, other, name, slot))
                earlier.append((slot, name))


def _conflict(owner: str, other: Slot, name: str, slot: Slot) -> str:
    if other.role == slot.role:
        return (
            f"regimes {owner!r} and {name!r} both {slot.role.name.lower()} {slot.name!r}; "
            "give each its own slots or keep one of them"
        )
    return (
        f"regime {owner!r} ({other.role.name.lower()}) stands before {name!r} "
        f"({slot.role.name.lower()}) at {slot.name!r}; put {name!r} first"
    )
