"""Where Yosys is looked for, and what is said if it is absent."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofit.core import MissingDependencyError
from cofit.rtl import Engine, VerilogSimulator, yosys

MODULE = sys.modules["cofit.rtl.yosys"]  # the package's attribute of that name is the function


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(MODULE, "find_spec", lambda name: None)
    monkeypatch.setattr("cofit.rtl.cxxrtl.find_spec", lambda name: None)
    yosys.cache_clear()
    yield
    yosys.cache_clear()


def test_absent_yosys_says_what_to_install(no_wheel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    for call in (yosys, lambda: VerilogSimulator(Engine(True))):
        with pytest.raises(MissingDependencyError) as error:
            call()
        assert "pip install 'cofit[rtl]'" in str(error.value)
        assert "\n" not in str(error.value)


def test_yosys_of_the_system_is_taken(
    no_wheel: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "yosys"
    program.write_text("#!/bin/sh\necho Yosys 0.23\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert yosys() == ((str(program),), "Yosys 0.23")
