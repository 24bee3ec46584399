"""Real processes: the numbers of virtual ranks, and what happens when one is killed or hangs."""

import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cofit.cli import main
from cofit.core import CommunicationError, ConfigError, read_json
from cofit.graphs.halo import GraphJob, InProcess, gloo, launch, run_rank, run_ranks, run_ranks_of
from cofit.graphs.halo import launch as launch_room
from cofit.graphs.halo.launch import GRACE_S


def nothing(stage: str, done: int, total: int) -> None:
    """No progress."""


def virtual(job: GraphJob, out: Path) -> dict[str, Any]:
    def work(transport: InProcess) -> dict[str, Any]:
        return run_rank(job, out, transport, nothing)

    return run_ranks(job.parts, work)[0]


def test_four_processes_are_four_virtual_ranks(tmp_path: Path) -> None:
    job = GraphJob(
        "sbm:200", parts=4, exchange="sampled:0.5+stale", model="sage", hidden=8, epochs=6
    )
    found = run_ranks_of(job, tmp_path / "real", nothing)
    expected = virtual(job, tmp_path / "virtual")
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    for key in ("bytes", "scores", "metric", "epoch", "halo_nodes"):
        assert found[key] == expected[key]
    # each imports torch, and counts besides the others; virtual ranks are one process
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert found["peak_bytes"] > 4 * 100e6 and 0.9 * held < expected["peak_bytes"] <= held


def kill_rank_1(out: Path, killed: dict[str, int]) -> None:
    """Once it has saved; notes the numbers of the processes."""
    while not list(out.glob("checkpoints/rank1-step?*")):
        time.sleep(0.005)
    here = os.getpid()
    for child in Path(f"/proc/{here}/task/{here}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        killed.update({v.decode(): int(child) for v in variables if v.startswith(b"RANK=")})
    os.kill(killed["RANK=1"], signal.SIGKILL)


def test_a_killed_rank_stops_the_others_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command exits with 2 and one line; resumed, the losses are those of a whole run."""
    job = GraphJob("sbm:200", exchange="stale:0.5", hidden=8, epochs=80, checkpoint_every=4)
    out = tmp_path / "run"
    words = ["--exchange", "stale:0.5", "--hidden", "8", "--epochs", "80"]
    words += ["--checkpoint-every", "4", "--timeout", "20", "--out", str(out), "--json"]
    ranks: dict[str, int] = {}
    killer = threading.Thread(target=kill_rank_1, args=(out, ranks), daemon=True)
    killer.start()
    status = main(["graph", "train", "sbm:200", *words])
    printed, complaint = capsys.readouterr()
    assert (status, printed) == (2, "")
    assert complaint == (
        "error: rank 1 of 2 was killed by SIGKILL and the others stopped; the same command goes on "
        "from the last checkpoint\n"
    )
    assert not Path(f"/proc/{ranks['RANK=0']}").exists()
    steps: list[int] = []
    resumed = run_ranks_of(job, out, lambda stage, done, total: steps.append(done))
    assert 4 < steps[0] and steps[-1] == 80
    whole = virtual(job, tmp_path / "whole")
    assert resumed["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    assert resumed["bytes"] == whole["bytes"]
    with pytest.raises(ConfigError, match="another epochs, exchange, hidden;"):
        run_ranks_of(GraphJob("sbm:200", hidden=9), out, nothing)


def test_a_hung_rank_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[launch_room.__module__], "GRACE_S", 0.5)
    assert GRACE_S > 0.5
    lines: list[str] = []
    script = str(Path(__file__).with_name("hung_rank.py"))
    with pytest.raises(CommunicationError, match="rank 1 of 2 hung and was stopped"):
        launch([sys.executable, script], 2, 2.0, lines.append)
    assert lines == [
        "rank 0 of 2: rank 1 is gone or did not answer within 2 s; see why it stopped, then start "
        "again from the checkpoint"
    ]


def test_a_line_is_heard_when_it_is_whole() -> None:
    """A rank whose output is not buffered may be read in the midst of a line."""
    code = (
        "import os, time\nif os.environ['RANK'] == '0':\n"
        "    for part in (b'1', b'65 ', b'200\\n166', b' 200\\n'):\n"
        "        os.write(1, part)\n        time.sleep(0.2)"
    )
    lines: list[str] = []
    launch([sys.executable, "-c", code], 2, 5.0, lines.append)
    assert lines == ["165 200", "166 200"]


def test_the_reason_is_that_of_the_rank_that_failed_first() -> None:
    code = (
        "import os, sys; rank = int(os.environ['RANK']); "
        "sys.exit(rank == 1 and 'error: the loss is nan' or rank == 0 and "
        "'error: rank 1 is gone or did not answer')"
    )
    with pytest.raises(CommunicationError, match=r"^rank 1 stopped: the loss is nan$"):
        launch([sys.executable, "-c", code], 2, 5.0)
    launch([sys.executable, "-c", "pass"], 2, 5.0)


def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for values, text in (
        ({"parts": 0}, "parts is 0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"exchange": "none"}, "give exact"),
        ({"epochs": 0}, "must be positive"),
    ):
        with pytest.raises(ConfigError, match=text):
            GraphJob("sbm:50", **values)
    for name in ("sbm:x", "star:5"):
        with pytest.raises(ConfigError, match="sbm:NODES or reddit_like:NODES"):
            run_ranks_of(GraphJob(name), tmp_path, nothing)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="start with torchrun"), gloo(1):
        pass
    job = GraphJob("sbm:200", parts=2, hidden=4, epochs=1)
    with pytest.raises(CommunicationError, match="as many ranks as there are parts"):
        run_ranks(3, lambda t: run_rank(job, tmp_path / "three", t, nothing))
    assert not (tmp_path / "three" / "summary.json").exists()
    read_json(tmp_path / "three" / "job.json")


def test_ranks_that_never_come(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in rank.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(CommunicationError, match=r"did not find the others within 0\.5 s"),
        gloo(0.5),
    ):
        pass
