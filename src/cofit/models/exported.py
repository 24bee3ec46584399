"""Programs saved by `torch.export.save` (.pt2), read as data and replayed op by op.

`torch.export.load` must not see a file from elsewhere: as of torch 2.13 it falls back to full
unpickling for example inputs and constants, evaluates shape expressions and guard texts as Python,
resolves any `torch.*` path as a callee, and loads shared libraries from the archive. Here the
archive is a zip of JSON and raw tensor bytes; pickled records are never opened, and the only
callees are ATen operators that take a tensor first.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cofit.core import ModelError

# numbers of ScalarType and MemoryFormat in torch._export.serde.schema, a stable file format
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format,
}  # fmt: skip
_ATEN = re.compile(r"torch\.ops\.aten\.([a-z0-9_]+)\.([A-Za-z0-9_]+)")
_INTERNAL = frozenset((
    "_adaptive_avg_pool2d", "_log_softmax", "_native_batch_norm_legit_no_training", "_softmax",
    "_to_copy", "_unsafe_view",
))  # fmt: skip
"""Operators of core ATen that begin with an underscore; others there may skip bounds checks."""

_KEYWORD = 2
_VALUES = frozenset(("as_tensor", "as_tensors", "as_none", "as_sym_int", "as_sym_ints"))
_LITERALS = frozenset(("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools"))

Json = dict[str, Any]
Values = dict[str, Any]


@dataclass(frozen=True)
class _Node:
    """One call: arguments are JSON, resolved against the values computed so far."""

    function: Callable[..., Any]
    positional: tuple[Json, ...]
    keyword: Mapping[str, Json]
    outputs: tuple[str, ...]
    several: bool


class ExportedNetwork(nn.Module):
    """A module that replays an exported program; parameters keep their original names.

    Batch norm and dropout behave as they did at export (evaluation mode, if cofit or any deployment
    exported it); `train()` does not change that.
    """

    def __init__(self, program: Json, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        graph = program["graph_module"]["graph"]
        self._sources: dict[str, str] = {}
        inputs: list[str] = []
        for spec in program["graph_module"]["signature"]["input_specs"]:
            ((kind, body),) = spec.items()
            if kind == "user_input":
                inputs.append(body["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                key = body[f"{kind}_name"]
                self._sources[body["arg"]["name"]] = key
                _register(self, key, tensors[key])
            else:
                raise ModelError(f"input of kind {kind!r}")
        if len(inputs) != 1 or len(graph["outputs"]) != 1:
            raise ModelError(f"{len(inputs)} inputs and {len(graph['outputs'])} outputs, not 1")
        self._input = inputs[0]
        self._output = graph["outputs"][0]["as_tensor"]["name"]
        self._nodes = tuple(_node(node) for node in graph["nodes"])
        self._check_order()
        sizes = graph["tensor_values"][self._input]["sizes"]
        self.input_shape = tuple(_size(size) for size in sizes[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the exported network computes; a batch other than the exported one may be refused.

        Reshapes with a fixed batch written into the program are the usual reason.
        """
        values: Values = {self._input: x}
        for name, key in self._sources.items():
            values[name] = _attribute(self, key)
        for node in self._nodes:
            results = node.function(
                *(_resolve(argument, values) for argument in node.positional),
                **{name: _resolve(value, values) for name, value in node.keyword.items()},
            )
            values.update(zip(node.outputs, results if node.several else (results,), strict=False))
        output: torch.Tensor = values[self._output]
        return output

    def _check_order(self) -> None:
        known = {self._input, *self._sources}
        for node in self._nodes:
            for argument in (*node.positional, *node.keyword.values()):
                if unknown := next((n for n in _references(argument) if n not in known), None):
                    raise ModelError(f"value {unknown!r} is used before it is computed")
            known.update(node.outputs)
        if self._output not in known:
            raise ModelError(f"output {self._output!r} is never computed")


