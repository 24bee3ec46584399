"""Reproductions are found by name, run in steps, resumed, and refused where they do not fit."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cofit.core import ConfigError, UnknownNameError, read_json, read_tensors
from cofit.fit import silent
from cofit.reproductions import known_reproductions, reproduce, reproduction, state
from cofit.reproductions.harness import Step, Study


def test_it_is_found_and_run(planted: Path) -> None:
    assert "planted" in known_reproductions()
    assert "harness" not in known_reproductions()
    finding = reproduce("planted", "smoke", planted / "run", silent)
    assert [claim.holds for claim in finding.claims] == [True, False]
    assert finding.held == 1
    assert finding.settings == {"epochs": 4}
    assert finding.seeds == (0, 1)
    assert len(finding.claims[0].measured.values) == 2
    assert finding.seconds == pytest.approx(
        sum(read_json(p)["seconds"] for p in (planted / "run" / "steps").glob("*.json"))
    )
    assert (planted / "run" / "figure.svg").read_bytes().startswith(b"<?xml")
    assert state(planted / "run") == "1 of 2 claims hold"


def test_a_finished_run_is_not_done_again(planted: Path) -> None:
    first = reproduce("planted", "smoke", planted / "run", silent)
    assert reproduce("planted", "smoke", planted / "run", silent) == first
    assert Path("calls.txt").read_text().splitlines() == ["train 0", "train 1"]


def test_finished_steps_are_not_done_again_and_give_the_same(planted: Path) -> None:
    first = reproduce("planted", "smoke", planted / "run", silent)
    (planted / "run" / "finding.json").unlink()
    (planted / "run" / "steps" / "train_1.json").unlink()
    assert state(planted / "run") == "interrupted after 1 steps"
    again = reproduce("planted", "smoke", planted / "run", silent)
    assert Path("calls.txt").read_text().splitlines() == ["train 0", "train 1", "train 1"]
    assert again.claims == first.claims


_KILLED = """
import sys, os, time
import cofit.reproductions
cofit.reproductions.__path__.append("room")
from pathlib import Path
from cofit.reproductions import reproduce
def progress(stage, done, total):
    print(stage, done, flush=True)
    time.sleep(0.05)
reproduce("planted", "smoke", Path("killed"), progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_goes_on_to_the_same_finding(planted: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED], stdout=subprocess.PIPE, text=True, cwd=planted
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("train 1: training 3"):
            process.kill()
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    killed = planted / "killed"
    assert state(killed) == "interrupted after 1 steps"
    resumed = reproduce("planted", "smoke", killed, silent)
    whole = reproduce("planted", "smoke", planted / "whole", silent)
    assert resumed.claims == whole.claims
    weights = [read_tensors(run / "steps" / "train_1.tensors")["weight"]
               for run in (killed, planted / "whole")]  # fmt: skip
    assert torch.equal(*weights)


def test_another_runs_folder_is_refused(planted: Path) -> None:
    reproduce("planted", "smoke", planted / "run", silent)
    with pytest.raises(ConfigError, match="a run with other settings; remove it or choose"):
        reproduce("planted", "standard", planted / "run", silent)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown reproduction 'plantd'"):
        reproduction("plantd")


def test_step_names_stay_in_the_folder(tmp_path: Path) -> None:
    study = Study("smoke", None, (), tmp_path, silent)
    for name in ("../up", "a/b", ""):
        with pytest.raises(ConfigError, match="step name"):
            study.step(name, lambda step: {})
    assert list(tmp_path.iterdir()) == []


def test_steps_keep_tensors_and_values(tmp_path: Path) -> None:
    study = Study("smoke", None, (), tmp_path, silent)
    calls: list[Step] = []

    def compute(step: Step) -> dict[str, object]:
        calls.append(step)
        time.sleep(0.01)
        return {"mask": torch.tensor([True, False]), "rows": [1, 2.5, "x"]}

    for _ in range(2):
        found = study.step("a b", compute)
        assert torch.equal(found["mask"], torch.tensor([True, False]))
        assert found["rows"] == [1, 2.5, "x"]
    assert len(calls) == 1
    assert study.seconds() >= 0.01
