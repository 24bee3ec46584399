"""Compile generated C with any C compiler; objects are cached by content.

The default compiler is the `ziglang` wheel (clang in a wheel); a name such as "gcc" is looked up
on PATH. The cache key covers the sources, the flags and the compiler's version.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cofit.core import BuildError, FileError, cache_dir

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
DEFAULT_COMPILER = "zig"
_DIAGNOSTIC = re.compile(r".*\b(?:fatal error|error|undefined (?:reference|symbol))\b.*")


@dataclass(frozen=True)
class Toolchain:
    """A C compiler: the words that start it, and its version."""

    name: str
    command: tuple[str, ...]
    version: str


@functools.cache
def toolchain(name: str = DEFAULT_COMPILER) -> Toolchain:
    """The compiler of this name.

    Raises:
        BuildError: it is not installed.
    """
    if name == "zig":
        try:
            version = metadata.version("ziglang")
        except metadata.PackageNotFoundError as error:
            raise BuildError(
                "the C compiler 'zig' is missing; install it with: pip install ziglang"
            ) from error
        return Toolchain(name, (sys.executable, "-m", "ziglang", "cc"), f"ziglang {version}")
    path = shutil.which(name)
    if path is None:
        raise BuildError(
            f"the C compiler {name!r} is not on PATH; install it or use compiler='zig'"
        )
    first_line = _run((path, "--version"), None).stdout.splitlines()
    return Toolchain(name, (path,), first_line[0] if first_line else name)


def build(
    files: Mapping[str, str | bytes],
    flags: Sequence[str],
    output: str,
    compiler: str = DEFAULT_COMPILER,
) -> Path:
    """Compile and link, or take the result of an earlier equal call.

    Args:
        files: text or bytes by file name; those ending in .c or .s are compiled, all are in one
            folder.
        flags: compiler and linker flags (they decide whether `output` is a program, a shared
            object or, with -c and a single source, an object); files are named relative to the
            folder.
        output: file name of the result.
        compiler: "zig" or a program on PATH.

    Returns:
        The built file inside the cache folder.

    Raises:
        BuildError: the compiler is missing or refused; its first error in one line.
    """
    chosen = toolchain(compiler)
    digest = hashlib.sha256()
    for part in (
        chosen.version,
        output,
        *flags,
        *(part for name in sorted(files) for part in (name, files[name])),
    ):
        digest.update(_bytes(part))
        digest.update(b"\0")
    root = cache_dir() / "build"
    final = root / digest.hexdigest()[:32] / output
    if final.exists():
        return final
    sources = [name for name in files if name.endswith((".c", ".s"))]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".new-") as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(_bytes(content))
            result = _run(
                (*chosen.command, *flags, *sources, "-o", output, *_libraries(flags)), folder
            )
            if result.returncode != 0:
                what = sources[0] if sources else output
                raise BuildError(f"{compiler} refused {what}: {_first_error(result.stderr)}")
            final.parent.mkdir(exist_ok=True)
            (Path(folder) / output).replace(final)
    except OSError as error:
        raise FileError(
            f"cannot build in the cache folder {str(root)!r}: {error.strerror or error}; "
            "set COFIT_CACHE to a writable folder with free space"
        ) from error
    return final


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


def _libraries(flags: Sequence[str]) -> tuple[str, ...]:
    """Libm after the sources, where something is linked against a libc."""
    return () if "-c" in flags or "-nostdlib" in flags else ("-lm",)


def _run(command: Sequence[str], folder: str | None) -> subprocess.CompletedProcess[str]:
    zig_cache = str(cache_dir() / "zig")
    environment = {
        "ZIG_GLOBAL_CACHE_DIR": zig_cache,
        "ZIG_LOCAL_CACHE_DIR": zig_cache,
        **os.environ,
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _first_error(text: str) -> str:
    lines = text.strip().splitlines()
    return next(
        (line.strip() for line in lines if _DIAGNOSTIC.match(line)),
        lines[0] if lines else "no message",
    )
