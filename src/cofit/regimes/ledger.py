"""What a training has cost and how it went, epoch by epoch."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class EpochRow:
    """One epoch: examples seen, multiply-accumulates of its training, mean of each loss term."""

    epoch: int
    examples: int
    macs: int
    losses: dict[str, float]


@dataclass
class Ledger:
    """Rows of finished epochs, and the sums of the one that is running.

    Args:
        macs_per_example: forward and backward multiply-accumulates of the network as executed.
    """

    macs_per_example: int
    rows: list[EpochRow] = field(default_factory=list)
    _examples: int = 0
    _steps: int = 0
    _sums: dict[str, float] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all finished epochs."""
        return sum(row.macs for row in self.rows)

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
        self.rows.append(EpochRow(epoch, self._examples, macs, means))
        self._examples, self._steps, self._sums = 0, 0, {}

    def state_dict(self) -> dict[str, Any]:
        """Rows and running sums."""
        rows = [astuple(row) for row in self.rows]
        return {"rows": rows, "running": [self._examples, self._steps, dict(self._sums)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.rows = [EpochRow(*row) for row in state["rows"]]
        self._examples, self._steps, self._sums = state["running"]
