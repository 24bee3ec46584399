"""Every example on the pages of the commands runs, in the page's order."""

import re
import shlex
from pathlib import Path

import pytest
from cli_run import Run

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (
    "fit",
    "cost",
    "efficiency",
    "compile",
    "run",
    "explain",
    "reproduce",
    "list",
    "doctor",
    "graph",
)


@pytest.mark.parametrize("page", PAGES)
def test_examples(cofit: Run, page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    commands = 0
    for language, block in re.findall(r"```(\w+)\n(.*?)```", text, flags=re.S):
        if language == "python":
            exec(compile(block, page, "exec"), {})
        elif language == "toml":
            Path("fit.toml").write_text(block)
        else:
            for line in block.replace("\\\n", " ").splitlines():
                prompt, name, *words = shlex.split(line)
                assert (prompt, name) == ("$", "cofit")
                ran = cofit(*words)
                assert (ran.status, ran.err) == (0, ""), (line, ran)
                assert ran.out
                commands += 1
    assert commands


def test_every_command_has_a_page(cofit: Run) -> None:
    error = cofit("nonsense").err
    assert error.strip().endswith(", ".join(PAGES))
