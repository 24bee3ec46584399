"""Activations that leave gradually: q of y = act(x) + (x - act(x)) q rises from 0 to 1.

All units together, or one after the other, so that the network is never far from one it has
learned. Source: options of the released code of Fu et al., "DepthShrinker", ICML 2022.
"""

from __future__ import annotations

import torch
from torch import nn

from cofit.core import ConfigError
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.regimes.mixed_activation import Units, checked, harden, mix


class ActivationRemoval(Regime):
    """Takes the activations of all its units out, linearly in the steps; `finalize` makes it final.

    Args:
        units: names of activation modules, by unit, in the order in which they leave.
        end: share of the training after which none is left, above 0, 1 at most.
        in_turn: one unit after the other, instead of all together.
    """

    def __init__(self, units: Units, *, end: float = 0.5, in_turn: bool = False) -> None:
        if not 0 < end <= 1:
            raise ConfigError(f"removal of activations ends at {end}; give a share in (0, 1]")
        self.units = checked(units)
        self._end = end
        self._in_turn = in_turn
        self._shares = torch.zeros(len(self.units))

    def slots(self) -> frozenset[Slot]:
        """A gate at each activation."""
        names = (name for members in self.units.values() for name in members)
        return frozenset(Slot(name, Role.ACTIVATION_GATE) for name in names)

    @property
    def shares(self) -> tuple[float, ...]:
        """Present q of each unit."""
        return tuple(self._shares.tolist())

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Put a mixture into the slot of every activation.

        Raises:
            UnknownNameError: a module the model does not have.
        """
        self._shares = torch.zeros(len(self.units))
        return mix(model, self.units, self.share)

    def before_step(self, step: int, total: int) -> None:
        """Set the shares of this step; the first one has 0, those from `end` on have 1."""
        progress = min(step / (self._end * total), 1.0)
        count = len(self.units)
        places = torch.arange(count) if self._in_turn else torch.zeros(count)
        self._shares = (progress * (count if self._in_turn else 1) - places).clamp(0, 1)

    def share(self, unit: int) -> torch.Tensor:
        """The q of a unit."""
        return self._shares[unit]

    def finalize(self, model: nn.Module) -> nn.Module:
        """All activations become identities."""
        harden(model, self.units, [True] * len(self.units))
        return model
