"""The command line in this process, in an empty folder."""

import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_run import Ran, Run

from cofit.cli import main


@pytest.fixture
def cofit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Ran:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ran(status, out, err)

    return run


@pytest.fixture
def room() -> Iterator[Callable[[int | None], None]]:
    """Sets how many bytes a file may have, for this process and its compilers; None for any.

    A longer file fails as on a full disk: in the middle of a write, with an OSError.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def leave(nbytes: int | None) -> None:
        soft = limits[0] if nbytes is None else nbytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, limits[1]))

    yield leave
    leave(None)
    signal.signal(signal.SIGXFSZ, before)
