"""Stages are whole or absent, and a folder belongs to one fit."""

import signal
import subprocess
import sys
from functools import partial

import pytest

from cofit.core import ConfigError
from cofit.fit.state import State


def test_a_stage_is_computed_once(tmp_path):
    calls = []
    for _ in range(2):
        state = State(tmp_path / "state", "k")
        state.begin()
        assert state.stage("menu", lambda: calls.append(1) or {"a": [1, 2.5, None]}) == {
            "a": [1, 2.5, None]
        }
    assert calls == [1]


def test_what_is_computed_and_what_is_read_back_are_the_same_type(tmp_path):
    state = State(tmp_path / "state", "k")
    state.begin()
    assert state.stage("plan", lambda: (1, "two")) == [1, "two"]


def test_a_stage_that_fails_leaves_nothing(tmp_path):
    state = State(tmp_path / "state", "k")
    state.begin()

    def fail():
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        state.stage("plan", fail)
    assert [p.name for p in state.folder.iterdir()] == ["key.json"]
    assert state.stage("plan", lambda: 7) == 7


KILLED = """
import os, signal, sys
from pathlib import Path
from cofit.fit.state import State
state = State(Path(sys.argv[1]), "k")
state.begin()
state.stage("first", lambda: 1)
rename = Path.replace
def killed(self, target):
    if target.name == "second.json":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.replace = killed
state.stage("second", lambda: list(range(1000)))
"""


def test_a_stage_killed_between_writing_and_renaming_is_absent(tmp_path):
    folder = tmp_path / "state"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (folder / "second.json").exists()
    assert len(list(folder.glob(".*"))) == 1  # what the killed process was writing
    state = State(folder, "k")
    state.begin()
    assert sorted(p.name for p in folder.iterdir()) == ["first.json", "key.json"]
    assert state.stage("first", lambda: 2) == 1
    assert state.stage("second", lambda: 3) == 3


def test_time_adds_up_over_processes_to_their_last_stages(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("cofit.fit.state.time.monotonic", lambda: clock[0])

    def work(seconds):
        clock[0] += seconds

    def process(*stages):
        """Stages (name, seconds it takes), then five seconds that no stage ends."""
        state = State(tmp_path / "state", "k")
        state.begin()
        for name, seconds in stages:
            state.stage(name, partial(work, seconds))
        found = state.seconds
        clock[0] += 5
        return found

    assert process(("first", 10)) == 10  # and is killed five seconds later
    assert process(("first", 99), ("second", 3)) == 13
    assert process(("first", 99), ("second", 99)) == 13
    assert process(("third", 0.5)) == 13.5
    state = State(tmp_path / "state", "k")
    state.discard()
    assert process(("first", 2)) == 2  # another fit begins at nothing


def test_another_key_is_refused_and_nothing_is_touched(tmp_path):
    state = State(tmp_path / "state", "one")
    state.begin()
    state.stage("plan", lambda: 5)
    with pytest.raises(ConfigError, match=r"holds another fit .*one.*two"):
        State(tmp_path / "state", "two")
    assert State(tmp_path / "state", "one").stage("plan", lambda: 6) == 5


def test_files_of_others_are_not_removed(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="no fit's"):
        State(folder, "k")
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_discard_takes_the_folder_that_was_made_for_it(tmp_path):
    state = State(tmp_path / "out" / "state", "k")
    state.begin()
    state.discard()
    assert not (tmp_path / "out").exists()


def test_discard_leaves_results_and_folders_that_were_there(tmp_path):
    (tmp_path / "mine").mkdir()
    for out in ("mine", "new"):
        state = State(tmp_path / out / "state", "k")
        state.begin()
        if out == "new":
            (tmp_path / out / "notes.txt").write_text("kept")
        state.discard()
        assert not state.folder.exists()
    assert (tmp_path / "mine").is_dir()
    assert (tmp_path / "new" / "notes.txt").exists()
    assert list((tmp_path / "mine").iterdir()) == []
