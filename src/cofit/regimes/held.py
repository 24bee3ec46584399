"""Fine-tuning that never leaves its structures: projected steps within one convex piece.

What a projection has chosen (supports, the sign of every fragment) stays chosen. After each step
the weights go to the nearest point that shares those choices, so magnitudes move freely, zeros of a
support stay zero, and no sign flips. `Masked` is the case where only zeros matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cofit.core import StructureError
from cofit.regimes.attachment import suited_weight
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.structures import Structure, within


class Held(Regime):
    """Keeps weights within the pieces of their structures in which they are at `attach`.

    Args:
        structures: by parameter name, for example those an ADMM has hardened, in its order. Grids
            (int8) do not bind during training; `finalize` rounds to them.
    """

    def __init__(self, structures: Mapping[str, Sequence[Structure]]) -> None:
        self._structures = {name: tuple(sets) for name, sets in structures.items()}
        self._weights: dict[str, nn.Parameter] = {}
        self._members: dict[str, torch.Tensor] = {}

    def slots(self) -> frozenset[Slot]:
        """One mask slot per weight."""
        return frozenset(Slot(name, Role.MASK) for name in self._structures)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Take the present weights as the members; the model is not changed.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a weight that is not in its structure or cannot be, naming it.
        """
        self._weights = {
            name: suited_weight(model, name, *sets) for name, sets in self._structures.items()
        }
        self._check()
        self._members = {name: w.detach().clone() for name, w in self._weights.items()}
        return Handle()

    def after_step(self) -> None:
        """Bring the weights back to their pieces."""
        with torch.no_grad():
            for name, sets in self._structures.items():
                weight = self._weights[name]
                for structure in sets:
                    weight.copy_(within(structure, self._members[name], weight))

    def finalize(self, model: nn.Module) -> nn.Module:
        """Round to the grids; the weights are then members of all their structures."""
        with torch.no_grad():
            for name, sets in self._structures.items():
                for structure in sets:
                    if structure.check(self._weights[name]) is not None:
                        self._weights[name].copy_(structure.project(self._weights[name].detach()))
        self._check()
        return model

    def state_dict(self) -> dict[str, Any]:
        """The members."""
        return dict(self._members)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; does not touch the weights."""
        for name, weight in self._weights.items():
            self._members[name] = torch.empty_like(weight).copy_(state[name])

    def _check(self) -> None:
        for name, sets in self._structures.items():
            for structure in sets:
                violation = structure.check(self._weights[name].detach())
                if violation is not None:
                    raise StructureError(
                        f"{name!r} is not {structure.text}, {violation}; project it first, or "
                        "give the structures in the order in which it was projected"
                    )
