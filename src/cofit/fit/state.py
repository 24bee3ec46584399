"""Stages of a fit on disk, so that a fit killed at any moment goes on to the same result."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cofit.core import ConfigError, read_json, write_json


class State:
    """Results of finished stages in one folder. A stage is whole or absent.

    A stage is any JSON value; files a stage writes beside it (weights, graphs) go to `path(name)`
    and must be whole when its computation ends. The time that stages took is kept with them, so
    that a fit which was killed knows how long it took in all.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Look at the state of a fit with this key; nothing is written before `begin`.

        Raises:
            ConfigError: the folder holds the state of another fit.
        """
        self.folder = folder
        self._key = key
        self._stamp = folder / "key.json"
        self._made = not folder.parent.exists()
        self._started, self._before_s = time.monotonic(), 0.0
        if self._stamp.exists():
            stamp = read_json(self._stamp)
            found, self._before_s = stamp.get("key"), stamp.get("seconds", 0.0)
            if found != key:
                raise ConfigError(
                    f"{str(folder.parent)!r} holds another fit ({found}, this one is {key}); "
                    "choose another --out, or delete it to start again"
                )
        elif folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise ConfigError(
                f"{str(folder)!r} holds files that are no fit's; choose another --out"
            )

    def begin(self) -> None:
        """Make the folder, unless it is there, and take away what was left half-written."""
        if not self._stamp.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._before_s = 0.0
            self.keep_time()
        for unfinished in self.folder.glob(".*"):  # a killed process was writing it
            unfinished.unlink()

    @property
    def seconds(self) -> float:
        """Wall-clock time of this process, and of those before up to their last stages."""
        return self._before_s + time.monotonic() - self._started

    def keep_time(self) -> None:
        """Store the time until now, so that it counts although this process may be killed."""
        write_json(self._stamp, {"key": self._key, "seconds": round(self.seconds, 3)})

    def discard(self) -> None:
        """Remove the state, and the folder of results if it was made for it."""
        if self._stamp.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._made:
            with contextlib.suppress(OSError):  # results are in it
                self.folder.parent.rmdir()

    def path(self, name: str) -> Path:
        """A file of the state, by name."""
        return self.folder / name

    def stage(self, name: str, compute: Callable[[], Any]) -> Any:
        """The stored result of a stage, computed and stored first if it is not there."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            write_json(file, compute())
            self.keep_time()
        return read_json(file)
