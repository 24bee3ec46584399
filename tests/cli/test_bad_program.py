"""Wrong inputs of `cofit run`, and folders that are no program, or a damaged one."""

from pathlib import Path

import numpy as np
import pytest
from cli_run import Run
from refusals import OUT, refused


@pytest.fixture
def program(cofit: Run) -> Path:
    assert cofit("compile", "nets:tiny", "--target", "host", "--out", "program").status == 0
    np.save("x.npy", np.zeros((2, 1, 8, 8), np.float32))
    return Path("program")


RUNS = {
    "other shape": (np.zeros((2, 3, 8, 8), np.float32), ["(2, 3, 8, 8)", "('N', 1, 8, 8)"]),
    "no batch": (np.zeros((8,), np.float32), ["(8,)", "N, C, H, W"]),
    "no inputs": (np.zeros((0, 1, 8, 8), np.float32), ["(0, 1, 8, 8)", "at least 1"]),
    "integers": (np.zeros((2, 1, 8, 8), np.int64), ["int64", "float32"]),
    "NaN": (np.full((2, 1, 8, 8), np.nan, np.float32), ["NaN"]),
    "pickled": (np.array([{"a": 1}]), ["run code"]),
}


@pytest.mark.parametrize("case", RUNS)
def test_inputs_of_run(cofit: Run, program: Path, case: str) -> None:
    inputs, named = RUNS[case]
    np.save("x.npy", inputs)
    refused(cofit("run", program, "x.npy", "--out", f"{OUT}/y.npy"), *named)


def test_inputs_that_are_no_array(cofit: Run, program: Path) -> None:
    Path("x.npy").write_bytes(b"")
    refused(cofit("run", program, "x.npy"), "x.npy", "numpy.save")
    np.savez("x.npz", a=np.zeros(3), b=np.zeros(3))
    refused(cofit("run", program, "x.npz"), "x.npz", "a, b", "one array")


def test_program_that_is_absent(cofit: Run, program: Path) -> None:
    refused(cofit("run", "absent", "x.npy"), "absent", "cofit compile")
    Path("empty").mkdir()
    refused(cofit("run", "empty", "x.npy"), "empty", "cofit compile")


MANIFESTS = {
    "no JSON": ("{", ["manifest.json", "JSON"]),
    "a list": ("[]", ["program", "version 1"]),
    "of another version": ('{"format": "cofit.program", "version": 9}', ["version 1"]),
    "without fields": ('{"format": "cofit.program", "version": 1}', ["program", "'flash'"]),
    "of wrong types": (
        '{"format": "cofit.program", "version": 1, "machine": "host", "flash": 3, '
        '"vector_floats": 8}',
        ["program"],
    ),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_damaged_manifest(cofit: Run, program: Path, case: str) -> None:
    text, named = MANIFESTS[case]
    (program / "manifest.json").write_text(text)
    refused(cofit("run", program, "x.npy"), *named)


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": "cofit.graph", "version": 1}'])
def test_damaged_graph(cofit: Run, program: Path, text: str) -> None:
    (program / "graph.json").write_text(text)
    refused(cofit("run", program, "x.npy"), "graph")


def test_damaged_constants(cofit: Run, program: Path) -> None:
    tensors = program / "graph.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    refused(cofit("run", program, "x.npy"), "graph.safetensors")
