"""Training on fixed-point grids: forward passes use the rounded weight, gradients pass straight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from cofit.regimes.attachment import parametrise, suited_weight
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.regimes.gates import straight_through
from cofit.structures import FixedPoint


class OnGrid(Regime):
    """Rounds weights of any module to `FixedPoint` grids while it trains, and for good at its end.

    Zeros stay zero (the grids are symmetric), so it composes after structures and masks. `QAT`
    trains the graph that is deployed, activations included; this rounds stored weights alone.

    Args:
        grids: by parameter name.
    """

    def __init__(self, grids: Mapping[str, FixedPoint]) -> None:
        self._grids = dict(grids)
        self._weights: dict[str, nn.Parameter] = {}
        self._handle = Handle()

    @property
    def name(self) -> str:
        """See `Regime`."""
        return "grid"

    def slots(self) -> frozenset[Slot]:
        """One quantise slot per weight."""
        return frozenset(Slot(name, Role.QUANTISE) for name in self._grids)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Parametrise the weights.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a parameter that is no weight or not finite, naming it.
        """
        self._weights = {
            name: suited_weight(model, name, grid) for name, grid in self._grids.items()
        }
        undo = [parametrise(model, name, _Grid(grid)) for name, grid in self._grids.items()]
        self._handle = Handle(*undo)
        return self._handle

    def finalize(self, model: nn.Module) -> nn.Module:
        """Write the rounded weights."""
        self._handle.remove()
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(self._grids[name].project(weight.detach()))
        return model


class _Grid(nn.Module):
    """A weight on its grid."""

    def __init__(self, grid: FixedPoint) -> None:
        super().__init__()
        self._grid = grid

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return straight_through(weight, self._grid.project(weight.detach()))
