"""ONNX files against the meaning of their graphs; ONNX Runtime is the other opinion."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from layers import SEQUENCE_KINDS, every_op, random_layer
from s8_graphs import Chain, random_convolution, weights

from cofit.codegen import export_onnx
from cofit.core import FileError, torch_generator
from cofit.data import load
from cofit.ir import (
    Graph,
    Op,
    Rounding,
    Tensor,
    calibrate,
    dequantise_output,
    quantise,
    quantise_input,
    run_float,
    run_integer,
    trace,
)
from cofit.ir import attributes as at
from cofit.models import load_model

ort = pytest.importorskip("onnxruntime")

TINY = ("resnet8", "ds_cnn", "mobilenet_v1_025", "autoencoder")
ZOO = ("resnet20", "mobilenet_v2_small", *(f"mlperf_tiny/{name}" for name in TINY))


def session(path: Path, fuse: bool = True, optimised: Path | None = None):
    """ONNX Runtime on one thread; without `fuse` every node is computed as ONNX defines it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not fuse:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    # without VNNI its fast kernels saturate sums of two products at 16 bits
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def runtime(graph: Graph, folder: Path, inputs: dict[str, np.ndarray], fuse: bool = True):
    export_onnx(graph, folder / "g.onnx")
    found = session(folder / "g.onnx", fuse).run(list(graph.outputs), inputs)
    return dict(zip(graph.outputs, found, strict=True))


def float_error(graph: Graph, folder: Path, batch: int = 3) -> float:
    """Largest difference to `run_float` in float64, relative to the largest output."""
    shapes = {name: (batch, *graph.tensors[name].shape[1:]) for name in graph.inputs}
    rng = torch_generator(3, graph.name)
    inputs = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    exact = run_float(graph, inputs, torch.float64)
    found = runtime(graph, folder, {name: x.numpy() for name, x in inputs.items()})
    errors = []
    for name, y in exact.items():
        assert found[name].shape == tuple(y.shape)
        errors.append(np.abs(found[name] - y.numpy()).max() / max(y.abs().max().item(), 1e-6))
    return max(errors)


def test_random_layers_compute_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    graphs = [random_layer(f"layer{i}", rng) for i in range(120)]
    assert {op.attributes.fused for g in graphs for op in g.ops} == {"none", "relu", "relu6"}
    assert max(float_error(graph, tmp_path) for graph in graphs) < 1e-5


def test_every_op_kind_computes_the_same(tmp_path: Path) -> None:
    graph = every_op("every", np.random.default_rng(0))
    assert {op.kind for op in graph.ops} == set(at.KINDS) - SEQUENCE_KINDS
    assert float_error(graph, tmp_path, batch=1) < 1e-5
    assert float_error(graph, tmp_path, batch=4) < 1e-5


@pytest.mark.parametrize("name", ZOO)
def test_networks_compute_the_same(name: str, tmp_path: Path) -> None:
    loaded = load_model(name)
    graph = trace(loaded.module, torch.zeros(1, *loaded.input_shape))
    assert float_error(graph, tmp_path, batch=2) < 1e-4


def test_ports_are_float_with_an_open_batch_and_the_graphs_names(tmp_path: Path) -> None:
    graph = random_layer("layer", np.random.default_rng(2))
    for each in (graph, quantised(graph)):
        export_onnx(each, tmp_path / "g.onnx")
        model = onnx.load(tmp_path / "g.onnx")
        onnx.checker.check_model(model, full_check=True)
        for port, name in ((model.graph.input, "x"), (model.graph.output, graph.outputs[0])):
            (info,) = port
            assert info.name == name and info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            sizes = [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]
            assert sizes == ["N", *graph.tensors[name].shape[1:]]
        assert {entry.domain for entry in model.opset_import} == {""}


def quantised(graph: Graph) -> Graph:
    shape = (16, *graph.tensors["x"].shape[1:])
    x = torch.randn(shape, generator=torch_generator(5, "calibration"))
    return quantise(graph, calibrate(graph, [x]))


def alone(graph: Graph, op: Op) -> Graph:
    """One op of an integer graph as a graph."""
    active = [n for n in dict.fromkeys(op.inputs) if graph.tensors[n].data is None]
    return Graph.build("one", tuple(active), (op.output,), (op,), graph.tensors, graph.spec)


def steps_off(graph: Graph, folder: Path, fuse: bool) -> dict[str, np.ndarray]:
    """Per op: how many output steps ONNX Runtime is off when it is given the exact inputs."""
    rng = np.random.default_rng(8)
    shape = graph.tensors["x"].shape
    stored = {"x": rng.integers(-128, 128, (2, *shape[1:])).astype(np.int8)}
    found = {}
    for op in graph.ops:
        one = alone(graph, op)
        given = {name: stored[name] for name in one.inputs}
        stored |= run_integer(one, given)
        reals = {name: dequantise_output(graph, q, name) for name, q in given.items()}
        y = runtime(one, folder, reals, fuse)[op.output]
        scale = graph.tensors[op.output].quantisation.scale[0]
        off = y / scale - dequantise_output(graph, stored[op.output], op.output) / scale
        found[f"{op.output} {op.kind}"] = np.rint(off).astype(int)
    return found


