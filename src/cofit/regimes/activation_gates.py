"""Which activations may go: a slope per unit, straight through, under a hard budget.

A unit is some activations that stay or go together (both of an inverted residual). Each computes
y = act(x) + (x - act(x)) q with q = 0 (stays) or 1 (gone). Before every step the k units of the
smallest slopes stay, k = floor(keep * units). Backward, dq/dp is 1 for slopes in [0, 1], those
included, and 0 elsewhere.

Source: Fu et al., "DepthShrinker", ICML 2022, arXiv 2206.00843. The latency term is
strength * sum (saving_u - saving_u p_u) up to a constant, so it drives slopes up in proportion to
what their removal saves.

Early on the budget may explore: units are then ranked by slope / T + Gumbel noise, which draws the
units that go from softmax(slopes / T) without replacement (Kool et al. 2019); T falls from epoch to
epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cofit.core import ConfigError, UnknownNameError
from cofit.regimes.contract import Context, Handle, Regime, Role, Slot
from cofit.regimes.gates import straight_through
from cofit.regimes.mixed_activation import Units, checked, harden, mix

TEMPERATURE, COOLING = 3.0, 0.95
"""Of the exploration: temperature of its first epoch, and factor per epoch (released code)."""


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
        explore_epochs: epochs with noise on the ranking.
        generator: of that noise.

    Attributes:
        slopes: (units,), in the order of `units`.
    """

    def __init__(
        self,
        units: Units,
        keep: float,
        *,
        savings: Mapping[str, float] | None = None,
        strength: float = 1e-4,
        learning_rate: float = 0.1,
        explore_epochs: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        self.units = checked(units)
        if explore_epochs > 0 and generator is None:
            raise ConfigError(
                f"activation gates that explore for {explore_epochs} epochs need a generator; "
                "give one, for example cofit.core.torch_generator(seed)"
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
        self.slopes = nn.Parameter(torch.zeros(len(units)))
        self._savings = torch.tensor([(savings or {}).get(unit, 0.0) for unit in units])
        self._kept = math.floor(keep * len(units) + 1e-9)
        self._strength = strength
        self._learning_rate = learning_rate
        self._explore_epochs = explore_epochs
        self._generator = generator
        self._temperature = 0.0
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
        handle = mix(model, self.units, self.gate)
        self._decisions = self._flags()
        return handle

    def param_groups(self) -> list[dict[str, Any]]:
        """The slopes, without weight decay."""
        return [{"params": [self.slopes], "lr": self._learning_rate, "weight_decay": 0.0}]

    def before_step(self, step: int, total: int) -> None:
        """Decide by the slopes as they are now, with noise while exploring."""
        self._decisions = self._flags(self._noise())

    def on_epoch(self, epoch: int) -> None:
        """Set the temperature of the exploration; 0 is none."""
        exploring = epoch < self._explore_epochs
        self._temperature = TEMPERATURE * COOLING**epoch if exploring else 0.0

    def loss(self, context: Context) -> dict[str, torch.Tensor]:
        """The term "latency": what is not saved, at slopes as they are."""
        return {"latency": self._strength * (self._savings * (1 - self.slopes)).sum()}

    def gate(self, number: int) -> torch.Tensor:
        """The q of a unit: the decision, with the gradient of its clamped slope."""
        # clamp passes the gradient at exactly 0 and 1, where slopes start
        return straight_through(self.slopes[number].clamp(0, 1), self._decisions[number])

    def finalize(self, model: nn.Module) -> nn.Module:
        """Activations that are gone become identities, all others are as they were."""
        harden(model, self.units, [flag > 0 for flag in self._flags().tolist()])
        return model

    def state_dict(self) -> dict[str, Any]:
        """The slopes, and of the exploration its temperature and the noise to come."""
        noise = {} if self._generator is None else {"noise": self._generator.get_state()}
        slopes = self.slopes.detach().clone()
        return {"slopes": slopes, "temperature": self._temperature, **noise}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        with torch.no_grad():
            self.slopes.copy_(state["slopes"])
        self._temperature = state["temperature"]
        if self._generator is not None:
            self._generator.set_state(state["noise"])
        self._decisions = self._flags()

    def _noise(self) -> torch.Tensor | None:
        """T times Gumbel noise, which ranks as slope / T + noise does."""
        if self._temperature == 0.0 or self._generator is None:
            return None
        uniform = torch.rand(len(self.slopes), generator=self._generator).clamp_(min=1e-12)
        return -self._temperature * (-uniform.log()).log()

    def _flags(self, noise: torch.Tensor | None = None) -> torch.Tensor:
        """1 for units that are gone: all but those of the smallest slopes (ties: earlier stay)."""
        slopes = self.slopes.detach()
        order = (slopes if noise is None else slopes + noise).argsort(stable=True)
        flags = torch.ones_like(self._savings)
        flags[order[: self._kept]] = 0
        return flags
