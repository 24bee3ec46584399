"""The run of one reproduction: named steps whose results are kept, so a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from cofit.core import ConfigError, read_json, read_tensors, write_json, write_tensors
from cofit.regimes import Checkpoint
from cofit.reproductions.harness.outcome import Scale

S = TypeVar("S")
Progress = Callable[[str, int, int], None]
Results = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What a step's function is given.

    Attributes:
        name: of the step.
        folder: scratch of this step, for checkpoints; kept until the step is done.
        progress: to be called with (stage, done, total); `cofit.regimes.fit` takes it as it is.
    """

    name: str
    folder: Path
    progress: Progress

    def checkpoint(self, name: str = "training", every: int = 200) -> Checkpoint:
        """A place where a training of this step saves itself."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Checkpoint(self.folder / f"{name}.ckpt", every)


@dataclass(frozen=True)
class Study(Generic[S]):
    """Settings and stored steps of a run.

    Attributes:
        scale: how much is done.
        settings: the reproduction's own, a frozen dataclass of JSON values.
        seeds: one training per seed where training is involved.
        folder: where results are kept.
        progress: see `Step`.
    """

    scale: Scale
    settings: S
    seeds: tuple[int, ...]
    folder: Path
    progress: Progress

    def step(self, name: str, compute: Callable[[Step], Mapping[str, Any]]) -> Results:
        """The results of `compute`, or those stored when it was done before.

        A step that is killed is done again; its trainings go on from their checkpoints.

        Args:
            name: unlike any other of the run, seed included; letters, digits and ".-_ ".
            compute: gives tensors and JSON values by name. Ratios of times are to be measured
                inside one step.
        """
        if not re.fullmatch(r"[\w. -]+", name):
            raise ConfigError(f"step name {name!r}; use letters, digits, '.', '-', '_' and spaces")
        stem = self.folder / "steps" / name.replace(" ", "_")
        done, tensors = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".tensors")
        if not done.exists():
            start = time.monotonic()
            scratch = self.folder / "scratch" / stem.name
            found = dict(compute(Step(name, scratch, self._staged(name))))
            large = {key: v for key, v in found.items() if isinstance(v, torch.Tensor)}
            plain = {key: v for key, v in found.items() if key not in large}
            write_tensors(tensors, large)
            write_json(done, {"seconds": time.monotonic() - start, "values": plain})
            for left in sorted(scratch.glob("*")) if scratch.exists() else ():
                left.unlink()
        return {**read_json(done)["values"], **read_tensors(tensors)}

    def seconds(self) -> float:
        """Time of all steps that are done."""
        steps = sorted((self.folder / "steps").glob("*.json"))
        return sum(float(read_json(path)["seconds"]) for path in steps)

    def _staged(self, name: str) -> Progress:
        def report(stage: str, done: int, total: int) -> None:
            self.progress(f"{name}: {stage}", done, total)

        return report


def identity(name: str, scale: Scale, settings: Mapping[str, Any], seeds: tuple[int, ...]) -> str:
    """What a folder is checked against before its steps are taken as this run's."""
    text = json.dumps([name, scale, settings, seeds], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
