"""Graphs survive the disk without loss, whatever they are made of; broken files say so."""

import json
from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph import ATTRIBUTES

from cofit.core import FileError, read_json, write_json
from cofit.ir import (
    DType,
    Graph,
    Op,
    Quantisation,
    QuantSpec,
    Rounding,
    Tensor,
    attributes,
    load_graph,
    run_float,
    save_graph,
    trace,
)
from cofit.ir.shapes import output_shape

FUSED = st.sampled_from(["none", "relu", "relu6"])
SIZES = {DType.F32: np.float32, DType.I8: np.int8, DType.I16: np.int16, DType.I32: np.int32}


@st.composite
def steps(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[attributes.Attributes, list[tuple]]:
    """One op that fits a shape, and the shapes of its constants."""
    rank, channels = len(shape), shape[1]
    small = st.integers(0, 2)
    choices = ["add", "mul", "concat", "reshape", "slice", "pad", "activation"]
    choices += ["conv2d", "maxpool2d", "avgpool2d", "globalmean"] if rank == 4 else []
    choices += ["linear", "softmax"] if rank < 4 else []
    match draw(st.sampled_from(choices)):
        case "conv2d":
            out, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, channels]))
            pads = (draw(small), draw(small), draw(small), draw(small))
            stride = (draw(st.integers(1, 2)), 1)
            weight = (out * groups, channels // groups, 1, 1)
            conv = attributes.Conv2d(
                stride, pads, (draw(st.integers(1, 3)), 1), groups, draw(FUSED)
            )
            return conv, [weight, (out * groups,)]
        case "linear":
            return attributes.Linear(draw(FUSED)), [(3, shape[-1]), (3,)]
        case "add":
            return attributes.Add(draw(FUSED)), [shape]
        case "mul":
            return attributes.Mul(draw(FUSED)), [(1,) * rank]
        case "concat":
            return attributes.Concat(draw(st.integers(1, rank - 1))), [shape]
        case "maxpool2d":
            return attributes.MaxPool2d((1, 1), (1, 2)), []
        case "avgpool2d":
            pads, count = (0, 1, 0, 0), draw(st.booleans())
            return attributes.AvgPool2d((2, 1), (1, 1), pads, count), []
        case "globalmean":
            return attributes.GlobalMean(draw(st.booleans())), []
        case "reshape":
            return attributes.Reshape((1, int(np.prod(shape)))), []
        case "slice":
            steps = tuple(draw(st.integers(1, 2)) for _ in shape)
            return attributes.Slice((0,) * rank, shape, steps), []
        case "pad":
            return attributes.Pad(tuple((0, draw(small)) if i else (0, 0) for i in range(rank))), []
        case "activation":
            return attributes.Activation(draw(st.sampled_from(["tanh", "hardswish"]))), []
    return attributes.Softmax(), []


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    integer = draw(st.booleans())

    def tensor(name: str, shape: tuple[int, ...], dtype: DType, constant: bool) -> Tensor:
        scales = tuple(generator.uniform(1e-6, 1, draw(st.sampled_from([1, shape[0]]))).tolist())
        quantisation = Quantisation(scales, draw(st.integers(-128, 127)), 4) if integer else None
        data = (100 * generator.normal(size=shape)).astype(SIZES[dtype]) if constant else None
        structure = draw(st.sampled_from([None, "block16x1@4"])) if constant else None
        return Tensor(name, shape, dtype, quantisation, data, structure)

    dtype = draw(st.sampled_from([DType.I8, DType.I16])) if integer else DType.F32
    shape: tuple[int, ...] = draw(st.sampled_from([(1, 2, 3, 4), (1, 5), (1, 3, 2)]))
    tensors, ops, last = {"x": tensor("x", shape, dtype, False)}, [], "x"
    for i in range(draw(st.integers(0, 6))):
        attribute, constants = draw(steps(tensors[last].shape))
        names = [f"läyer.{i}/{k}" for k in range(len(constants))]
        for name, size in zip(names, constants, strict=True):
            tensors[name] = tensor(name, size, DType.I32 if integer else dtype, True)
        shapes = tuple(tensors[n].shape for n in (last, *names))
        tensors[f"op{i}"] = tensor(f"op{i}", output_shape(attribute, shapes), dtype, False)
        ops.append(Op(f"op{i}", attribute, (last, *names)))
        last = f"op{i}"
    spec = QuantSpec(draw(st.sampled_from(list(Rounding)))) if integer else None
    return Graph.build("g", ("x",), (last,), tuple(ops), tensors, spec)


def same(a: Graph, b: Graph) -> bool:
    if (a.name, a.inputs, a.outputs, a.ops, a.spec) != (b.name, b.inputs, b.outputs, b.ops, b.spec):
        return False
    if list(a.tensors) != list(b.tensors):
        return False
    for name, tensor in a.tensors.items():
        other = b.tensors[name]
        if repr(replace(tensor, data=None)) != repr(replace(other, data=None)):
            return False
        if (tensor.data is None) != (other.data is None):
            return False
        if tensor.data is not None and other.data is not None:
            if tensor.data.dtype != other.data.dtype:
                return False
            if tensor.data.tobytes() != other.data.tobytes():
                return False
    return True


@settings(max_examples=60, deadline=None)
@given(graph=graphs())
def test_round_trip(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("graph")
    save_graph(graph, folder)
    assert same(load_graph(folder), graph)
    first = [path.read_bytes() for path in sorted(folder.iterdir())]
    save_graph(load_graph(folder), folder)
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == first


@pytest.mark.parametrize(("attribute", "shapes"), ATTRIBUTES, ids=lambda v: getattr(v, "kind", ""))
def test_every_kind_comes_back(
    attribute: attributes.Attributes, shapes: list[tuple[int, ...]], tmp_path: Path
) -> None:
    data = [np.zeros(shape, np.float32) for shape in shapes]
    tensors = {f"t{i}": Tensor(f"t{i}", d.shape, data=d if i else None) for i, d in enumerate(data)}
    op = Op("y", attribute, tuple(tensors))
    tensors["y"] = Tensor("y", output_shape(attribute, tuple(shapes)))
    graph = Graph.build("g", ("t0",), ("y",), (op,), tensors)
    save_graph(graph, tmp_path)
    assert same(load_graph(tmp_path), graph)


def test_a_traced_network_computes_the_same_after_the_disk(tmp_path: Path) -> None:
    graph = trace(networks.Branches(), torch.zeros(1, 3, 16, 16))
    save_graph(graph, tmp_path, "net")
    assert {path.name for path in tmp_path.iterdir()} == {"net.json", "net.safetensors"}
    x = {"x": torch.linspace(-1, 1, 3 * 256).reshape(1, 3, 16, 16)}
    again = run_float(load_graph(tmp_path, "net"), x)
    assert torch.equal(again[graph.outputs[0]], run_float(graph, x)[graph.outputs[0]])


def edited(document: dict, **changes: object) -> dict:
    return document | changes


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: edited(d, version=99), "not a cofit graph"),
        (lambda d: edited(d, format="other"), "not a cofit graph"),
        (lambda d: edited(d, ops=[d["ops"][0] | {"kind": "warp"}]), "unknown kind 'warp'"),
        (
            lambda d: edited(d, tensors=[*d["tensors"], d["tensors"][-1] | {"name": "lost"}]),
            "'lost'",
        ),
    ],
)
def test_broken_documents_are_refused(tmp_path: Path, change, text: str) -> None:
    graph = trace(torch.nn.Linear(3, 2), torch.zeros(1, 3))
    save_graph(graph, tmp_path)
    document = read_json(tmp_path / "graph.json")
    document["tensors"].sort(key=lambda entry: entry["constant"])
    write_json(tmp_path / "graph.json", json.loads(json.dumps(change(document))))
    with pytest.raises(FileError, match=text):
        load_graph(tmp_path)
