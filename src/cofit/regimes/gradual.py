"""Gradual pruning: the rate of a structure rises along a cubic while the network trains.

Density falls as d + (d0 - d) (1 - t)^3, t from 0 to 1 (Zhu and Gupta 2017, eq. 1): fast while many
weights are redundant, slowly at the end. What has been pruned stays pruned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cofit.core import ConfigError, StructureError
from cofit.regimes.attachment import require_finite, suited_weight
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.regimes.masked import Support
from cofit.structures import Family


def cubic_rate(final: float, progress: float, least: float = 1.0) -> float:
    """Pruning rate at `progress` in [0, 1]: `least` at 0, exactly `final` at 1."""
    if progress >= 1 or final == least:
        return final
    density = 1 / final + (1 / least - 1 / final) * (1 - progress) ** 3
    return max(1 / density, least)


class Gradual(Regime):
    """Chooses masks anew at `updates` moments between two fractions of training, then freezes them.

    Args:
        goals: by parameter name, the form of the structure and its final pruning rate.
        begin: fraction of training at which pruning starts.
        end: fraction at which the final rate is reached.
        updates: number of times masks are chosen; the last one is at the final rate.
    """

    def __init__(
        self,
        goals: Mapping[str, tuple[Family, float]],
        *,
        begin: float = 0.0,
        end: float = 0.7,
        updates: int = 20,
    ) -> None:
        if not 0 <= begin < end <= 1 or updates < 1:
            raise ConfigError(
                f"gradual pruning got begin={begin}, end={end}, updates={updates}; "
                "it needs 0 <= begin < end <= 1 and at least one update"
            )
        self._goals = dict(goals)
        self._begin = begin
        self._end = end
        self._updates = updates
        self._done = 0
        self._weights: dict[str, nn.Parameter] = {}
        self._support = Support({})

    def slots(self) -> frozenset[Slot]:
        """One mask slot per weight."""
        return frozenset(Slot(name, Role.MASK) for name in self._goals)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to the weights; the model is not changed.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a form does not reach its rate or does not apply to its weight, or a
                weight is not finite; naming it.
        """
        self._weights = {}
        for name, (family, final) in self._goals.items():
            try:
                structure = family(final)
            except StructureError as error:
                raise StructureError(f"{name!r}: {error}") from None
            self._weights[name] = suited_weight(model, name, structure)
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
        projected = {}
        for name, (family, final) in self._goals.items():
            structure = family(cubic_rate(final, update / self._updates, family.least_rate))
            require_finite(name, self._weights[name])
            projected[name] = structure.project(self._weights[name].detach())
        self._support.choose(projected)
        self._support.clear_weights()
        self._done = update
