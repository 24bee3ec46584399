"""A fit comes out the same in every process, and however often it is killed on the way."""

import contextlib
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cofit.core import numpy_generator

SCRIPT = Path(__file__).with_name("fit_process.py")


class Nursery:
    """A process that has imported everything, and fits in children of its own."""

    def __init__(self, told):
        self._told = told
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, folder, moment=""):
        """Number of a child that fits, and dies at a moment of saving."""
        print(json.dumps([str(folder), moment, str(self._told)]), file=self._process.stdin)
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self):
        """How the child ended, and what it told before."""
        return int(self._process.stdout.readline()), self._told.read_text().splitlines()

    def finish(self, folder, moment=""):
        self.begin(folder, moment)
        return self.end()[0]

    def kill_after(self, folder, seconds):
        """Start or go on, and kill after this long; returns what the child told before."""
        child = self.begin(folder)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.kill(child, signal.SIGKILL)
        return self.end()[1]

    def close(self):
        self._process.communicate()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    found = Nursery(tmp_path_factory.mktemp("nursery") / "told")
    yield found
    found.close()


def finish_alone(folder, hash_seed):
    """Fit in a fresh process; seconds that it took when everything was imported."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, str(SCRIPT), str(folder)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("imported")
        begun = time.monotonic()
        process.communicate()
    assert process.returncode == 0
    return time.monotonic() - begun


def outcome(folder):
    """Everything a fit said, but for how long it took and where it lies."""
    document = json.loads((folder / "summary.json").read_text())
    del document["seconds"]
    document["config"] = document["config"].replace(str(folder), "OUT")
    return document


def assert_same(folder, other):
    assert outcome(folder) == outcome(other)
    for part in ("deploy", "export"):
        names = sorted(p.name for p in (other / part).iterdir())
        assert sorted(p.name for p in (folder / part).iterdir()) == names
        if part == "deploy":
            _, differ, failed = filecmp.cmpfiles(folder / part, other / part, names, shallow=False)
            assert not differ and not failed
    hidden = [p for p in folder.rglob("*") if p.name.startswith(".") or p.suffix == ".ckpt"]
    assert hidden == []


@pytest.fixture(scope="module")
def undisturbed(fitted, tmp_path_factory):
    """A fit in a fresh process (the table of costs is warm), and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    return folder, finish_alone(folder, hash_seed="1")


def test_a_fresh_process_with_another_hash_seed_agrees(fitted, undisturbed):
    assert_same(undisturbed[0], fitted.folder)


@pytest.mark.slow
def test_a_third_hash_seed_agrees(undisturbed, tmp_path):
    finish_alone(tmp_path / "out", hash_seed="12345")
    assert_same(tmp_path / "out", undisturbed[0])


def time_kept(folder):
    """Seconds that a killed fit would go on from."""
    stamp = folder / "state" / "key.json"
    return json.loads(stamp.read_text())["seconds"] if stamp.exists() else 0.0


@pytest.mark.slow
def test_killed_three_times_on_the_way(undisturbed, nursery, tmp_path):
    expected, whole_s = undisturbed
    moments = numpy_generator(time.time_ns(), "kill").uniform(0.2, 0.8, 3) * whole_s
    reached, kept = [], [0.0]
    for seconds in moments:
        reached.append(nursery.kill_after(tmp_path / "out", seconds))
        kept.append(time_kept(tmp_path / "out"))
    assert nursery.finish(tmp_path / "out") == 0, (moments, reached)
    assert_same(tmp_path / "out", expected)
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert kept == sorted(kept) and document["seconds"] >= kept[-1]


@pytest.mark.slow
@pytest.mark.parametrize("run", range(20))
def test_killed_at_any_moment(undisturbed, nursery, tmp_path, run):
    expected, whole_s = undisturbed
    moment = float(numpy_generator(time.time_ns(), "kill").uniform(0.0, 1.0)) * whole_s
    reached = nursery.kill_after(tmp_path / "out", moment)
    assert nursery.finish(tmp_path / "out") == 0, (moment, reached[-1:])
    assert_same(tmp_path / "out", expected)


@pytest.mark.parametrize(
    "moment",
    [
        "renaming",
        pytest.param("writing", marks=pytest.mark.slow),
        pytest.param("summary", marks=pytest.mark.slow),
    ],
)
def test_killed_while_results_are_written(undisturbed, nursery, tmp_path, moment):
    expected, _ = undisturbed
    out = tmp_path / "out"
    shutil.copytree(expected, out)  # all stages are there: only the end is done again
    (out / "summary.json").unlink()
    if moment != "renaming":
        shutil.rmtree(out / "deploy")
    assert nursery.finish(out, moment) == -signal.SIGKILL
    assert not (out / "summary.json").exists()
    deploy = out / "deploy"
    assert deploy.exists() is (moment == "summary")
    assert nursery.finish(out) == 0
    assert_same(out, expected)
    # what the first processes took counts, although the last found all stages done
    assert json.loads((out / "summary.json").read_text())["seconds"] > time_kept(expected)
