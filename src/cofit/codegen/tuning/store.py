"""Measured winners on disk: one file for each layer that was tuned on one CPU with one compiler."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cofit.codegen.build import Toolchain
from cofit.codegen.machine import cpu_name
from cofit.core import FileError, cache_dir, read_json, write_json

SPREAD_LIMIT = 0.2
"""A winner whose rounds lie further apart is neither used nor kept: the machine was too busy."""


@dataclass(frozen=True)
class Tried:
    """One candidate and its time.

    Attributes:
        kernel: its `repr`.
        seconds: least of the rounds.
        spread: of the rounds, relative.
    """

    kernel: str
    seconds: float
    spread: float


@dataclass(frozen=True)
class Record:
    """What was measured of one layer; the file says where."""

    cpu: str
    compiler: str
    layer: str
    tried: tuple[Tried, ...]

    @property
    def winner(self) -> Tried:
        """The fastest."""
        return min(self.tried, key=lambda each: each.seconds)


_RECORD = TypeAdapter(Record)


def path_of(chosen: Toolchain, layer: str, texts: Sequence[str]) -> Path:
    """File of a layer; `texts` is all that was tried, as compiled."""
    digest = hashlib.sha256()
    for part in (cpu_name(), chosen.version, layer, *texts):
        digest.update(part.encode() + b"\0")
    return cache_dir() / "tuning" / f"{digest.hexdigest()[:32]}.json"


def load(path: Path, kernels: Sequence[str]) -> Record | None:
    """The record of these kernels; None if there is none, or it is damaged."""
    if not path.is_file():
        return None
    try:
        found = _RECORD.validate_python(read_json(path))
    except (FileError, ValidationError):
        return None
    usable = all(each.seconds > 0 for each in found.tried)
    return found if usable and [each.kernel for each in found.tried] == list(kernels) else None


def keep(path: Path, chosen: Toolchain, layer: str, tried: Sequence[Tried]) -> Record | None:
    """Store what was measured; None, and nothing on disk, where the winner's spread is too large.

    Raises:
        FileError: the cache folder cannot be written.
    """
    record = Record(cpu_name(), chosen.version, layer, tuple(tried))
    if record.winner.spread > SPREAD_LIMIT:
        return None
    write_json(path, asdict(record))
    return record
