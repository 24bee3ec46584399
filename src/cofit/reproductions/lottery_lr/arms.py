"""One seed at one learning rate: dense training, a mask, and the arms that use it.

Every phase trains the same epochs on the same order of data; only weights differ. An arm starts
from the whole state of its name, biases and batch norm statistics included: those before training
(ticket), freshly drawn ones (again), or the trained ones (finetune).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from cofit.core import ConfigError, derive_seed
from cofit.data import Dataset
from cofit.regimes import Ledger, Masked, Recipe, Regime
from cofit.reproductions.harness import Step, accuracy, seeded, train
from cofit.reproductions.lottery_lr.masks import Masks, MaskSource, State, masked, prunable

Arm = Literal["ticket", "again", "finetune", "finetune low"]
ARMS: tuple[Arm, ...] = get_args(Arm)
LOW = 0.1
"""The fine-tuning rate as a share of the rate of training; plain "finetune" restarts at that."""


@dataclass(frozen=True)
class Phase:
    """A finished training.

    Attributes:
        state: of the network.
        accuracy: by split.
        epochs: trained.
        steps: of the optimiser.
    """

    state: dict[str, torch.Tensor]
    accuracy: dict[str, float]
    epochs: int
    steps: int


@dataclass(frozen=True)
class Trial:
    """What all phases of one seed at one rate share.

    Attributes:
        build: makes the network, drawing weights from the global generator.
        data: its augmentations are used.
        rate: learning rate at the first step.
        epochs: of every phase.
        seed: of weights, order and augmentation.
        batch: examples per step.
    """

    build: Callable[[], nn.Module]
    data: Dataset
    rate: float
    epochs: int
    seed: int
    batch: int = 128

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights that may be pruned."""
        return prunable(self._network("initial"))

    def initial(self) -> dict[str, torch.Tensor]:
        """The state before training, the same bits at each call."""
        return _copy(self._network("initial"))

    def dense(self, step: Step) -> Phase:
        """Train all weights from the initial state."""
        return self.phase(step, self.initial(), None, "dense")

    def masks(self, step: Step, source: MaskSource, initial: State, trained: State) -> Masks:
        """Masks of a source; what it trains is trained as any phase."""

        def training(state: State, regime: Regime | None, name: str) -> dict[str, torch.Tensor]:
            return self.phase(step, state, regime, name).state

        return source.masks(self.weights, initial, trained, training)

    def start(self, arm: Arm, masks: Masks, initial: State | None, trained: State) -> State:
        """The masked state that an arm trains from.

        Raises:
            ConfigError: the ticket needs the initial state and it was not kept.
        """
        if arm == "ticket":
            if not initial:
                raise ConfigError(
                    "the ticket arm needs the weights before training, and they were not stored; "
                    "store the initial state, or rebuild it from the seed"
                )
            return masked(initial, masks)
        if arm == "again":
            return masked(_copy(self._network("again")), masks)
        return masked(trained, masks)

    def arm(
        self, step: Step, arm: Arm, masks: Masks, initial: State | None, trained: State
    ) -> Phase:
        """Train an arm; what its mask drops stays at zero."""
        share = LOW if arm == "finetune low" else 1.0
        start = self.start(arm, masks, initial, trained)
        return self.phase(step, start, Masked(self.weights), arm.replace(" ", "-"), share)

    def phase(
        self, step: Step, start: State, regime: Regime | None, name: str, share: float = 1.0
    ) -> Phase:
        """Train from a state; order and augmentation are those of every other phase."""
        model = self._network("initial")
        model.load_state_dict(dict(start))
        recipe = Recipe(self.epochs, self.rate * share)
        order = derive_seed(self.seed, "lottery", "order")
        trained, ledger = train(step, model, self.data, recipe, order, regime, name, self.batch)
        found = {
            "validation": accuracy(trained, self.data.validation),
            "test": accuracy(trained, self.data.test),
        }
        return Phase(_copy(trained), found, len(ledger.rows), _steps(ledger, self.batch))

    def _network(self, name: str) -> nn.Module:
        return seeded(self.build, self.seed, "lottery", name)


def fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, shapes and bits; equal only for equal states."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def _steps(ledger: Ledger, batch: int) -> int:
    return sum(row.examples for row in ledger.rows) // batch
