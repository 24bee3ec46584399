"""Whatever is wrong: exit status 2, one line that names it and what is allowed, nothing written."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_run import Ran, Run
from nets import Tiny
from refusals import BUDGET, OUT, files, fit, refused
from safetensors.torch import save_file

from cofit.codegen.build import toolchain
from cofit.core import write_json

CLI = "import sys; from cofit.cli import main; sys.exit(main())"


WORDS = {
    "unknown command": (["fitt"], ["'fitt'", "fit", "doctor"]),
    "unknown option": (["fit", "--budgets", "x"], ["--budgets", "--budget", "--epochs"]),
    "option without value": (["fit", "nets:tiny", "--budget"], ["--budget"]),
    "missing argument": (["cost", "--targets", "host"], ["model", "--help"]),
    "surplus argument": (["doctor", "now"], ["now"]),
    "no number": (fit(epochs="ten"), ["--epochs", "integer"]),
    "unknown target": (fit(target="cortex-m3"), ["'cortex-m3'", "cortex-m4", "host"]),
    "unknown board": (fit(target="cortex-m4:uno"), ["'uno'", "stm32f446"]),
    "board of another core": (fit(target="cortex-m4:stm32f746"), ["stm32f746", "cortex-m7"]),
    "unknown model": (fit("resnet21"), ["'resnet21'", "did you mean", "resnet20"]),
    "unknown structure": (fit(structures="blok8x1"), ["'blok8x1'", "block8x1"]),
    "impossible structure": (fit(structures="nm5:4"), ["5", "4"]),
    "unknown data": (fit(data="digit"), ["'digit'", "digits", ".npz"]),
    "unknown precision": (fit(precision="fp16"), ["'fp16'", "'int8'"]),
    "fp32 on Cortex-M": (fit(target="cortex-m4", precision="fp32"), ["fp32", "int8"]),
    "no budget": (fit()[:4], ["budget", "missing"]),
    "empty budget": (fit(budget=" , "), ["empty", "latency<=0.5x"]),
    "budget without limit": (fit(budget="fast"), ["'fast'", "metric<=value"]),
    "budget with equals": (fit(budget="latency=20ms"), ["'latency=20ms'", "<="]),
    "unknown metric": (fit(budget="speed<=2ms"), ["'speed'", "latency", "flash"]),
    "metric twice": (fit(budget="ram<=1KB, ram<=2KB"), ["'ram'", "twice"]),
    "negative limit": (fit(budget="latency<=-3ms"), ["-3ms", "ms"]),
    "zero limit": (fit(budget="flash<=0KB"), ["flash<=0KB", "above zero"]),
    "wrong unit": (fit(budget="flash<=20ms"), ["20ms", "KB"]),
    "missing unit": (fit(budget="latency<=20"), ["'20'", "ms"]),
    "relative accuracy": (fit(budget="accuracy_drop<=0.5x"), ["accuracy_drop", "%"]),
    "energy on host": (fit(budget="energy<=1mJ"), ["energy", "latency"]),
    "rate of one": (fit(rates="1,2"), ["rates", "above 1"]),
    "rate not a number": (fit(rates="2,fast"), ["fast", "number"]),
    "endless rate": (fit(rates="inf"), ["inf", "above 1"]),
    "no epochs": (fit(epochs="0"), ["epochs", "0", "1"]),
    "too many rounds": (fit(rounds="11"), ["rounds", "11", "10"]),
    "negative seed": (fit(seed="-1"), ["seed", "-1", "0"]),
    "no learning": (fit(learning_rate="0"), ["learning_rate", "0"]),
    "learning rate no number": (fit(learning_rate="nan"), ["learning_rate", "nan"]),
    "missing config": (["fit", "--config", "absent.toml"], ["absent.toml"]),
    "missing weights": (fit(weights="absent.safetensors"), ["absent.safetensors"]),
    "factory that is absent": (fit("nets:nothing"), ["'nothing'", "nets", "factory"]),
    "module that is absent": (fit("nowhere:net"), ["'nowhere'", "factory"]),
    "factory that fails": (fit("nets:fails"), ["nets:fails", "no weights on this machine"]),
    "factory of no network": (fit("nets:text"), ["nets:text", "str", "Module"]),
    "factory that is no function": (fit("nets:not_a_function"), ["int", "function"]),
    "missing program": (fit("absent.pt2"), ["absent.pt2"]),
    "weights with NaN": (fit("nets:not_finite"), ["fc.weight", "NaN"]),
    "other input shape": (fit("nets:colour"), ["(1, 8, 8)", "3"]),
    "other classes": (fit("nets:six_classes"), ["(6,)", "10 classes"]),
    "unsupported operator": (fit("nets:Erf"), ["erf", "conv2d"]),
    "data-dependent control flow": (fit("nets:Branches"), ["Branches", "branch"]),
    "missing data": (fit(data="absent.npz"), ["absent.npz"]),
    "cost without targets": (["cost", "nets:tiny", "--targets", ","], ["--targets", "cortex-m4"]),
    "cost on unknown target": (["cost", "nets:tiny", "--targets", "host,m4"], ["'m4'", "host"]),
    "cost of unknown shape": (["cost", "nets:no_shape", "--targets", "host"], ["--data"]),
    "cost in fp32 on Cortex-M": (
        ["cost", "nets:tiny", "--targets", "cortex-m7", "--precision", "fp32"], ["fp32", "int8"],
    ),
    "cost of what fits nowhere": (
        ["cost", "nets:Wide", "--targets", "cortex-m4"], ["flash", "524288", "stm32f446"],
    ),
    "unknown compiler": (
        ["compile", "nets:tiny", "--target", "host", "--out", OUT, "--compiler", "tcc9"],
        ["'tcc9'", "zig"],
    ),
    "threads on a Cortex-M": (
        ["compile", "nets:tiny", "--target", "cortex-m4", "--out", OUT, "--threads", "2"],
        ["threads=2", "cortex-m4"],
    ),
    "tuning for a Cortex-M": (
        ["compile", "nets:tiny", "--target", "cortex-m4", "--out", OUT, "--tune"],
        ["cortex-m4", "cannot be timed"],
    ),
    "structure without rate": (
        ["compile", "nets:tiny", "--target", "host", "--out", OUT, "--structure", "block8x1"],
        ["block8x1", "@4"],
    ),
    "structure that suits no layer": (
        ["compile", "nets:tiny", "--target", "host", "--out", OUT, "--structure", "nm2:4+nm2:4"],
        ["nm2:4"],
    ),
    "run of nothing": (["run", "absent", "x.npy"], ["x.npy"]),
    "unknown list": (["list", "target"], ["'target'", "targets", "models"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDS)
def test_words(cofit: Run, case: str) -> None:
    words, named = WORDS[case]
    refused(cofit(*words), *named)


TOML = {
    "malformed": ("model = ", ["fit.toml", "TOML"]),
    "unknown key": ('modle = "x"', ["'modle'", "model", "budget"]),
    "number as text": (f'model="nets:tiny"\ndata="digits"\nbudget="{BUDGET}"\nepochs="many"',
                       ["epochs", "'many'", "integer"]),
    "text as number": (f'model="nets:tiny"\ndata=3\nbudget="{BUDGET}"', ["data", "3", "string"]),
    "text as list": (f'model="nets:tiny"\ndata="digits"\nbudget="{BUDGET}"\nrates=2',
                     ["rates", "2", "tuple"]),
    "wrong budget": ('model="nets:tiny"\ndata="digits"\nbudget="latency<=2KB"', ["2KB", "ms"]),
}  # fmt: skip


@pytest.mark.parametrize("case", TOML)
def test_config_file(cofit: Run, case: str) -> None:
    text, named = TOML[case]
    Path("fit.toml").write_text(text)
    refused(cofit("fit", "--config", "fit.toml", "--out", OUT), *named)


def _truncated(path: Path) -> None:
    save_file(Tiny().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-40])


def _other_keys(path: Path) -> None:
    save_file({f"net.{key}": value for key, value in Tiny().state_dict().items()}, path)


def _other_shapes(path: Path) -> None:
    save_file(Tiny(classes=7).state_dict(), path)


def _diverged(path: Path) -> None:
    state = Tiny().state_dict()
    state["conv1.bias"][2] = float("inf")
    save_file(state, path)


WEIGHTS: dict[str, tuple[str, Callable[[Path], object], list[str]]] = {
    "truncated": ("w.safetensors", _truncated, ["w.safetensors", "safetensors", "again"]),
    "pickled": ("w.pt", lambda p: torch.save(Tiny().state_dict(), p), ["w.pt", "run code"]),
    "old pickle": (
        "w.pth",
        lambda p: torch.save(Tiny().state_dict(), p, _use_new_zipfile_serialization=False),
        ["w.pth", "run code"],
    ),
    "no tensors": ("w.safetensors", lambda p: p.write_text("hello"), ["w.safetensors"]),
    "other keys": ("w.safetensors", _other_keys, ["missing conv1.weight", "unexpected net."]),
    "other shapes": ("w.safetensors", _other_shapes, ["fc.weight", "(7, 16)", "(10, 16)"]),
    "diverged": ("w.safetensors", _diverged, ["conv1.bias", "NaN or infinity"]),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(cofit: Run, case: str) -> None:
    name, make, named = WEIGHTS[case]
    make(Path(name))
    refused(cofit(*fit(weights=name)), *named)


def test_broken_exported_program(cofit: Run) -> None:
    Path("net.pt2").write_bytes(b"PK\x03\x04 not a program")
    refused(cofit(*fit("net.pt2")), "net.pt2")


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 10
    images = rng.random((40, 1, 8, 8), np.float32)
    return {
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:10],
        "test_labels": labels[:10],
    }


def _changed(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return _arrays() | changes


_NAN = _arrays()["train_images"].copy()
_NAN[3, 0, 2, 2] = np.nan
DATA = {
    "empty": (_changed(train_images=np.zeros((0, 1, 8, 8), np.float32),
                       train_labels=np.zeros(0, np.int64)), ["train", "empty"]),
    "label out of range": (_changed(test_labels=np.arange(10) + 5), ["14", "10 classes"]),
    "negative label": (_changed(test_labels=np.arange(10) - 1), ["-1", "0 to 9"]),
    "fractional labels": (_changed(train_labels=np.arange(40) % 10 + 0.5), ["float64", "integers"]),
    "gap in the classes": (_changed(train_labels=np.arange(40) % 10 * 2), ["class", "gaps"]),
    "unequal lengths": (_changed(train_labels=np.arange(39) % 10), ["40", "39"]),
    "NaN": (_changed(train_images=_NAN), ["train", "NaN"]),
    "pickled": (_changed(train_labels=np.array([None] * 40)), ["run code"]),
    "other shape": (_changed(train_images=np.zeros((40, 64), np.float32)), ["(40, 64)", "N, C"]),
    "wrong keys": ({"x": np.zeros(3), "y": np.zeros(3)}, ["train_images", "x, y"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_data(cofit: Run, case: str) -> None:
    arrays, named = DATA[case]
    np.savez("mine.npz", **arrays)
    refused(cofit(*fit(data="mine.npz")), "mine.npz", *named)


def test_truncated_data(cofit: Run) -> None:
    np.savez("mine.npz", **_arrays())
    Path("mine.npz").write_bytes(Path("mine.npz").read_bytes()[:-200])
    refused(cofit(*fit(data="mine.npz")), "mine.npz")


@pytest.mark.parametrize("below", ["", "/runs/a"])
def test_file_in_the_way_of_the_folder(cofit: Run, below: str) -> None:
    Path("taken").write_text("mine")
    refused(cofit(*fit(out=f"taken{below}")), f"taken{below}", "choose another")
    assert Path("taken").read_text() == "mine"


def test_folder_that_holds_other_things(cofit: Run) -> None:
    deploy = Path("mine/deploy")
    deploy.mkdir(parents=True)
    (deploy / "thesis.tex").write_text("x")
    refused(cofit(*fit(out="mine")), "mine/deploy", "not a saved program")
    assert files(Path("mine")) == ["mine/deploy/thesis.tex"]


def test_state_that_is_no_fit(cofit: Run) -> None:
    Path("mine/state").mkdir(parents=True)
    Path("mine/state/notes.txt").write_text("x")
    refused(cofit(*fit(out="mine")), "mine/state", "another --out")
    assert files(Path("mine")) == ["mine/state/notes.txt"]


def test_folder_of_another_fit(cofit: Run) -> None:
    write_json(Path("mine/state/key.json"), {"key": "0123"})
    refused(cofit(*fit(out="mine")), "'mine'", "another fit", "--out")
    assert files(Path("mine")) == ["mine/state/key.json"]


def test_no_compiler(cofit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "ziglang":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    toolchain.cache_clear()
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setenv("PATH", "")
    try:
        refused(cofit(*fit()), "'zig'", "pip install ziglang")
    finally:
        toolchain.cache_clear()


def test_budget_out_of_reach(cofit: Run) -> None:
    ran = cofit(*fit(target="cortex-m4", budget="flash<=1KB", structures="block1x4", rates="2"))
    refused(ran, "flash binds", "limit 1.00 KB", "reachable minimum")
    assert not Path(OUT).exists()


def test_out_of_reach_leaves_the_folder_to_another_fit(cofit: Run) -> None:
    words = {"target": "cortex-m4", "structures": "block1x4", "rates": "2"}
    refused(cofit(*fit(budget="flash<=1KB", **words)), "flash binds")
    refused(cofit(*fit(budget="flash<=1.1KB", **words)), "flash binds", "1.10 KB")


def test_disk_full(cofit: Run, room: Callable[[int | None], None]) -> None:
    words = ["compile", "nets:tiny", "--target", "host", "--out", OUT]
    assert cofit(*words).status == 0  # the compiler's own files are cached now
    for path in sorted(Path(OUT).iterdir()):
        path.unlink()
    Path(OUT).rmdir()
    room(2000)
    refused(cofit(*words), f"/{OUT}'", "large", "free space")
    assert list(Path.cwd().glob(".*")) == []


def _start(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])
    }
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        # whoever runs the tests in the background may have Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    process = _start(*fit(pretrain_epochs="100000", threads="1"))
    deadline = time.monotonic() + 120
    while not Path(OUT, "state", "pretrain.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    left = files(Path(OUT))
    assert sorted(left) == ["out/state/key.json", "out/state/pretrain.ckpt"]  # it can go on
    for path in left:
        Path(path).unlink()
    refused(Ran(process.returncode, out, err), "interrupted", "goes on", status=130)


def test_reader_that_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    process = _start("list")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


def test_a_bug_keeps_its_traceback(cofit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(what: str | None) -> None:
        raise AssertionError("impossible")

    monkeypatch.setattr("cofit.cli.listing.list_command", broken)
    ran = cofit("list")
    assert ran.status == 1
    assert "AssertionError: impossible" in ran.err
    assert ran.err.splitlines()[-1] == (
        "error: this is a bug in cofit; please report it with the lines above"
    )
