"""Every Python example in docs/ and the README runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "torch-compile.md",
    ROOT / "docs" / "accelerators.md",
    ROOT / "docs" / "arrays.md",
    ROOT / "docs" / "memory.md",
    ROOT / "docs" / "recurrent.md",
    ROOT / "docs" / "bayesian.md",
    ROOT / "docs" / "graphs.md",
    *sorted((ROOT / "docs").glob("adding-*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    assert blocks
