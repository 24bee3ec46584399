"""A fit that would work, and what every refusal looks like."""

from pathlib import Path

from cli_run import Ran

BUDGET = "latency<=0.9x"
OUT = "out"
FIT = {"--data": "digits", "--target": "host", "--budget": BUDGET, "--out": OUT, "--epochs": "1"}


def fit(model: str = "nets:tiny", **changed: str) -> list[str]:
    """Words of a fit that would work, with some options changed."""
    options = FIT | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return ["fit", model, *(word for item in options.items() for word in item)]


def refused(ran: Ran, *named: str, status: int = 2) -> None:
    assert ran.status == status, ran
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in ran.err
    assert ran.out == ""
    for word in named:
        assert word in lines[0], (word, lines[0])
    assert files(Path(OUT)) == []


def files(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
