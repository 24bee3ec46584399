"""`cofit reproduce` prints, writes the page of results, and refuses in one line."""

import json
import re
from pathlib import Path

import pytest

import cofit.cli.reproduce
from cofit.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["reproduce", *words])
    out, err = capsys.readouterr()
    return status, out, err


def refused(ran: tuple[int, str, str], *named: str) -> None:
    status, out, err = ran
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    for word in named:
        assert word in line


def test_json_is_the_stored_finding(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "planted", "--scale", "smoke", "--json")
    assert (status, err) == (0, "")
    stored = planted / "runs" / "reproduce" / "planted-smoke" / "finding.json"
    assert json.loads(out) == json.loads(stored.read_text())
    assert [claim["holds"] for claim in json.loads(out)["claims"]] == [True, False]


def test_the_terminal_shows_claims_and_reasons(
    planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "planted", "--scale", "smoke", "--out", "here")
    assert (status, err) == (0, "")
    assert "learns digits" in out
    assert "why not: needs no training: it does" in out
    assert "note: learns digits: test part" in out and "too short" not in out
    assert "1 of 2 claims hold" in out
    assert (planted / "here" / "figure.svg").exists()


def test_the_page_of_results(
    planted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cofit.cli.reproduce, "known_reproductions", lambda: ("planted",))
    assert run(capsys, "--all", "--scale", "smoke", "--write", "docs/results.md")[0] == 0
    page = Path("docs/results.md").read_text()
    assert "| [planted](#planted) | A linear classifier | smoke | 1 of 2 |" in page
    assert "- Why not: needs no training: it does" in page
    assert "| seed | a\\|b |" in page
    assert "![planted](results/planted.svg)" in page
    assert Path("docs/results/planted.svg").read_bytes().startswith(b"<?xml")


def test_a_finding_joins_the_page_and_others_stay(
    planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path("results.md")
    assert run(capsys, "planted", "--scale", "smoke", "--write", str(page))[0] == 0
    alone = page.read_text()
    other = alone.replace("planted", "zebra").replace("1 of 2", "2 of 2")
    page.write_text(other)
    assert run(capsys, "planted", "--scale", "smoke", "--write", str(page))[0] == 0
    assert run(capsys, "planted", "--scale", "smoke", "--write", str(page))[0] == 0
    both = page.read_text()
    head, first, second = (part.strip() for part in re.split("^## ", both, flags=re.MULTILINE))
    assert [line.split("]")[0] for line in head.splitlines()[6:]] == ["| [planted", "| [zebra"]
    assert first == alone.partition("## ")[2].strip()
    assert second == other.partition("## ")[2].strip()


def test_wrong_input(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(run(capsys), "--all")
    refused(run(capsys, "planted", "--all"), "--all")
    refused(run(capsys, "plantd"), "unknown reproduction 'plantd'", "did you mean 'planted'")
    refused(run(capsys, "planted", "--scale", "big"), "unknown scale 'big'", "smoke")
    Path("notes.md").write_text("# Mine\n")
    refused(run(capsys, "planted", "--write", "notes.md"), "'notes.md'", "no page of results")
    assert Path("notes.md").read_text() == "# Mine\n" and not Path("runs").exists()
    run(capsys, "planted", "--scale", "smoke", "--out", "here")
    refused(run(capsys, "planted", "--out", "here"), "'here'", "other settings", "--out")
