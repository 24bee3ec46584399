"""The edge as a process: `python -m cofit.graphs.points.coinference.server FOLDER`."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from cofit.core import CofitError
from cofit.graphs.points.coinference.edge import EdgeServer
from cofit.graphs.points.coinference.zoo import load_zoo


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a zoo until stopped; the address is the first line that is printed.

    The folder is read again when a device comes with another zoo.
    """
    parser = argparse.ArgumentParser(prog="cofit.graphs.points.coinference.server")
    parser.add_argument("folder", type=Path, help="of a zoo")
    parser.add_argument("--host", default="127.0.0.1", help="to listen on")
    parser.add_argument("--port", type=int, default=0, help="to listen on; 0 takes a free one")
    parser.add_argument("--depth", type=int, default=8, help="frames that wait before each stage")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds")
    parser.add_argument(
        "--while-stdin", action="store_true", help="end when the standard input is closed"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        server = EdgeServer(
            load_zoo(given.folder), given.host, given.port, given.depth, given.timeout,
            reload=partial(load_zoo, given.folder),
        )  # fmt: skip
        if given.while_stdin:
            threading.Thread(target=_close_after_stdin, args=(server,), daemon=True).start()
        print("listening on {}:{}".format(*server.address), flush=True)
        server.serve()
    except CofitError as error:
        print("error:", error, file=sys.stderr)
        return 2
    return 0


def _close_after_stdin(server: EdgeServer) -> None:
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    sys.exit(main())
