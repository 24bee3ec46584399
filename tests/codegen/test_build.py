"""Compilers: missing, refusing, cached."""

import pytest

from cofit.codegen.build import build, toolchain
from cofit.core import BuildError, FileError

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COFIT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def fake(cache, monkeypatch):
    """A compiler on PATH that copies its source, and counts its calls."""
    folder = cache / "bin"
    folder.mkdir()
    script = folder / "fakecc"
    script.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo fakecc 1.0 && exit 0\n"
        f"echo call >> {cache}/calls\n"
        "for a; do case $a in *.c) src=$a;; esac; done\n"
        "grep -q BROKEN $src && echo \"$src:3:1: error: BROKEN is not C\" >&2 && exit 1\n"
        "while [ \"$1\" != -o ]; do shift; done\ncp $src $2\n"
    )  # fmt: skip
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    toolchain.cache_clear()
    yield cache / "calls"
    toolchain.cache_clear()


def test_a_missing_compiler_is_one_line_that_says_what_to_do():
    with pytest.raises(BuildError, match=r"'nocc' is not on PATH; install it or use compiler"):
        build({"a.c": "int a;"}, FLAGS, "a.so", "nocc")


def test_the_first_error_is_told(fake):
    with pytest.raises(BuildError, match=r"^fakecc refused a.c: a.c:3:1: error: BROKEN is not C$"):
        build({"a.c": "BROKEN"}, FLAGS, "a.so", "fakecc")


def test_equal_builds_are_made_once_and_other_builds_anew(fake):
    first = build({"a.c": "int a;"}, FLAGS, "a.so", "fakecc")
    assert build({"a.c": "int a;"}, FLAGS, "a.so", "fakecc") == first
    assert fake.read_text().count("call") == 1
    others = {
        build({"a.c": "int b;"}, FLAGS, "a.so", "fakecc"),
        build({"a.c": "int a;"}, (*FLAGS, "-O1"), "a.so", "fakecc"),
        build({"a.c": "int a;", "a.h": ""}, FLAGS, "a.so", "fakecc"),
    }
    assert len(others | {first}) == 4 and fake.read_text().count("call") == 4
    assert first.read_text() == "int a;"


def test_a_refused_build_leaves_nothing_behind(fake, cache):
    with pytest.raises(BuildError):
        build({"a.c": "BROKEN"}, FLAGS, "a.so", "fakecc")
    assert list((cache / "build").iterdir()) == []


def test_an_unusable_cache_folder_is_told(fake, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COFIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileError, match="set COFIT_CACHE"):
        build({"a.c": "int a;"}, FLAGS, "a.so", "fakecc")