def integer_graphs() -> list[Graph]:
    rng = np.random.default_rng(21)
    graphs = [quantised(every_op("every", rng))]
    for i in range(12):
        chain = Chain(rng, (1, int(rng.integers(1, 20)), 9, 11), name=f"chain{i}")
        for _ in range(4):
            random_convolution(chain)
        chain.add(at.GlobalMean(keep=False), keep=False)
        chain.weighted(at.Linear("relu6"), weights(rng, (7, chain.here[1])))
        graphs.append(chain.graph())
    return graphs


@pytest.mark.parametrize("fuse", [False, True])
def test_integer_ops_are_off_by_one_step_at_most(fuse: bool, tmp_path: Path) -> None:
    kinds, total, equal = set(), 0, 0
    for graph in integer_graphs():
        kinds |= {op.kind for op in graph.ops}
        for name, off in steps_off(graph, tmp_path, fuse).items():
            assert np.abs(off).max(initial=0) <= 1, name
            total, equal = total + off.size, equal + int((off == 0).sum())
    assert kinds == set(at.KINDS) - SEQUENCE_KINDS
    assert equal / total > 0.98


def test_four_bit_weights_and_constant_operands_keep_their_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    tensors = {
        "x": Tensor("x", (1, 6)),
        "y": Tensor("y", (1, 4)),
        "z": Tensor("z", (1, 4)),
        "w": Tensor("w", (4, 6), data=rng.standard_normal((4, 6)).astype(np.float32)),
        "b": Tensor("b", (4,), data=rng.standard_normal(4).astype(np.float32)),
        "c": Tensor("c", (1, 4), data=rng.standard_normal((1, 4)).astype(np.float32)),
    }
    ops = (Op("y", at.Linear(), ("x", "w", "b")), Op("z", at.Mul("relu"), ("y", "c")))
    graph = Graph.build("g", ("x",), ("z",), ops, tensors)
    x = torch.randn(64, 6, generator=torch_generator(1, "x"))
    q = quantise(graph, calibrate(graph, [x]), weight_bits=4)
    assert q.tensors["w"].quantisation.bits == 4
    found = runtime(q, tmp_path, {"x": x.numpy()})["z"]
    stored = run_integer(q, {"x": quantise_input(q, x.numpy())})["z"]
    step = q.tensors["z"].quantisation.scale[0]
    assert np.abs(found - dequantise_output(q, stored)).max() < 2.01 * step  # two ops
    assert np.abs(found).max() > 20 * step


def kernels(graph: Graph, folder: Path) -> Counter[str]:
    """Node kinds that ONNX Runtime really runs."""
    export_onnx(graph, folder / "g.onnx")
    session(folder / "g.onnx", optimised=folder / "fused.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "fused.onnx").graph.node)


@pytest.mark.parametrize("name", ZOO)
def test_int8_kernels_fuse(name: str, tmp_path: Path) -> None:
    loaded = load_model(name)
    x = torch.rand(4, *loaded.input_shape, generator=torch_generator(0, "images"))
    graph = trace(loaded.module, x)
    run = kernels(quantise(graph, calibrate(graph, [loaded.preprocess(x)])), tmp_path)
    kinds = Counter(op.kind for op in graph.ops)
    assert run["QLinearConv"] == kinds["conv2d"] and run["QGemm"] == kinds["linear"]
    assert run["QLinearAdd"] == kinds["add"]
    assert not {"Conv", "Gemm", "Add", "Relu", "Clip"} & set(run)


def test_resnet8_decides_as_the_integer_reference(
    data_dir: Path, models_dir: Path, tmp_path: Path
) -> None:
    loaded = load_model("mlperf_tiny/resnet8", models_dir / "mlperf_tiny" / "resnet8.safetensors")
    data = load("cifar10")
    graph = trace(loaded.module, torch.zeros(1, 3, 32, 32))
    integer = quantise(graph, calibrate(graph, [loaded.preprocess(data.train.inputs[:64])]))
    x = loaded.preprocess(data.test.inputs[:300]).numpy()
    name, out = integer.inputs[0], integer.outputs[0]
    found = runtime(integer, tmp_path, {name: x})[out]
    reference = dequantise_output(
        integer, run_integer(integer, {name: quantise_input(integer, x)})[out]
    )
    assert (found.argmax(1) == reference.argmax(1)).mean() >= 0.98
    correct = (found.argmax(1) == data.test.targets[:300].numpy()).sum()
    assert 255 <= correct <= 270  # the float network has 263
    step = integer.tensors[out].quantisation.scale[0]
    assert (np.abs(found - reference) <= 1.01 * step).mean() > 0.9


def test_rounding_is_the_runtimes_own_whatever_the_graphs(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    chain = Chain(rng, (1, 8, 5, 5), Rounding.SINGLE)
    random_convolution(chain)
    for off in steps_off(chain.graph(), tmp_path, fuse=False).values():
        assert np.abs(off).max() <= 1


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    graph = random_layer("layer", np.random.default_rng(3))
    blocked = tmp_path / "file"
    blocked.write_text("here")
    with pytest.raises(FileError, match="choose a writable folder"):
        export_onnx(graph, blocked / "g.onnx")
    export_onnx(graph, tmp_path / "new" / "g.onnx")
    before = (tmp_path / "new" / "g.onnx").read_bytes()
    export_onnx(graph, tmp_path / "new" / "g.onnx")
    assert (tmp_path / "new" / "g.onnx").read_bytes() == before
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["g.onnx"]
