"""What a training has cost and how it went, epoch by epoch."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class EpochRow:
    """One epoch of a training.

    Attributes:
        epoch: from 0.
        examples: seen.
        macs: multiply-accumulates of the dense kernels that ran, forward and backward.
        kept_macs: those among them whose weight was not zero when the epoch began; kernels that
            know the zeros would need no more, if the zeros stay (their gradients are not needed).
        losses: mean of each term.
    """

    epoch: int
    examples: int
    macs: int
    kept_macs: int
    losses: dict[str, float]


@dataclass
class Ledger:
    """Rows of finished epochs, and the sums of the one that is running.

    Args:
        macs_per_example: forward and backward multiply-accumulates of the network as executed.
    """

    macs_per_example: int
    kept_per_example: int = 0
    rows: list[EpochRow] = field(default_factory=list)
    _examples: int = 0
    _steps: int = 0
    _sums: dict[str, float] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all finished epochs."""
        return sum(row.macs for row in self.rows)

    @property
    def kept_macs(self) -> int:
        """Those with weights that were not zero."""
        return sum(row.kept_macs for row in self.rows)

    def open_epoch(self, kept_per_example: int) -> None:
        """Take note of the multiply-accumulates per example with weights that are not zero."""
        self.kept_per_example = kept_per_example

    def add(self, examples: int, losses: dict[str, torch.Tensor]) -> None:
        """Count one step."""
        self._examples += examples
        self._steps += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())

    def close_epoch(self, epoch: int) -> None:
        """Write the row of an epoch."""
        means = {name: value / self._steps for name, value in self._sums.items()}
        macs = self._examples * self.macs_per_example
        kept = self._examples * self.kept_per_example
        self.rows.append(EpochRow(epoch, self._examples, macs, kept, means))
        self._examples, self._steps, self._sums = 0, 0, {}

    def state_dict(self) -> dict[str, Any]:
        """Rows and running sums."""
        rows = [astuple(row) for row in self.rows]
        running = [self._examples, self._steps, dict(self._sums), self.kept_per_example]
        return {"rows": rows, "running": running}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.rows = [EpochRow(*row) for row in state["rows"]]
        self._examples, self._steps, self._sums, self.kept_per_example = state["running"]
