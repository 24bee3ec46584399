import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cofit.reproductions


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder of a process that knows one more reproduction, "planted"."""
    room = tmp_path / "room"
    room.mkdir()
    shutil.copy(Path(__file__).with_name("planted.py"), room)
    monkeypatch.setattr(cofit.reproductions, "__path__", [*cofit.reproductions.__path__, str(room)])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("cofit.reproductions.planted", None)
