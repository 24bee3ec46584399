"""Starting ranks as processes of this machine, and stopping all when one fails.

The processes get what torchrun would give them, with the rendezvous held here, so that no port has
to be guessed and no rank has to outlive the others.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO

import torch.distributed as dist

from cofit.core import CommunicationError

POLL_S = 0.05
GRACE_S = 5.0
"""What ranks have beyond their own time-out to stop by themselves."""
AGAIN = "the same command goes on from the last checkpoint"
LOST = "is gone or did not answer"
"""In the error of a rank that stops because another did."""


def launch(
    command: Sequence[str],
    size: int,
    timeout_s: float,
    listen: Callable[[str], None] = lambda line: None,
) -> None:
    """Run a command as `size` ranks and return when all are done.

    Args:
        command: the program and its arguments; it finds its rank in the environment.
        size: ranks.
        timeout_s: what each rank waits for the others at most.
        listen: called with each line that rank 0 prints.

    Raises:
        CommunicationError: a rank failed; the text is its own, not that of those it took along.
    """
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    ranks: list[subprocess.Popen[bytes]] = []
    errors: list[IO[bytes]] = []
    try:
        for rank in range(size):
            errors.append(tempfile.TemporaryFile())
            output = subprocess.PIPE if rank == 0 else subprocess.DEVNULL
            variables = _environment(rank, size, store.port)
            ranks.append(
                subprocess.Popen(command, env=variables, stdout=output, stderr=errors[rank])
            )
        _attend(ranks, timeout_s, listen)
        statuses = [process.returncode for process in ranks]
        if any(statuses):
            raise CommunicationError(_cause(statuses, [_last_line(file) for file in errors]))
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for file in errors:
            file.close()


def _environment(rank: int, size: int, port: int) -> dict[str, str]:
    threads = max((os.cpu_count() or 1) // size, 1)
    given = {"OMP_NUM_THREADS": str(threads), **os.environ}
    if any(name == "lo" for _, name in socket.if_nameindex()):
        given.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else it depends on the host's name
    return {
        **given,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # rank 0 must not open a rendezvous of its own
    }


def _attend(
    ranks: list[subprocess.Popen[bytes]], timeout_s: float, listen: Callable[[str], None]
) -> None:
    """Wait for all; once one has failed, not longer than the others may take to notice."""
    output = ranks[0].stdout
    assert output is not None
    os.set_blocking(output.fileno(), False)
    deadline, begun = None, b""
    while True:
        running = [process for process in ranks if process.poll() is None]
        *lines, begun = (begun + (output.read() or b"")).split(b"\n")
        for line in lines:
            listen(line.decode().rstrip())
        if not running or (deadline is not None and time.monotonic() > deadline):
            return
        if deadline is None and any(process.returncode for process in ranks):
            deadline = time.monotonic() + timeout_s + GRACE_S
        time.sleep(POLL_S)


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else ""


def _cause(statuses: Sequence[int | None], lines: Sequence[str]) -> str:
    """The failure that the others followed from."""
    size = len(statuses)
    for rank, status in enumerate(statuses):
        if status is None:
            return f"rank {rank} of {size} hung and was stopped; {AGAIN}"
        if status < 0:
            name = signal.Signals(-status).name
            return f"rank {rank} of {size} was killed by {name} and the others stopped; {AGAIN}"
    failed = [
        (LOST in line, f"rank {rank} stopped: {line or f'exit status {status}'}")
        for rank, (status, line) in enumerate(zip(statuses, lines, strict=True))
        if status != 0
    ]
    return min(failed)[1]
