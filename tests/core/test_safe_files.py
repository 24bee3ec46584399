"""Files are whole or absent, and nothing that could run code is opened."""

import pickle
from pathlib import Path

import pytest
import torch

from cofit.core import (
    FileError,
    atomic_write,
    cache_dir,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)


def test_a_broken_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"old")
    with pytest.raises(RuntimeError, match="mid-way"), atomic_write(path) as file:
        file.write(b"new, but")
        file.flush()
        assert path.read_bytes() == b"old"
        raise RuntimeError("mid-way")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="choose a writable folder"):
        write_json(tmp_path / "file" / "inside.json", {})


def test_json_comes_back_and_nan_does_not_go(tmp_path: Path) -> None:
    path, value = tmp_path / "a.json", {"ü": [1, 2.5, None, "x"], "n": {"m": True}}
    write_json(path, value)
    assert read_json(path) == value
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert read_json(path) == value  # the old one
    path.write_text('{"half": ')
    with pytest.raises(FileError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(FileError, match="cannot read"):
        read_json(tmp_path / "absent.json")


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    matrix = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    tensors = {
        "transposed": matrix.t(), "view": matrix[:, 1], "int8": torch.arange(5, dtype=torch.int8),
        "empty": torch.zeros(0, 3), "grad": torch.nn.Parameter(matrix), "scalar": torch.tensor(3.5),
    }  # fmt: skip
    write_tensors(path, tensors, {"note": "x"})
    found = read_tensors(path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_no_tensors_are_a_file_too(tmp_path: Path) -> None:
    write_tensors(tmp_path / "none", {})
    assert read_tensors(tmp_path / "none") == {}


def test_headers_of_every_length_are_read(tmp_path: Path) -> None:
    """A safetensors file begins with its header's length, whose bytes may look like a pickle's."""
    path, first = tmp_path / "w.safetensors", set()
    for length in range(1, 260, 8):
        write_tensors(path, {"n" * length: torch.zeros(1)})
        first.add(path.read_bytes()[:1])
        assert len(read_tensors(path)) == 1
    assert b"\x80" in first


def test_pickles_and_archives_are_refused_unopened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "exploded",)

    pickled, archive = tmp_path / "a.pkl", tmp_path / "b.pt"
    pickled.write_bytes(pickle.dumps(Bomb()))
    torch.save({"w": torch.zeros(2)}, archive)
    for path in (pickled, archive):
        with pytest.raises(FileError, match="could run code"):
            read_tensors(path)
    assert not (tmp_path / "exploded").exists()


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"w": torch.zeros(100)})
    whole = path.read_bytes()
    for size in (0, 4, 20, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FileError, match="not a whole safetensors file"):
            read_tensors(path)
    with pytest.raises(FileError, match="cannot read weights"):
        read_tensors(tmp_path / "absent")


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COFIT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("COFIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "cofit"
