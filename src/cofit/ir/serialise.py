"""Graphs as JSON (structure) plus tensors (constants), and back without loss."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cofit.core import FileError, read_json, read_tensors, write_json, write_tensors
from cofit.ir.attributes import KINDS, Attributes
from cofit.ir.types import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor

VERSION = 1


def to_json(graph: Graph) -> dict[str, Any]:
    """The graph without the elements of its constants."""
    return {
        "format": "cofit.graph",
        "version": VERSION,
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "rounding": None if graph.spec is None else graph.spec.rounding.value,
        "ops": [
            {
                "output": op.output,
                "kind": op.kind,
                "inputs": list(op.inputs),
                **asdict(op.attributes),
            }
            for op in graph.ops
        ],
        "tensors": [_tensor_to_json(tensor) for tensor in graph.tensors.values()],
    }


def from_json(document: dict[str, Any], constants: dict[str, np.ndarray[Any, Any]]) -> Graph:
    """Inverse of `to_json`, given the constants by tensor name."""
    if document.get("format") != "cofit.graph" or document.get("version") != VERSION:
        raise FileError(f"not a cofit graph of version {VERSION}: {document.get('format')!r}")
    tensors = [_tensor_from_json(entry, constants) for entry in document["tensors"]]
    return Graph.build(
        document["name"],
        tuple(document["inputs"]),
        tuple(document["outputs"]),
        tuple(_op_from_json(dict(entry)) for entry in document["ops"]),
        {tensor.name: tensor for tensor in tensors},
        None if document["rounding"] is None else QuantSpec(Rounding(document["rounding"])),
    )


def save_graph(graph: Graph, folder: Path, stem: str = "graph") -> None:
    """Write `stem.json` and `stem.safetensors` into a folder."""
    arrays = {
        n: torch.from_numpy(np.asarray(t.data))
        for n, t in graph.tensors.items()
        if t.data is not None
    }
    write_tensors(folder / f"{stem}.safetensors", arrays)
    write_json(folder / f"{stem}.json", to_json(graph))


def load_graph(folder: Path, stem: str = "graph") -> Graph:
    """Read what `save_graph` wrote.

    Raises:
        FileError: a file is absent or damaged.
    """
    arrays = {n: t.numpy() for n, t in read_tensors(folder / f"{stem}.safetensors").items()}
    file = folder / f"{stem}.json"
    try:
        return from_json(read_json(file), arrays)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise FileError(f"graph {str(file)!r} is damaged ({cause}); save it again") from error


def _tensor_to_json(tensor: Tensor) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype.value,
        "constant": tensor.data is not None,
    }
    if tensor.quantisation is not None:
        entry["quantisation"] = asdict(tensor.quantisation)
    if tensor.structure is not None:
        entry["structure"] = tensor.structure
    return entry


def _tensor_from_json(entry: dict[str, Any], constants: dict[str, np.ndarray[Any, Any]]) -> Tensor:
    quantisation = entry.get("quantisation")
    if entry["constant"] and entry["name"] not in constants:
        raise FileError(f"constant {entry['name']!r} of the graph is missing from its tensor file")
    return Tensor(
        entry["name"],
        tuple(entry["shape"]),
        DType(entry["dtype"]),
        None if quantisation is None else Quantisation(**_tuples(quantisation)),
        constants[entry["name"]] if entry["constant"] else None,
        entry.get("structure"),
    )


def _op_from_json(entry: dict[str, Any]) -> Op:
    output, kind, inputs = entry.pop("output"), entry.pop("kind"), entry.pop("inputs")
    if kind not in KINDS:
        raise FileError(f"op {output!r} has the unknown kind {kind!r}; known: {', '.join(KINDS)}")
    attributes: Attributes = KINDS[kind](**_tuples(entry))
    return Op(output, attributes, tuple(inputs))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
