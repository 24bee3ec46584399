"""Checkpoints of several ranks that go on from one step."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cofit.core import clear_unfinished
from cofit.graphs.halo.transport import Transport
from cofit.regimes import Checkpoint
from cofit.regimes.resume import Run

KEPT = 2
"""When a training is killed, a rank may have saved once more than another."""


@dataclass(frozen=True)
class RankCheckpoint(Checkpoint):
    """The files of one rank; all ranks go on from the last step that every one has saved.

    Args:
        path: folder of the run, which the ranks may share.
        every: steps between two saves.
        transport: to agree by.
    """

    transport: Transport = field(kw_only=True)

    def save(self, run: Run, step: int) -> None:
        """Write this rank's state after `step` steps, if a save is due."""
        if step % self.every:
            return
        path = self._file(step)
        clear_unfinished(path)
        Checkpoint(path, self.every).save(run, step)
        saved = self._saved()
        kept = sorted(number for number in saved if number <= step)[-KEPT:]
        for number in set(saved) - set(kept):
            saved[number].unlink()

    def resume(self, run: Run) -> int:
        """Restore the last step that all ranks have; 0 if there is none.

        Raises:
            ConfigError: the files are of a run with other settings.
            FileError: a file is not a whole checkpoint.
            CommunicationError: a rank is gone.
        """
        mine = sorted(self._saved())[-KEPT - 1 :]
        table = torch.zeros(self.transport.size, KEPT + 1, dtype=torch.int64)
        table[self.transport.rank, : len(mine)] = torch.tensor(mine, dtype=torch.int64)
        self.transport.all_reduce(table)
        common = set.intersection(*(set(row) for row in table.tolist())) - {0}
        if not common:
            return 0
        return Checkpoint(self._file(max(common)), self.every).resume(run)

    def _file(self, step: int) -> Path:
        return self.path / f"rank{self.transport.rank}-step{step}.safetensors"

    def _saved(self) -> dict[int, Path]:
        name = re.compile(rf"rank{self.transport.rank}-step(\d+)\.safetensors")
        found = ((name.fullmatch(path.name), path) for path in self.path.glob("rank*"))
        return {int(match[1]): path for match, path in found if match}
