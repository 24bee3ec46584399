"""Starting the edge as another process of this machine."""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofit.core import CommunicationError

START_S = 300.0
"""For the process to import torch and load the zoo, on a busy machine."""


@dataclass(frozen=True, eq=False)
class EdgeProcess:
    """A running edge server.

    Attributes:
        address: where it listens.
        process: to be looked at, or killed.
    """

    address: tuple[str, int]
    process: subprocess.Popen[str]


@contextmanager
def edge_process(folder: Path, depth: int = 8, timeout_s: float = 10.0) -> Iterator[EdgeProcess]:
    """An edge server of a zoo, stopped at the end of the block or with this process.

    Args:
        folder: see `Zoo.save`.
        depth: frames that wait before each of its stages.
        timeout_s: of its waits.

    Raises:
        CommunicationError: it did not start; the text is its own.
    """
    command = [
        sys.executable, "-m", "cofit.graphs.points.coinference.server", str(folder),
        "--while-stdin", "--depth", str(depth), "--timeout", str(timeout_s),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield EdgeProcess(_address(process), process)
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> tuple[str, int]:
    lines: queue.Queue[str] = queue.Queue()
    output = process.stdout
    assert output is not None
    threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
    try:
        line = lines.get(timeout=START_S)
    except queue.Empty:
        raise CommunicationError(
            f"the edge server did not start within {START_S:g} s; start it by hand to see why"
        ) from None
    found = re.fullmatch(r"listening on (.+):(\d+)\n", line)
    if found is None:
        said = process.communicate()[1].strip().splitlines()
        reason = said[-1].removeprefix("error: ") if said else f"it said {line!r}"
        raise CommunicationError(f"the edge server did not start: {reason}")
    return found[1], int(found[2])