def load_exported(path: Path) -> ExportedNetwork:
    """Read a .pt2 file of one tensor in and one tensor out.

    Raises:
        ModelError: the file is absent, broken, or holds pickled weights, custom objects, dynamic
            shape arithmetic or operators other than ATen's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            program = json.loads(archive.read(names["models/model.json"]))
            tensors: dict[str, torch.Tensor] = {}
            for folder, word in (("weights", "weights"), ("constants", "constants")):
                config = f"data/{folder}/model_{word}_config.json"
                rows = json.loads(archive.read(names[config]))["config"]
                shared: dict[str, torch.Tensor] = {}
                for key, row in rows.items():
                    place = json.dumps([row["path_name"], row["tensor_meta"]])
                    if place not in shared:  # tied weights stay tied
                        shared[place] = _tensor(archive, names, folder, key, row)
                    tensors[key] = shared[place]
        return ExportedNetwork(program, tensors)
    except ModelError as error:
        raise ModelError(
            f"cannot use {str(path)!r}: {error}; give the network as MODULE:FACTORY instead"
        ) from error
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"cannot read {str(path)!r}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise ModelError(
            f"{str(path)!r} is not a program of torch.export.save that cofit understands "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); "
            "export it again with torch 2.13 or give MODULE:FACTORY"
        ) from error


def _tensor(
    archive: zipfile.ZipFile, names: Mapping[str, str], folder: str, key: str, row: Json
) -> torch.Tensor:
    if row["use_pickle"] or row["tensor_meta"] is None:
        raise ModelError(f"{key!r} is stored as a pickle, which could run code")
    meta = row["tensor_meta"]
    dtype = _DTYPES[meta["dtype"]]
    sizes = [_size(size) for size in meta["sizes"]]
    strides = [_size(stride) for stride in meta["strides"]]
    offset = _size(meta["storage_offset"])
    record = archive.getinfo(names[f"data/{folder}/{row['path_name']}"])
    extent = offset + 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    extent = extent if math.prod(sizes) else 0
    if extent * dtype.itemsize > record.file_size:
        raise ModelError(f"{key!r} needs {extent * dtype.itemsize} bytes of {record.file_size}")
    if extent == 0:
        return torch.empty(sizes, dtype=dtype)
    storage = torch.frombuffer(bytearray(archive.read(record)), dtype=dtype)
    tensor = storage.as_strided(sizes, strides, offset).clone()
    return nn.Parameter(tensor) if row["is_param"] else tensor


def _register(root: nn.Module, key: str, tensor: torch.Tensor) -> None:
    *parents, leaf = key.split(".")
    owner = root
    for name in parents:
        child = dict(owner.named_children()).get(name)
        if child is None:
            child = nn.Module()
            owner.add_module(name, child)
        owner = child
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(leaf, tensor)
    else:
        owner.register_buffer(leaf, tensor)


def _attribute(root: nn.Module, key: str) -> Any:
    # getattr at the leaf, so that parametrisations of a weight take effect
    owner, _, leaf = key.rpartition(".")
    return getattr(root.get_submodule(owner), leaf)


def _node(node: Json) -> _Node:
    match = _ATEN.fullmatch(node["target"])
    function = match and getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
    hidden = match and match[1].startswith("_") and match[1] not in _INTERNAL
    if not match or hidden or not isinstance(function, torch._ops.OpOverload):
        raise ModelError(f"operator {node['target']!r} is not one of ATen's")
    arguments = function._schema.arguments
    if not arguments or str(arguments[0].type) not in ("Tensor", "List[Tensor]"):
        raise ModelError(f"operator {node['target']!r} computes nothing from its inputs")
    for row in node["inputs"]:
        _check_argument(row["arg"])
    positional = tuple(row["arg"] for row in node["inputs"] if row.get("kind") != _KEYWORD)
    keyword = {row["name"]: row["arg"] for row in node["inputs"] if row.get("kind") == _KEYWORD}
    outputs = [name for output in node["outputs"] for name in _references(output)]
    several = len(node["outputs"]) > 1 or "as_tensors" in node["outputs"][0]
    return _Node(function, positional, keyword, tuple(outputs), several)


def _check_argument(argument: Json) -> None:
    ((kind, value),) = argument.items()
    tables: dict[str, Container[object]] = {
        "as_scalar_type": _DTYPES,
        "as_memory_format": _MEMORY_FORMATS,
        "as_string": ("constant",),
    }
    if kind not in _VALUES | _LITERALS and value not in tables.get(kind, ()):
        raise ModelError(f"an argument of kind {kind!r}")


def _references(argument: Json) -> list[str]:
    """Names of the values that an argument needs."""
    ((kind, value),) = argument.items()
    if kind in ("as_tensor", "as_tensors"):
        return [row["name"] for row in (value if kind == "as_tensors" else [value])]
    if kind in ("as_sym_int", "as_sym_ints"):
        rows = value if kind == "as_sym_ints" else [value]
        return [row["as_name"] for row in rows if "as_name" in row]
    return []


def _resolve(argument: Json, values: Values) -> Any:
    ((kind, value),) = argument.items()
    if kind == "as_tensor":
        return values[value["name"]]
    if kind == "as_tensors":
        return [values[row["name"]] for row in value]
    if kind == "as_none":
        return None
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if kind == "as_sym_int":
        return _symbol(value, values)
    if kind == "as_sym_ints":
        return [_symbol(row, values) for row in value]
    return value


def _symbol(row: Json, values: Values) -> Any:
    return values[row["as_name"]] if "as_name" in row else row["as_int"]


def _size(size: Json) -> int:
    value = size["as_int"] if "as_int" in size else size["as_expr"]["hint"]["as_int"]
    if not isinstance(value, int) or value < 0:
        raise ModelError(f"a size of {value!r}")
    return value
