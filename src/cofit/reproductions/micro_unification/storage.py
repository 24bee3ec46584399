"""What a network takes in storage, and what it computes, read off its encoded weights."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cofit.regimes import Trace
from cofit.regimes.budget_controller import bisect
from cofit.structures import Family, Structure, Unify

LEVEL = 9
"""Of zlib, the entropy coder of every contender."""

MULTIPLY_J, ADD_J = 3.7e-12, 0.9e-12
"""fp32 at 45 nm: M. Horowitz, "Computing's Energy Problem", ISSCC 2014, figure 1.1.9."""

RATE_STEP = 5e-3


@dataclass(frozen=True)
class Stored:
    """Bytes of all weights of convolutions and linear layers: as encoded, and coded by zlib."""

    raw: int
    coded: int


@dataclass(frozen=True)
class Operations:
    """Of one forward pass on one input."""

    multiplies: int
    additions: int

    @property
    def energy_j(self) -> float:
        """Modelled, fp32 arithmetic alone."""
        return self.multiplies * MULTIPLY_J + self.additions * ADD_J


def stored(model: nn.Module, structures: Mapping[str, Structure]) -> Stored:
    """Bytes of the weights; one without a structure is stored as float32.

    Raises:
        StructureError: a weight is not a member of its structure.
    """
    raw, coded = 0, 0
    for name, weight in _weights(model).items():
        payload = _payload(weight, structures.get(name))
        raw += len(payload)
        coded += len(zlib.compress(payload, LEVEL))
    return Stored(raw, coded)


def rate_for(
    budget_bytes: int, model: nn.Module, names: list[str], form: Family, most: float = 32.0
) -> float:
    """Pruning rate at which a form's projection of a network takes so many coded bytes.

    Raises:
        InfeasibleError: even the highest rate takes more.
    """

    def nbytes(rate: float) -> int:
        total = 0
        for name, weight in _weights(model).items():
            structure = form(rate) if name in names else None
            member = weight if structure is None else structure.project(weight)
            total += len(zlib.compress(_payload(member, structure), LEVEL))
        return total

    return bisect(nbytes, budget_bytes, form.least_rate, most, RATE_STEP)


def operations(
    model: nn.Module, structures: Mapping[str, Structure], sample: torch.Tensor
) -> Operations:
    """Multiplies and additions of the traced layers with the weights they have.

    A row of a unified block takes one multiply and an addition per weight, any other weight one of
    each, a zero nothing.

    Args:
        model: as trained.
        structures: by weight name.
        sample: one input (1, ...).
    """
    with torch.no_grad(), Trace(model.eval()) as trace:
        model(sample)
    weights = _weights(model)
    multiplies, additions = 0, 0
    for layer in trace.layers:
        weight = weights[layer.name]
        positions = layer.macs // weight.numel()
        kept = int((weight != 0).sum())
        structure = structures.get(layer.name)
        saved = _saved(structure, weight) if isinstance(structure, Unify) else 0
        multiplies += positions * (kept - saved)
        additions += positions * kept
    return Operations(multiplies, additions)


def _saved(structure: Unify, weight: torch.Tensor) -> int:
    """Multiplies saved by unified blocks at one output position."""
    tiles = structure.tiles(tuple(weight.shape))
    _, unified = structure.members(weight)
    rows = (tiles.split(weight) != 0).reshape(-1, tiles.out, tiles.in_).sum(2)
    return int((rows - 1).clamp(min=0)[unified].sum())


def _payload(weight: torch.Tensor, structure: Structure | None) -> bytes:
    values = weight.numpy()
    if structure is None:
        return values.tobytes()
    return b"".join(array.tobytes() for array in structure.encode(values).arrays.values())


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1
    }
