"""The command line in this process, in an empty folder."""

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
