"""Gradual pruning: the rate of a structure rises along a cubic while the network trains.

Density falls as d + (1 - d) (1 - t)^3, t from 0 to 1 (Zhu and Gupta 2017, eq. 1): fast while many
weights are redundant, slowly at the end. What has been pruned stays pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from cofit.core import ConfigError, StructureError
from cofit.regimes.attachment import latent
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.regimes.masked import Support
from cofit.structures.contract import Structure

Family = Callable[[float], Structure]
"""A structure by its pruning rate (>= 1)."""


def cubic_rate(final_rate: float, progress: float) -> float:
    """Pruning rate at `progress` in [0, 1]: 1 at 0, `final_rate` at 1."""
    density = 1.0 / final_rate
    return 1.0 / (density + (1.0 - density) * (1.0 - progress) ** 3)


class Gradual(Regime):
    """Chooses masks anew at `updates` moments between two fractions of training, then freezes them.

    Args:
        families: by parameter name, the structure as a function of its rate.
        rate: final pruning rate.
        begin: fraction of training at which pruning starts.
        end: fraction at which the final rate is reached.
        updates: number of times masks are chosen; the last one is at the final rate.
    """

    def __init__(
        self,
        families: Mapping[str, Family],
        rate: float,
        *,
        begin: float = 0.0,
        end: float = 0.7,
        updates: int = 20,
    ) -> None:
        if rate < 1 or not 0 <= begin < end <= 1 or updates < 1:
            raise ConfigError(
                f"gradual pruning got rate={rate}, begin={begin}, end={end}, updates={updates}; "
                "it needs rate >= 1, 0 <= begin < end <= 1 and at least one update"
            )
        self._families = dict(families)
        self._rate = rate
        self._begin = begin
        self._end = end
        self._updates = updates
        self._done = 0
        self._weights: dict[str, nn.Parameter] = {}
        self._support = Support({})

    def slots(self) -> frozenset[Slot]:
        """One mask slot per weight."""
        return frozenset(Slot(name, Role.MASK) for name in self._families)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to the weights; the model is not changed.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: the family does not apply to a weight.
        """
        self._weights = {name: latent(model, name) for name in self._families}
        for name, family in self._families.items():
            structure = family(self._rate)
            reason = structure.applies(tuple(self._weights[name].shape))
            if reason is not None:
                raise StructureError(f"{structure.text} does not apply to {name!r}: {reason}")
        self._support = Support(self._weights)
        self._done = 0
        return Handle()

    def before_step(self, step: int, total: int) -> None:
        """Choose masks if an update is due; update i of n is due at begin + (end - begin) i/n."""
        progress = (step / total - self._begin) / (self._end - self._begin)
        due = min(int(progress * self._updates + 1e-9), self._updates)
        if due > self._done:
            self._prune(due)

    def finalize(self, model: nn.Module) -> nn.Module:
        """Reach the final rate if training was too short to."""
        if self._done < self._updates:
            self._prune(self._updates)
        return model

    def after_backward(self) -> None:
        """Mask the gradients."""
        self._support.clear_gradients()

    def after_step(self) -> None:
        """Mask the weights again."""
        self._support.clear_weights()

    def density(self) -> float:
        """Kept fraction over the named weights."""
        return self._support.density()

    def state_dict(self) -> dict[str, Any]:
        """The masks and the number of updates done."""
        return {"support": self._support.state_dict(), "done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._support.load_state_dict(state["support"])
        self._done = state["done"]

    def _prune(self, update: int) -> None:
        rate = cubic_rate(self._rate, update / self._updates)
        with torch.no_grad():
            self._support.choose(
                {
                    name: family(rate).project(self._weights[name].detach())
                    for name, family in self._families.items()
                }
            )
        self._support.clear_weights()
        self._done = update
