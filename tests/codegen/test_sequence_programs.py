"""Compiled sequence networks against torch, and their ONNX form against ONNX Runtime."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cofit.codegen import compile, emit, machine
from cofit.codegen.export import export_onnx
from cofit.codegen.layout import same_bytes_turned
from cofit.core import UnsupportedOpError, VerificationError, numpy_generator, torch_generator
from cofit.ir import Graph, Op, Tensor, attributes, run_float, trace

sys.path.insert(0, str(Path(__file__).parents[1] / "ir"))
from sequence_nets import CASES, Encoder, GruSpeech, SmallVit

NETWORKS = {
    "bert": (Encoder, torch.randint(0, 8, (3, 6), generator=torch_generator(1))),
    "vit with a token": (lambda: SmallVit(True), torch.randn(3, 3, 16, 16)),
    "vit with a mean": (lambda: SmallVit(False), torch.randn(3, 3, 16, 16)),
    "gru": (GruSpeech, torch.randn(3, 12, 10)),
    "lstm": (lambda: nn.Sequential(nn.Linear(6, 9), First(nn.LSTM(9, 13, 2, batch_first=True))),
             torch.randn(3, 7, 6)),
}  # fmt: skip


class First(nn.Module):
    """The first result of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def expected(module: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([module.eval()(x[i : i + 1]) for i in range(len(x))]).numpy()


@pytest.mark.parametrize("name", CASES)
def test_every_form_compiles_and_is_verified(name):
    build, shape, _ = CASES[name]
    generator = torch_generator(2, name)
    module = build()
    for parameter in module.parameters():
        parameter.data.normal_(generator=generator)
    graph = trace(module, torch.randn(shape, generator=generator), "form")
    program = compile(graph)  # step by step within the a-priori bounds
    x = torch.randn(2, *shape[1:], generator=generator)
    np.testing.assert_allclose(program.run(x.numpy()), expected(module, x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_equal_torch(name, tmp_path):
    build, x = NETWORKS[name]
    torch.manual_seed(3)
    module = build()
    graph = trace(module, x[:1], "network")
    y = expected(module, x)
    np.testing.assert_allclose(compile(graph).run(x.numpy()), y, rtol=1e-4, atol=1e-5)
    runtime = pytest.importorskip("onnxruntime")
    export_onnx(graph, tmp_path / "network.onnx")
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    tokens = not x.is_floating_point()
    fed = {graph.inputs[0]: x.numpy().astype(np.int32) if tokens else x.numpy()}
    np.testing.assert_allclose(session.run(None, fed)[0], y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_onnx_of_every_form_equals_the_graph(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    build, shape, _ = CASES[name]
    torch.manual_seed(6)
    graph = trace(build(), torch.randn(shape), "form")
    export_onnx(graph, tmp_path / "form.onnx")
    session = runtime.InferenceSession(tmp_path / "form.onnx")
    x = torch.randn(2, *shape[1:], generator=torch_generator(8))
    (y,) = run_float(graph, {graph.inputs[0]: x}).values()
    (found,) = session.run(None, {graph.inputs[0]: x.numpy()})
    np.testing.assert_allclose(found, y.numpy(), rtol=1e-4, atol=1e-5)


def product_graph(matrices: int, rows: int, inner: int, columns: int, transposed: bool) -> Graph:
    """Two slices of one input, multiplied."""
    x = (1, 1, matrices, rows, inner)
    y = (1, 1, matrices, *((columns, inner) if transposed else (inner, columns)))
    sizes = [int(np.prod(shape)) for shape in (x, y)]
    total = sum(sizes)
    shapes = {"in": (1, total), "a": (1, sizes[0]), "b": (1, sizes[1]), "x": x, "y": y,
              "out": (*x[:-1], columns)}  # fmt: skip
    ops = (
        Op("a", attributes.Slice((0, 0), (1, sizes[0]), (1, 1)), ("in",)),
        Op("b", attributes.Slice((0, sizes[0]), (1, total), (1, 1)), ("in",)),
        Op("x", attributes.Reshape(x), ("a",)),
        Op("y", attributes.Reshape(y), ("b",)),
        Op("out", attributes.Matmul(transposed, 0.3), ("x", "y")),
    )
    tensors = {name: Tensor(name, shape) for name, shape in shapes.items()}
    return Graph.build("product", ("in",), ("out",), ops, tensors)


def test_products_of_all_sizes_are_verified():
    rng = numpy_generator(4)
    for _ in range(12):
        sizes = [int(n) for n in rng.integers(1, (4, 20, 40, 40))]
        compile(product_graph(*sizes, transposed=bool(rng.integers(2))))


@pytest.mark.parametrize("change", ["weight_hh_l0", "bias_hh_l0"])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_recurrent_program_with_other_weights_is_caught(kind, change):
    torch.manual_seed(1)
    graph = trace(First(kind(5, 8, batch_first=True)), torch.randn(1, 6, 5), "recurrent")
    program = compile(graph)
    constant = graph.tensors[f"layer.{change}"]
    constant.data.flat[3] += 0.01
    from cofit.codegen.verify import verify

    with pytest.raises(VerificationError, match="recurrent"):
        verify(program.source, program.runner)


def test_tokens_out_of_the_table_read_nothing_beyond_it():
    graph = trace(Encoder(), torch.tensor([[5, 1, 0, 7, 7, 2]]), "tokens")
    program = compile(graph)
    wild = np.array([[-(2**31), 2**31 - 1, 3, 3, 3, 3]])
    near = np.array([[0, 7, 3, 3, 3, 3]])
    np.testing.assert_array_equal(program.run(wild), program.run(near))


def test_tokens_become_pixels_without_a_copy():
    """The mean over tokens is that over an image: its reshape and transposition move no byte."""
    assert same_bytes_turned((1, 1, 5, 8), (0, 3, 1, 2))
    assert not same_bytes_turned((1, 5, 8), (0, 2, 1))
    graph = trace(CASES["mean of tokens"][0](), torch.randn(1, 5, 8), "mean")
    assert [step.kind for step in emit(graph, machine("host")).steps] == ["globalmean"]


@pytest.mark.parametrize("name", ["layer norm", "gelu", "gelu by tanh", "last state of an lstm"])
def test_floats_that_need_a_libm_are_refused_on_cortex_m(name):
    build, shape, _ = CASES[name]
    graph = trace(build(), torch.randn(shape), "form")
    with pytest.raises(UnsupportedOpError, match="needs libm"):
        emit(graph, machine("cortex-m4"))
