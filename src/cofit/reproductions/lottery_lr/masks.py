"""Where masks come from: global magnitude, rounds of it, any structure, and ADMM towards any.

A source is named as in `mask_source`: "global", "iterative", a form of structure ("unstructured",
"block16x1", "pattern8g1", "nm2:4", ...), or "admm:" and such a form. A pruning rate behind it
("global@11.6", "iterative@22.7", "block16x1@4") gives it a sparsity of its own, 1 - 1/rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import nn

from cofit.core import ConfigError, StructureError
from cofit.regimes import ADMM, Masked, Regime
from cofit.structures import Structure, family
from cofit.structures.counting import keep_largest

State = Mapping[str, torch.Tensor]
Masks = dict[str, torch.Tensor]
"""Bool, by weight name, True where a weight stays."""

Trainer = Callable[[State, Regime | None, str], dict[str, torch.Tensor]]
"""Trains from a state under a regime, under a name of its own; gives the trained state."""

ROUND_SHARE = 0.2
"""Share of the remaining weights that a round of iterative pruning takes."""


class MaskSource(Protocol):
    """A pruning algorithm that gives masks."""

    @property
    def name(self) -> str:
        """As `mask_source` reads it."""
        ...

    def masks(
        self, weights: tuple[str, ...], initial: State, trained: State, train: Trainer
    ) -> Masks:
        """Masks of the named weights.

        Args:
            weights: names of the weights that may be pruned.
            initial: state before training.
            trained: state after it.
            train: trains with the same epochs and the same order of data as every phase.
        """
        ...


@dataclass(frozen=True)
class Global:
    """One shot: the largest magnitudes over all layers, ceil(n (1 - sparsity)) of them."""

    sparsity: float
    name: str = "global"

    def masks(
        self, weights: tuple[str, ...], initial: State, trained: State, train: Trainer
    ) -> Masks:
        """By the trained weights."""
        return _largest({n: trained[n] for n in weights}, _target(trained, weights, self.sparsity))


@dataclass(frozen=True)
class Iterative:
    """Rounds that each take 20 % of what is left, retraining from the initial weights in between.

    After round k 0.8^k of the weights are left, the last round ends at the sparsity exactly.
    Source: Frankle and Carbin, ICLR 2019; the share as in the group's public scripts.
    """

    sparsity: float
    name: str = "iterative"

    def masks(
        self, weights: tuple[str, ...], initial: State, trained: State, train: Trainer
    ) -> Masks:
        """Prune, rewind, train, prune on, until the sparsity is reached."""
        kept = [*self.counts(sum(trained[n].numel() for n in weights))]
        found = _largest({n: trained[n] for n in weights}, kept[0])
        for number, count in enumerate(kept[1:], 1):
            state = train(masked(initial, found), Masked(weights), f"round{number}")
            left = {n: state[n].masked_fill(~found[n], 0.0) for n in weights}
            found = _largest(left, count)
        return found

    def counts(self, size: int) -> tuple[int, ...]:
        """Weights left after every round, of `size`."""
        least = math.ceil(size * (1 - self.sparsity) - 1e-9)
        counts: list[int] = []
        while not counts or counts[-1] > least:
            counts.append(max(least, round(size * (1 - ROUND_SHARE) ** (len(counts) + 1))))
        return tuple(counts)


@dataclass(frozen=True)
class Projected:
    """The zeros of a structure's projection, layer by layer; layers it does not suit stay dense.

    Attributes:
        structure: any.
        admm: draw the weights to the structure first, for as long as any phase trains.
        name: as `mask_source` reads it.
    """

    structure: Structure
    admm: bool
    name: str

    def masks(
        self, weights: tuple[str, ...], initial: State, trained: State, train: Trainer
    ) -> Masks:
        """By the trained weights, or by those that ADMM has drawn to the structure."""
        suited = [n for n in weights if self.structure.applies(tuple(trained[n].shape)) is None]
        if not suited:
            raise StructureError(
                f"{self.structure.text} applies to no weight of the network; the first, "
                f"{weights[0]!r}, {self.structure.applies(tuple(trained[weights[0]].shape))}"
            )
        if self.admm:
            drawn = ADMM({n: (self.structure,) for n in suited}, stages=4, stage_epochs=1)
            trained = train(trained, drawn, "admm")
        found = {n: torch.ones_like(trained[n], dtype=torch.bool) for n in weights}
        return found | {n: self.structure.project(trained[n]) != 0 for n in suited}


def mask_source(name: str, sparsity: float) -> Global | Iterative | Projected:
    """The source of that name at a sparsity.

    Args:
        name: see the module.
        sparsity: share of weights that go, in (0, 1), where the name gives no rate; a structure of
            fixed rate keeps its own.

    Raises:
        ConfigError: the sparsity is not in (0, 1), or the rate no number above 1.
        UnknownNameError: no such structure.
    """
    base, at, rate_text = name.partition("@")
    if at:
        return replace(mask_source(base, 1 - 1 / _rate(name, rate_text)), name=name)
    if not 0 < sparsity < 1:
        raise ConfigError(f"sparsity {sparsity}; it must be above 0 and below 1, so weights remain")
    if name == "global":
        return Global(sparsity)
    if name == "iterative":
        return Iterative(sparsity)
    prefix, _, form = name.rpartition("admm:")
    made = family(form)
    rate = made.least_rate if made.fixed else round(1 / (1 - sparsity), 9)
    return Projected(made(rate), name.startswith("admm:") and not prefix, name)


def _rate(name: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 1 < rate < math.inf:
        raise ConfigError(f"{text!r} in {name!r} is no pruning rate; give a number above 1")
    return rate


def prunable(model: nn.Module) -> tuple[str, ...]:
    """Names of the weights that may be pruned: all parameters of two or more axes."""
    return tuple(name for name, p in model.named_parameters() if p.dim() > 1)


def masked(state: State, masks: Masks) -> dict[str, torch.Tensor]:
    """The state with +0.0 where a mask drops a weight."""
    return {
        name: value.masked_fill(~masks[name], 0.0) if name in masks else value.clone()
        for name, value in state.items()
    }


def density(masks: Masks) -> float:
    """Share of weights that stay."""
    return sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


def _target(state: State, weights: tuple[str, ...], sparsity: float) -> int:
    return math.ceil(sum(state[n].numel() for n in weights) * (1 - sparsity) - 1e-9)


def _largest(values: State, count: int) -> Masks:
    flat = torch.cat([value.abs().reshape(-1) for value in values.values()])
    kept = keep_largest(flat, count).split([value.numel() for value in values.values()])
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(values.items(), kept, strict=True)
    }
