"""`cofit graph navigate`."""

import json
from pathlib import Path

from cli_run import Run
from refusals import refused

TASK = ("graph", "navigate", "sbm:300", "--profiles", "6", "--epochs", "1", "--hidden", "8")


def test_a_guideline_is_printed_and_what_was_measured_is_kept(cofit: Run) -> None:
    ran = cofit(*TASK, "--memory", "40MB", "--priority", "time", "--out", "here")
    assert (ran.status, ran.err) == (0, "")
    for word in ("train with", "emulated 2 GB/s", "of 40.00 MB", "validation", "bound", "pays"):
        assert word in ran.out, word
    kept = Path("here/ledger.sqlite").stat().st_mtime_ns
    ran = cofit(*TASK, "--memory", "1MB", "--out", "here", "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["format"]) == (0, "cofit.guideline")
    assert found["memory_bytes"][2] <= 1e6 == found["memory_budget_bytes"]
    assert found["visited"] > found["evaluated"] > 0
    assert Path("here/ledger.sqlite").stat().st_mtime_ns == kept
    ran = cofit(*TASK, "--memory", "1KB", "--out", "here")
    refused(ran, "the smallest is predicted to need up to")
    refused(cofit(*TASK, "--memory", "1MB", "--seed", "1", "--out", "here"), "another task")


def test_bad_input_is_one_line(cofit: Run) -> None:
    refused(cofit(*TASK), "--memory")
    refused(cofit(*TASK, "--memory", "lots"), "'lots'")
    refused(cofit(*TASK, "--memory", "1MB", "--priority", "fast"), "time-memory")
    refused(cofit(*TASK, "--memory", "1MB", "--bandwidth", "2GB"), "2GB/s")
    refused(cofit(*TASK, "--memory", "1MB", "--epochs", "0"), "positive")
    refused(cofit("graph", "navigate", "nowhere", "--memory", "1MB"), "nowhere")
    refused(cofit(*TASK, "--memory", "1MB", "--model", "mlp", "--out", "mlp"), "mlp")
    assert not Path("runs").exists()
