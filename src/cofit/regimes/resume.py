"""Saving a training run while it goes, and going on from what was saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from cofit.core import ConfigError
from cofit.regimes.checkpoint import load_checkpoint, save_checkpoint
from cofit.regimes.contract import Regime
from cofit.regimes.recipe import restore_optimiser


class Record(Protocol):
    """What a run writes down as it goes, for example a `Ledger`."""

    def state_dict(self) -> dict[str, Any]:
        """As of a regime."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        ...


@dataclass(frozen=True)
class Run:
    """The parts of a training run that change; `settings` must not, and are compared on resume."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    regime: Regime
    ledger: Record
    settings: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run is saved.

    Args:
        path: the file; each save replaces it, whole or not at all.
        every: steps between two saves.
    """

    path: Path
    every: int = 100

    def save(self, run: Run, step: int) -> None:
        """Write the run after `step` steps, if a save is due."""
        if step % self.every == 0:
            save_checkpoint(
                self.path,
                {
                    "step": step,
                    "settings": run.settings,
                    "model": dict(run.model.state_dict()),
                    "optimiser": run.optimiser.state_dict(),
                    "regime": run.regime.state_dict(),
                    "ledger": run.ledger.state_dict(),
                },
            )

    def resume(self, run: Run) -> int:
        """Restore the run if the file exists; returns the number of steps it has done.

        Raises:
            ConfigError: the file is of a run with other settings.
            FileError: the file is not a whole checkpoint.
        """
        if not self.path.exists():
            return 0
        state = load_checkpoint(self.path)
        if state["settings"] != run.settings:
            raise ConfigError(
                f"checkpoint {str(self.path)!r} is of a run with {state['settings']}, this one "
                f"has {run.settings}; resume with the same settings or remove the file"
            )
        run.model.load_state_dict(state["model"])
        restore_optimiser(run.optimiser, state["optimiser"])
        run.regime.load_state_dict(state["regime"])
        run.ledger.load_state_dict(state["ledger"])
        step: int = state["step"]
        return step
