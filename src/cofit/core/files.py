"""Files that are whole or absent: write to a temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from cofit.core.errors import FileError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends without an error.

    Raises:
        FileError: the folder is not writable or the disk is full; nothing is left behind.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise FileError(
            f"cannot write {str(path)!r}: {error.strerror or error}; "
            "choose a writable folder with free space"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def clear_unfinished(path: Path) -> None:
    """Remove what killed processes left while they were writing this file or folder."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[a-z0-9_]' * 8}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or malformed file is a FileError naming it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{str(path)!r} is not valid JSON: {error}") from error


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, whole or not at all."""
    plain = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_write(path) as file:
        # an empty mapping beside no tensors would make safetensors write a broken header
        file.write(save_safetensors(plain, metadata=dict(metadata) if metadata else None))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file. Pickles are refused: they could run code.

    Raises:
        FileError: the file is absent, truncated, or of another format.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read weights {str(path)!r}: {error.strerror}") from error
    try:
        tensors: dict[str, torch.Tensor] = load_safetensors(blob)
    except (SafetensorError, ValueError, KeyError) as error:
        # only now: the length that begins a good file may look like either signature
        if blob[:2] == b"PK" or blob[:1] == b"\x80":
            raise FileError(
                f"{str(path)!r} is a pickle or a torch archive, which could run code; "
                "save the weights with safetensors.torch.save_file and pass that file"
            ) from error
        raise FileError(
            f"{str(path)!r} is not a whole safetensors file ({error}); save it again"
        ) from error
    return tensors


def cache_dir() -> Path:
    """The folder of measured tables and downloads: $COFIT_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("COFIT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cofit"
