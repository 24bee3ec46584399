"""Which activations may go: a slope per unit, straight through, under a hard budget.

A unit is some activations that stay or go together (both of an inverted residual). Each computes
y = act(x) + (x - act(x)) q with q = 0 (stays) or 1 (gone). Before every step the k units of the
smallest slopes stay, k = floor(keep * units). Backward, dq/dp is 1 for slopes in [0, 1], those
included, and 0 elsewhere.

Source: Fu et al., "DepthShrinker", ICML 2022, arXiv 2206.00843. The latency term is
strength * sum (saving_u - saving_u p_u) up to a constant, so it drives slopes up in proportion to
what their removal saves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cofit.core import ConfigError, UnknownNameError
from cofit.regimes.contract import Context, Handle, Regime, Role, Slot
from cofit.regimes.gates import straight_through


class ActivationGates(Regime):
    """Learns which activations of a network are least needed, while the network trains.

    `finalize` puts identities where activations are gone.

    Args:
        units: names of activation modules, by unit; a module is in one unit.
        keep: share of the units that keep their activations, from 0 to 1.
        savings: what the removal of each unit saves, in any one unit of cost; none for all units
            without it.
        strength: weight of the latency term.
        learning_rate: of the slopes, at the first step.

    Attributes:
        slopes: (units,), in the order of `units`.
    """

    def __init__(
        self,
        units: Mapping[str, Sequence[str]],
        keep: float,
        *,
        savings: Mapping[str, float] | None = None,
        strength: float = 1e-4,
        learning_rate: float = 0.1,
    ) -> None:
        names = [name for members in units.values() for name in members]
        if not units or not all(units.values()) or len(set(names)) < len(names):
            raise ConfigError(
                f"activation gates got units {dict(units)}; give one or more units, each with "
                "activations that are in no other"
            )
        if not 0 <= keep <= 1 or strength < 0 or learning_rate <= 0:
            raise ConfigError(
                f"activation gates got keep={keep}, strength={strength}, learning_rate="
                f"{learning_rate}; keep lies in [0, 1], the strength is not negative, the rate "
                "positive"
            )
        for unit in savings or {}:
            if unit not in units:
                raise UnknownNameError("unit", unit, units)
        self.units = {unit: tuple(members) for unit, members in units.items()}
        self.slopes = nn.Parameter(torch.zeros(len(units)))
        self._savings = torch.tensor([(savings or {}).get(unit, 0.0) for unit in units])
        self._kept = math.floor(keep * len(units) + 1e-9)
        self._strength = strength
        self._learning_rate = learning_rate
        self._decisions = torch.zeros(len(units))

    def slots(self) -> frozenset[Slot]:
        """A gate at each activation."""
        names = (name for members in self.units.values() for name in members)
        return frozenset(Slot(name, Role.ACTIVATION_GATE) for name in names)

    @property
    def removed(self) -> tuple[str, ...]:
        """Units whose activations are gone at present slopes, in the order of `units`."""
        return tuple(u for u, gone in zip(self.units, self._flags(), strict=True) if gone)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Put a gate into the slot of every activation.

        Raises:
            UnknownNameError: a module the model does not have.
        """
        modules = dict(model.named_modules())
        for unit, members in self.units.items():
            for name in members:
                if name not in modules:
                    raise UnknownNameError(f"activation of unit {unit!r}", name, modules)
        undo = []
        for number, members in enumerate(self.units.values()):
            for name in members:
                gate = _Gate(self, number, modules[name])
                _swap(model, name, gate)
                undo.append(lambda name=name, gate=gate: _restore(model, name, gate))
        self._decisions = self._flags()
        return Handle(*undo)

    def param_groups(self) -> list[dict[str, Any]]:
        """The slopes, without weight decay."""
        return [{"params": [self.slopes], "lr": self._learning_rate, "weight_decay": 0.0}]

    def before_step(self, step: int, total: int) -> None:
        """Decide by the slopes as they are now."""
        self._decisions = self._flags()

    def loss(self, context: Context) -> dict[str, torch.Tensor]:
        """The term "latency": what is not saved, at slopes as they are."""
        return {"latency": self._strength * (self._savings * (1 - self.slopes)).sum()}

    def gate(self, number: int) -> torch.Tensor:
        """The q of a unit: the decision, with the gradient of its clamped slope."""
        # clamp passes the gradient at exactly 0 and 1, where slopes start
        return straight_through(self.slopes[number].clamp(0, 1), self._decisions[number])

    def finalize(self, model: nn.Module) -> nn.Module:
        """Activations that are gone become identities, all others are as they were."""
        flags = self._flags().tolist()
        for gone, members in zip(flags, self.units.values(), strict=True):
            for name in members:
                gate = model.get_submodule(name)
                if isinstance(gate, _Gate):
                    _swap(model, name, nn.Identity() if gone else gate.activation)
        return model

    def state_dict(self) -> dict[str, Any]:
        """The slopes."""
        return {"slopes": self.slopes.detach().clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        with torch.no_grad():
            self.slopes.copy_(state["slopes"])
        self._decisions = self._flags()

    def _flags(self) -> torch.Tensor:
        """1 for units that are gone: all but those of the smallest slopes (ties: earlier stay)."""
        order = self.slopes.detach().argsort(stable=True)
        flags = torch.ones_like(self._savings)
        flags[order[: self._kept]] = 0
        return flags


class _Gate(nn.Module):
    """An activation that is mixed with the identity."""

    def __init__(self, regime: ActivationGates, number: int, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self._regime = regime
        self._number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active: torch.Tensor = self.activation(x)
        return active + (x - active) * self._regime.gate(self._number)


def _swap(model: nn.Module, name: str, new: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, new)


def _restore(model: nn.Module, name: str, gate: _Gate) -> None:
    if model.get_submodule(name) is gate:
        _swap(model, name, gate.activation)
