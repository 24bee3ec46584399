"""`cofit explain` prints what the room computes, and says in one line what is wrong."""

import json
import shutil
from pathlib import Path

import pytest
from cli_run import Ran, Run

import cofit as package
from cofit.codegen import load_program
from cofit.fit import Explanation


def refused(ran: Ran, *named: str) -> None:
    assert (ran.status, ran.out) == (2, ""), ran
    (line,) = ran.err.splitlines()
    assert line.startswith("error: ")
    for word in named:
        assert word in line, (word, line)


@pytest.fixture
def folder(cofit: Run) -> Path:
    """An int8 program for a Cortex-M4 in a new folder."""
    words = (
        "compile",
        "nets:tiny",
        "--target",
        "cortex-m4",
        "--data",
        "digits",
        "--out",
        "program",
    )
    assert cofit(*words).status == 0
    return Path("program")


def test_json_is_the_explanation(cofit: Run, folder: Path) -> None:
    ran = cofit("explain", folder, "--json")
    assert (ran.status, ran.err) == (0, "")
    found = Explanation.model_validate_json(ran.out)
    measured = load_program(folder).measure()
    assert json.loads(ran.out)["format"] == "cofit.explanation"
    assert found.latency_s == pytest.approx(measured.latency_s)
    assert [layer.op for layer in found.layers] == list(measured.per_step_s)
    assert sum(layer.latency_s for layer in found.layers) == pytest.approx(found.latency_s)
    assert package.explain(folder) == found  # emulated: the same every time


def test_text_and_page(cofit: Run, folder: Path) -> None:
    shutil.copytree(folder, "run/deploy")
    ran = cofit("explain", "run", "--html", "page.html")  # the folder of a fit
    assert (ran.status, ran.err) == (0, "")
    assert "conv2" in ran.out and "instructions per multiply-add" in ran.out
    assert ran.out.rstrip().endswith("page: page.html")
    assert "Where the time goes" in Path("page.html").read_text()


def test_whatever_is_wrong_is_one_line(cofit: Run, folder: Path) -> None:
    refused(cofit("explain", "nowhere"), "'nowhere'", "no folder", "cofit compile")
    refused(cofit("explain"), "folder", "--help")
    Path("empty").mkdir()
    refused(cofit("explain", "empty"), "'empty'", "not a saved program")
    file = Path("file")
    file.write_text("x")
    refused(cofit("explain", file), "'file'", "no folder")
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest[: len(manifest) // 2])
    refused(cofit("explain", folder), "manifest.json")
    (folder / "manifest.json").write_text("[]")
    refused(cofit("explain", folder), "not a saved program")
    (folder / "manifest.json").write_text(manifest)
    graph = (folder / "graph.json").read_text()
    (folder / "graph.json").unlink()
    refused(cofit("explain", folder), "graph.json")
    (folder / "graph.json").write_text(graph[:100])
    refused(cofit("explain", folder), "graph.json")
    (folder / "graph.json").write_text(graph)
    (folder / "graph.safetensors").write_bytes(b"\x80\x04pickle")
    refused(cofit("explain", folder), "graph.safetensors")


def test_a_page_that_cannot_be_written_is_one_line(cofit: Run, folder: Path) -> None:
    Path("file").write_text("x")
    ran = cofit("explain", folder, "--html", "file/page.html")
    assert ran.status == 2 and len(ran.err.splitlines()) == 1 and "page.html" in ran.err
