"""Nested training state as one safetensors file: whole or absent, and without pickle.

Tensors are stored as such; the tree that holds them (dicts, lists, tuples, numbers, strings) is
JSON, stored beside them as bytes, so that one rename replaces both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from cofit.core import FileError, read_tensors, write_tensors

TREE = "tree.json"
VERSION = 1


def save_checkpoint(path: Path, state: Any) -> None:
    """Write a tree of tensors, JSON scalars, dicts (string or integer keys), lists and tuples.

    Raises:
        FileError: the folder is not writable; an earlier checkpoint is then still whole.
        TypeError: a value of another type.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = {"version": VERSION, "state": _encode(state, tensors)}
    text = json.dumps(tree, allow_nan=False).encode()
    tensors[TREE] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    write_tensors(path, tensors)


def load_checkpoint(path: Path) -> Any:
    """Read what `save_checkpoint` wrote; floats and tensors come back bit for bit.

    Raises:
        FileError: the file is absent, damaged or not a checkpoint.
    """
    tensors = read_tensors(path)
    if TREE not in tensors:
        raise FileError(f"{str(path)!r} holds tensors but is not a cofit checkpoint; remove it")
    tree = json.loads(tensors[TREE].numpy().tobytes())
    if tree["version"] != VERSION:
        raise FileError(
            f"checkpoint {str(path)!r} has version {tree['version']}, this cofit reads "
            f"{VERSION}; remove it to start again"
        )
    return _decode(tree["state"], tensors)


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    match value:
        case torch.Tensor():
            name = str(len(tensors))
            tensors[name] = value
            return {"tensor": name}
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {"dict": [[key, _encode(item, tensors)] for key, item in value.items()]}
        case list() | tuple():
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [_encode(item, tensors) for item in value]}
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            return {key: _decode(item, tensors) for key, item in content}
        case "list":
            return [_decode(item, tensors) for item in content]
        case _:
            return tuple(_decode(item, tensors) for item in content)
