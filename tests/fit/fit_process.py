"""Fits in processes of their own.

`python fit_process.py FOLDER` fits in this process. `python fit_process.py`, given a line of JSON
[FOLDER, MOMENT, FILE] on its standard input, fits in a child that finds everything imported, tells
its stages to FILE and dies at MOMENT of saving ("" for never); it says the child's number on a
line, then how it ended, and waits for the next.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from fit_cases import tiny
from torch import nn

from cofit.fit import run_fit
from cofit.ir import trace


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


def serve():
    for line in sys.stdin:
        folder, moment, told = json.loads(line)
        child = os.fork()
        if child == 0:
            sys.stdout = Path(told).open("w")
            die_while_saving(moment)
            run_fit(tiny(folder), tell)
            sys.stdout.flush()
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    trace(nn.Linear(1, 1), torch.zeros(1, 1), "first")  # which imports much that fits need
    if len(sys.argv) > 1:
        tell("imported", 0, 1)
        run_fit(tiny(sys.argv[1]), tell)
    else:
        serve()
