"""What can be refused before anything long begins or anything is written."""

from __future__ import annotations

import os
from pathlib import Path

from cofit.codegen.save import check_replaceable
from cofit.core import Budget, FileError
from cofit.fit.config import FitConfig
from cofit.fit.devices import device


def check(config: FitConfig) -> None:
    """Check target, precision, budget, compiler and folder of a fit.

    Raises:
        CofitError: naming what is wrong and what is allowed.
    """
    chosen = device(config.target)
    chosen.precisions(config.precision)
    Budget.parse(config.budget).resolve(dict.fromkeys(chosen.metrics, 1.0), chosen.name)
    chosen.ready()
    check_folder(config.out)
    check_replaceable(config.out / "deploy")


def check_folder(folder: Path) -> None:
    """Check that a folder is there or can be made, and can be written into.

    Raises:
        FileError: saying what is in the way.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise FileError(
            f"cannot write into {str(folder)!r}: {str(there)!r} is no folder; choose another"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise FileError(
            f"cannot write into {str(folder)!r}: {str(there)!r} is not writable; choose another"
        )
