"""`cofit fit` and `cofit.fit`: one job, the same files, and on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nets
import pytest
import torch
from cli_run import Run

import cofit as package
from cofit.core import ConfigError, DataError
from cofit.data import load
from cofit.fit import Summary

SMALL = {
    "target": "cortex-m4", "budget": "flash<=4.3KB, latency<=0.9x, accuracy_drop<=90%",
    "structures": "block1x4", "rates": "4",
    "pretrain_epochs": 2, "epochs": 2, "rounds": 1, "samples": 32, "threads": 1,
}  # fmt: skip
LISTS = {"structures": ("block1x4",), "rates": (4.0,)}


def words(out: str, **changed: object) -> list[str]:
    options = SMALL | changed | {"data": "digits", "out": out}
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    return ["fit", "nets:tiny", *(word for pair in pairs for word in pair)]


def what_was_fitted(folder: Path) -> tuple[object, ...]:
    summary = Summary.read(folder / "summary.json")
    weights = (folder / "deploy/graph.safetensors").read_bytes()
    return summary.plan, summary.fitted, summary.dense, summary.tried, weights


def test_files_output_and_status(cofit: Run) -> None:
    ran = cofit(*words("a"), "--json")
    assert ran.err == ""
    assert ran.out == Path("a/summary.json").read_text()
    summary = Summary.read(Path("a/summary.json"))
    assert summary.met and ran.status == 0
    assert summary.fitted.flash_bytes <= 4300 < summary.dense.flash_bytes
    assert "block1x4@4" in {row.structure for row in summary.plan}
    assert {p.name for p in Path("a").iterdir()} == {
        "summary.json", "report.html", "config.toml", "deploy", "export", "state",
    }  # fmt: skip
    assert summary.verdict in Path("a/report.html").read_text()

    quiet = cofit("fit", "--config", "a/config.toml", "--quiet", "--out", "b")
    assert quiet.out.strip() == summary.verdict
    assert what_was_fitted(Path("b")) == what_was_fitted(Path("a"))

    again = cofit(*words("a"))
    assert summary.verdict in again.out
    assert "a/report.html" in again.out
    assert what_was_fitted(Path("b")) == what_was_fitted(Path("a"))


FULL = {
    "at the first file": (20, "out/state/key.json"),
    "after training": (2_000, "out/state/pretrained.safetensors"),
    "with the program": (20_000, "out/deploy"),
}
"""Bytes that a file may have, and what then cannot be written."""


def test_disk_full_and_on_once_there_is_room(
    cofit: Run,
    room: Callable[[int | None], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cofit(*words("undisturbed")).status == 0  # what the compiler made is cached now
    for moment, (nbytes, named) in FULL.items():
        room(nbytes)
        ran = cofit(*words("out"))
        room(None)
        assert ran.status == 2 and ran.out == "", (moment, ran)
        assert ran.err.startswith("error: cannot write ") and ran.err.count("\n") == 1, moment
        assert f"{named}'" in ran.err and "free space" in ran.err, (moment, ran.err)
        assert [p for p in Path("out").rglob("*") if p.name.startswith(".")] == []
        for path in Path("out").rglob("*.json"):
            json.loads(path.read_text())
        assert not Path("out/report.html").exists()
    with monkeypatch.context() as elsewhere:  # no room for what the compiler makes
        elsewhere.setenv("COFIT_CACHE", str(tmp_path / "cache"))
        room(2_000)
        ran = cofit(*words("cold"))
        room(None)
    assert ran.status == 2 and ran.err.count("\n") == 1
    assert list(Path("cold").rglob(".*")) == []
    for folder in ("out", "cold"):
        assert cofit(*words(folder)).status == 0
        assert what_was_fitted(Path(folder)) == what_was_fitted(Path("undisturbed"))
        assert Path(folder, "report.html").exists()


def test_budget_that_is_missed(cofit: Run) -> None:
    missed = {"budget": "flash<=3.9KB, accuracy_drop<=0%", "rates": "12", "epochs": 1}
    ran = cofit(*words("a", **missed, pretrain_epochs=12), "--quiet")
    assert not json.loads(Path("a/summary.json").read_text())["met"]
    assert ran.status == 3
    assert "budget not met" in ran.out


def test_options_win_over_the_file(cofit: Run) -> None:
    Path("fit.toml").write_text(
        'model = "nowhere"\ndata = "nothing"\nbudget = "ram<=1KB"\nrates = [2, 3]\nseed = 5\n'
    )
    ran = cofit("fit", "--config", "fit.toml", "--data", "digits", "--rates", "0.5")
    assert "rates" in ran.err and "0.5" in ran.err
    ran = cofit("fit", "--config", "fit.toml")
    assert "'nowhere'" in ran.err
    ran = cofit("fit", "nets:tiny", "--config", "fit.toml")
    assert "'nothing'" in ran.err


def test_goes_on_after_a_kill(cofit: Run) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = "import sys; from cofit.cli import main; sys.exit(main())"
    for stage in ("pretrain.ckpt", "round0-plan0.json"):
        process = subprocess.Popen(
            [sys.executable, "-c", command, *words("killed", pretrain_epochs=8)],
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + 90
        while not Path("killed/state", stage).exists() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = {p.name: p.stat().st_mtime_ns for p in Path("killed/state").glob("*.json")}
    assert {"given.json", "dense-int8.json", "round0-plan0.json"} <= set(before)
    del before["key.json"]  # the time of all processes is kept in it
    assert cofit(*words("killed", pretrain_epochs=8), "--quiet").status == 0
    assert all(Path("killed/state", n).stat().st_mtime_ns == t for n, t in before.items())
    assert cofit(*words("whole", pretrain_epochs=8), "--quiet").status == 0
    assert what_was_fitted(Path("killed")) == what_was_fitted(Path("whole"))


def test_call_from_python(tmp_path: Path) -> None:
    net, data = nets.tiny(), load("digits")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    stages: list[str] = []
    result = package.fit(
        net, data, **{**SMALL, **LISTS}, out=tmp_path / "a",
        progress=lambda stage, done, total: stages.append(stage),
    )  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert result.summary == Summary.read(tmp_path / "a" / "summary.json")
    assert result.summary.met
    assert (tmp_path / "a" / "report.html").exists()
    assert {"pretrain", "cost table"} <= set(stages)
    x = data.test.inputs[:3]
    with torch.no_grad():
        model = result.model(x).numpy()
    assert abs(result.program.run(x.numpy()) - model).max() < 0.1 * abs(model).max()


def test_module_is_taken_as_trained(tmp_path: Path) -> None:
    stages: list[str] = []
    options = {**SMALL, **LISTS}
    del options["pretrain_epochs"]
    package.fit(
        nets.tiny(), "digits", **options, out=tmp_path / "a",
        progress=lambda stage, done, total: stages.append(stage),
    )  # fmt: skip
    assert "pretrain" not in stages


def test_call_is_also_the_package() -> None:
    assert isinstance(package.fit, ModuleType)
    assert package.fit.FitConfig.__name__ == "FitConfig"
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


def test_call_refuses(tmp_path: Path) -> None:
    out = tmp_path / "a"
    with pytest.raises(ConfigError, match=r"unknown key 'epoch'; known: .*epochs"):
        package.fit(nets.tiny(), "digits", budget="latency<=1ms", epoch=3, out=out)
    with pytest.raises(ConfigError, match="model is a int; give a Module or a name"):
        package.fit(3, "digits", budget="latency<=1ms", out=out)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="data is a Tensor; give a Dataset"):
        package.fit(nets.tiny(), torch.zeros(3), budget="latency<=1ms", out=out)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="10 classes"):
        package.fit(nets.six_classes(), "digits", budget="latency<=1ms", out=out)
    assert not out.exists()
