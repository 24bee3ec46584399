"""Peers run the very network, are timed in turn, and are named where they are absent."""

from __future__ import annotations

import importlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from cofit.codegen import compile
from cofit.core import torch_generator
from cofit.data import load
from cofit.fit import make_subject, peers
from cofit.fit.peers import race, time_peers
from cofit.fit.precision import Lowering
from cofit.fit.runtimes import runtimes
from cofit.ir import dequantise_output, quantise_input, run_float, run_integer, trace
from cofit.models import load_model

NAMES = ["torch eager fp32", "onnxruntime fp32", "onnxruntime int8", "openvino fp32",
         "openvino int8"]  # fmt: skip


@pytest.fixture(scope="module")
def subject():
    loaded = load_model("digits_resnet")
    return make_subject("digits", loaded.module, load("digits"), loaded.preprocess, True)


@pytest.fixture(scope="module")
def real(subject):
    return trace(subject.module, subject.example, "digits")


@pytest.fixture(scope="module")
def integer(subject, real):
    return Lowering("int8", subject.calibration).lower(real)


def test_every_runtime_computes_the_network(subject, real, integer) -> None:
    x = subject.data.test.inputs[:40]
    exact = run_float(real, {real.inputs[0]: x}, torch.float64)[real.outputs[0]].numpy()
    stored = run_integer(integer, {integer.inputs[0]: quantise_input(integer, x.numpy())})
    rounded = dequantise_output(integer, stored[integer.outputs[0]])
    found = runtimes(real, integer)
    assert [runtime.name for runtime in found] == NAMES
    for runtime in found:
        if runtime.call is None:
            assert "not installed" in runtime.note
            continue
        assert "1 thread" in runtime.note
        y = np.concatenate([runtime.call(one[None]) for one in x.numpy()])
        if runtime.name.endswith("fp32"):
            assert np.abs(y - exact).max() < 1e-4 * np.abs(exact).max()
        else:  # within what saturating kernels may do, but int8: not the float network
            assert np.corrcoef(y.ravel(), rounded.ravel())[0, 1] > 0.9
            assert np.abs(y - exact).max() > 1e-4 * np.abs(exact).max()


class Clock:
    """Time that passes only in calls; every seventh series the machine is slow."""

    def __init__(self) -> None:
        self.now, self.order = 0.0, ""

    def perf_counter(self) -> float:
        return self.now

    def contender(self, name: str, seconds: float):
        count = itertools.count()

        def call(x: np.ndarray) -> np.ndarray:
            self.order += name
            self.now += seconds * (1000 if next(count) % 7 == 3 else 1)
            return x

        return call


def test_the_race_goes_in_turn_and_takes_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(peers, "time", clock)
    contenders = {"a": clock.contender("a", 0.5), "b": clock.contender("b", 0.125)}
    assert race(contenders, np.zeros((1, 2), np.float32)) == {"a": 0.5, "b": 0.125}
    turns = [name for name, _ in itertools.groupby(clock.order)]
    assert turns == ["a", "b"] * (peers.ROUNDS + 1)  # one turn decides the length of a series


def test_short_calls_are_timed_in_series(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(peers, "time", clock)
    quick = clock.contender("q", 0.0)
    steady = {"s": lambda x: (setattr(clock, "now", clock.now + 1e-4), quick(x))[1]}
    found = race(steady, np.zeros((1, 2), np.float32))
    assert found["s"] == pytest.approx(1e-4)
    calls_in_rounds = len(clock.order) - 4
    assert calls_in_rounds / peers.ROUNDS == 1 + round(peers.SERIES_S / 1e-4)


def test_rows_hold_one_run_of_ours_and_theirs(
    monkeypatch: pytest.MonkeyPatch, subject, real, integer
) -> None:
    monkeypatch.setattr(peers, "ROUNDS", 5)
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    genuine = peers.race
    monkeypatch.setattr(
        peers, "race", lambda *given: (seen.append(torch.get_num_threads()), genuine(*given))[1]
    )
    try:
        rows = time_peers(real, subject, compile(real), compile(integer))
        assert torch.get_num_threads() == 2 and seen == [1]
    finally:
        torch.set_num_threads(threads)
    assert [row.name for row in rows] == NAMES
    assert len({(row.dense_s, row.fitted_s) for row in rows}) == 1
    assert rows[0].dense_s > 0 and rows[0].fitted_s > 0
    for row in rows:
        assert (row.latency_s is None) == ("not installed" in row.note)
        if row.name.endswith("fp32") and row.latency_s is not None:
            assert row.note.endswith("decides as the given network on 64 of 64 inputs")


def test_the_note_counts_decisions_that_differ(subject, real) -> None:
    x = subject.calibration[: peers.SAMPLES]
    generator = torch_generator(0, "other")
    head = real.ops[-1].inputs[1]
    weight = torch.randn(real.tensors[head].shape, generator=generator).numpy()
    other = real.with_tensors({head: replace(real.tensors[head], data=weight)})
    choices = [run_float(g, {g.inputs[0]: x})[g.outputs[0]].argmax(1) for g in (real, other)]
    same = int((choices[0] == choices[1]).sum())
    assert same < 60
    note = peers._note(runtimes(other, other)[0], x.numpy(), choices[0].numpy())
    assert note.endswith(f"on {same} of 64 inputs")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ImportError("no module"), "not installed: pip install 'cofit[peers]'"),
        (RuntimeError("no such op\nmore"), "refuses it: no such op"),
    ],
)
def test_absent_runtimes_are_listed_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, real, integer, error: Exception, text: str
) -> None:
    pytest.importorskip("openvino")
    genuine = importlib.import_module

    def guarded(name: str):
        if name == "openvino":
            raise error
        return genuine(name)

    monkeypatch.setattr(importlib, "import_module", guarded)
    found = {runtime.name: runtime for runtime in runtimes(real, integer)}
    assert found["openvino int8"].call is None and found["openvino int8"].note.endswith(text)
    assert found["torch eager fp32"].call is not None
