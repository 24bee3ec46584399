"""Stages of a fit on disk, so that a fit killed at any moment goes on to the same result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cofit.core import ConfigError, read_json, write_json


class State:
    """Results of finished stages in one folder. A stage is whole or absent.

    A stage is any JSON value; files a stage writes beside it (weights, graphs) go to `path(name)`
    and must be whole before `done` is called, which is what `stage` does.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Open or start the state of a fit with this key.

        Raises:
            ConfigError: the folder holds the state of another fit.
        """
        self.folder = folder
        stamp = folder / "key.json"
        if stamp.exists():
            found = read_json(stamp).get("key")
            if found != key:
                raise ConfigError(
                    f"{str(folder.parent)!r} holds another fit ({found}, this one is {key}); "
                    "choose another --out, or delete it to start again"
                )
        else:
            shutil.rmtree(folder, ignore_errors=True)
            write_json(stamp, {"key": key})

    def path(self, name: str) -> Path:
        """A file of the state, by name."""
        return self.folder / name

    def stage(self, name: str, compute: Callable[[], Any]) -> Any:
        """The stored result of a stage, computed and stored first if it is not there."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            write_json(file, compute())
        return read_json(file)
