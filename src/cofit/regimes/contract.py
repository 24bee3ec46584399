"""The Regime contract: how a network is driven somewhere while an ordinary loop trains it.

A regime owns no loop. Subclass `Regime` and override what you need; every method has a neutral
default, so an empty regime changes nothing, bit for bit. The loop is

    stack.before_step(step, total)
    outputs = model(inputs)
    context = Context(step, inputs, targets, outputs)
    parts = {"task": criterion(outputs, targets)} | stack.loss(context)
    sum(parts.values()).backward()
    stack.after_backward()
    optimiser.step()
    stack.after_step()

with `on_epoch(epoch)` at the start of each epoch and `finalize(model)` at the end. Randomness comes
from generators the regime is given; the global generator is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import nn


class Role(IntEnum):
    """What a regime does at a slot, in the one order in which roles compose.

    Forward: gates, then weights (structure before mask before quantise, so that zeros stay zero and
    codes stay legal). Backward: prune the gradient first, for its threshold is a statistic of full
    precision and quantising first would make false zeros.
    """

    ADAPTIVE_GATE = 0
    ACTIVATION_GATE = 1
    STRUCTURE = 2
    MASK = 3
    QUANTISE = 4
    PRUNE_GRADIENT = 5
    QUANTISE_GRADIENT = 6


@dataclass(frozen=True)
class Slot:
    """A module ("layer.3") or parameter ("layer.3.weight") and what is done to it."""

    name: str
    role: Role


@dataclass(frozen=True)
class Context:
    """One step as the loss terms see it."""

    step: int
    inputs: torch.Tensor
    targets: torch.Tensor
    outputs: torch.Tensor


class Handle:
    """What `attach` gives; `remove()` restores the model bit for bit, apart from trained values.

    Args:
        undo: the inverse of each change, in the order the changes were made.
    """

    def __init__(self, *undo: Callable[[], None]) -> None:
        self._undo = list(undo)

    def remove(self) -> None:
        """Undo the attachment, last change first. Calling twice is harmless."""
        while self._undo:
            self._undo.pop()()


class Regime:
    """Base with neutral methods; see the module for when each is called."""

    @property
    def name(self) -> str:
        """Prefix of this regime's loss terms and key of its state in a stack."""
        return type(self).__name__.lower()

    def slots(self) -> frozenset[Slot]:
        """What this regime changes.

        A stack refuses two regimes with one slot, and roles at one name that break their order.
        """
        return frozenset()

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to a model, once, before the optimiser is made; `sample` is one input batch."""
        return Handle()

    def param_groups(self) -> list[dict[str, Any]]:
        """Extra optimiser groups (own parameters, own learning rates)."""
        return []

    def before_step(self, step: int, total: int) -> None:
        """Schedules; `step` counts from 0 over the whole training of `total` steps."""

    def loss(self, context: Context) -> Mapping[str, torch.Tensor]:
        """Named scalar terms to add to the task loss, in float32."""
        return {}

    def after_backward(self) -> None:
        """Gradients are there; the optimiser has not stepped."""

    def after_step(self) -> None:
        """The optimiser has stepped."""

    def on_epoch(self, epoch: int) -> None:
        """Start of epoch `epoch` (from 0)."""

    def finalize(self, model: nn.Module) -> nn.Module:
        """Harden: the model that is deployed, a plain module without attachments."""
        return model

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: tensors, numbers, generator states.

        Values are tensors, JSON scalars, and lists, tuples and dicts of them.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`, after `attach`."""
