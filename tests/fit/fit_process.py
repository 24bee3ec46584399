"""Fits in processes of their own: python fit_process.py FOLDER [when to die while saving]."""

import os
import signal
import sys
from pathlib import Path

from fit_cases import tiny

from cofit.fit import run_fit


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_saving(moment):
    """Die before the folder is written, half-way through, or between the two renames."""
    from cofit.codegen import save

    if moment == "writing":
        save.manifest = die
    if moment == "renaming":
        rename = Path.rename

        def away(self, target):
            found = rename(self, target)
            die()
            return found

        Path.rename = away
    if moment == "summary":
        replace = Path.replace

        def last(self, target):
            return die() if target.name == "summary.json" else replace(self, target)

        Path.replace = last


def tell(stage, done, total):
    print(stage, done, total, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        die_while_saving(sys.argv[2])
    run_fit(tiny(sys.argv[1]), tell)
