"""Fine-tuning in unified blocks: of each only its value is trained, signs and blocks are frozen.

The weight of a unified block is s_i v, so dL/dv = sum_i s_i dL/dw_i, and the magnitudes of a block
stay equal to the bit whatever the optimiser does (Lin et al., arXiv 2106.08301).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from cofit.core import StructureError
from cofit.regimes.attachment import parametrise, suited_weight
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.regimes.gates import straight_through
from cofit.structures import Unify
from cofit.structures.unify import half


class Unified(Regime):
    """Trains weights that are members of `Unify`, for example those an ADMM has hardened.

    Free blocks are trained as usual, pruned ones stay zero. The gradient of a value is divided by
    the weights that share it: a step then moves them as far as a step of free weights would.

    Values, signs and blocks are part of the model until `finalize`, so its state is this regime's.

    Args:
        structures: by parameter name.
    """

    def __init__(self, structures: Mapping[str, Unify]) -> None:
        self._structures = dict(structures)
        self._blocks: dict[str, Blocks] = {}
        self._weights: dict[str, nn.Parameter] = {}
        self._handle = Handle()

    def slots(self) -> frozenset[Slot]:
        """One mask slot per weight."""
        return frozenset(Slot(name, Role.MASK) for name in self._structures)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Read classes, signs and values from the weights, and parametrise them.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a weight that is not a member, naming it.
        """
        self._weights = {
            name: suited_weight(model, name, structure)
            for name, structure in self._structures.items()
        }
        self._blocks = {
            name: Blocks(name, structure, self._weights[name].detach())
            for name, structure in self._structures.items()
        }
        undo = [parametrise(model, name, blocks) for name, blocks in self._blocks.items()]
        self._handle = Handle(*undo)
        return self._handle

    def after_backward(self) -> None:
        """Scale the gradients of values."""
        for blocks in self._blocks.values():
            if blocks.value.grad is not None:
                blocks.value.grad.div_(blocks.size)

    def finalize(self, model: nn.Module) -> nn.Module:
        """Write the weights as they were used, and take the values away."""
        with torch.no_grad():
            trained = {name: blocks(self._weights[name]) for name, blocks in self._blocks.items()}
            self._handle.remove()
            for name, weight in trained.items():
                self._weights[name].copy_(weight)
        return model


class Blocks(nn.Module):
    """Reads a weight through its blocks: s v where unified, itself where free, else zero.

    Attributes:
        value: (B,) magnitude of each block; that of free and pruned blocks is not used.
        sign: shape of the weight; -1 or 1 in unified blocks, else 0.
        free: shape of the weight; whether the weight is trained by itself.
        size: (B,) weights that share a value, at least 1.
    """

    sign: torch.Tensor
    free: torch.Tensor
    size: torch.Tensor

    def __init__(self, name: str, structure: Unify, weight: torch.Tensor) -> None:
        super().__init__()
        violation = structure.check(weight)
        if violation is not None:
            raise StructureError(
                f"{name!r} is not {structure.text}, {violation}; project it before fine-tuning"
            )
        self._tiles = structure.tiles(tuple(weight.shape))
        pruned, unified = structure.members(weight)
        marks = self._tiles.join(unified[:, None].expand(-1, self._tiles.size))
        free = ~(pruned | unified)
        self.register_buffer("sign", torch.where(weight < 0, -1.0, 1.0) * marks)
        self.register_buffer("free", self._tiles.join(free[:, None].expand(-1, self._tiles.size)))
        size = self._tiles.split(marks.float()).sum(1).clamp(min=1)
        self.register_buffer("size", size)
        self.value = nn.Parameter(self._tiles.split(weight).abs().amax(1))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that is used, shape of `weight`; its values have 16 bits, straight through."""
        stored = straight_through(self.value, half(self.value.detach()).to(self.value.dtype))
        spread = self._tiles.join(stored[:, None].expand(-1, self._tiles.size))
        return torch.where(self.free, weight, self.sign * spread + 0.0)
