"""int8 sequence networks: host C = portable C = the integer reference, and close to float."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from s8_graphs import HOST, PORTABLE, mismatches
from torch import nn

from cofit.codegen import compile, emit, machine
from cofit.codegen.export import export_onnx
from cofit.core import DataError, UnsupportedOpError, torch_generator
from cofit.ir import (
    DType,
    Graph,
    QuantSpec,
    Rounding,
    attributes,
    calibrate,
    dequantise_output,
    load_graph,
    quantise,
    quantise_input,
    run_float,
    run_integer,
    save_graph,
    trace,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "ir"))
from sequence_nets import CASES, Apply, Encoder, GruSpeech, SmallVit

pytestmark = pytest.mark.device
NAMES = list(CASES)


def int8_graph(
    module: nn.Module, x: torch.Tensor, name: str, rounding: Rounding = Rounding.SHORT
) -> Graph:
    graph = trace(module, x[:1], name)
    return quantise(graph, calibrate(graph, [{graph.inputs[0]: x}]), QuantSpec(rounding))


def single(name: str, rounding: Rounding) -> Graph:
    build, shape, _ = CASES[name]
    generator = torch_generator(9, name)
    module = build()
    for parameter in module.parameters():
        parameter.data.normal_(generator=generator)
    return int8_graph(
        module, torch.randn(8, *shape[1:], generator=generator),
        f"form{NAMES.index(name)}", rounding,
    )  # fmt: skip


@pytest.mark.parametrize("rounding", list(Rounding))
def test_every_form_gives_the_integers_of_the_reference(rounding):
    graphs = [single(name, rounding) for name in NAMES]
    assert mismatches(graphs, HOST) == []
    assert mismatches(graphs, PORTABLE) == []


NETWORKS = {
    "bert": (Encoder, torch.randint(0, 8, (32, 6), generator=torch_generator(1))),
    "vit with a token": (lambda: SmallVit(True), torch.randn(32, 3, 16, 16)),
    "vit with a mean": (lambda: SmallVit(False), torch.randn(32, 3, 16, 16)),
    "gru": (GruSpeech, torch.randn(32, 12, 10)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_are_exact_in_c_and_close_to_float(name, tmp_path):
    build, x = NETWORKS[name]
    torch.manual_seed(3)
    module = build().eval()
    graph = int8_graph(module, x, "network")
    program = compile(graph)  # which compares every step with the integer reference
    stored = quantise_input(graph, x.numpy())
    wanted = run_integer(graph, {graph.inputs[0]: stored})[graph.outputs[0]]
    np.testing.assert_array_equal(program.run(x.numpy()), dequantise_output(graph, wanted))
    with torch.no_grad():
        y = module(x).numpy()
    error = program.run(x.numpy()) - y
    assert np.sqrt((error**2).mean()) < 0.1 * y.std()
    save_graph(graph, tmp_path)
    again = load_graph(tmp_path)
    assert again.ops == graph.ops
    assert all(
        again.tensors[n].quantisation == t.quantisation and again.tensors[n].dtype == t.dtype
        for n, t in graph.tensors.items()
    )
    runtime = pytest.importorskip("onnxruntime")
    export_onnx(graph, tmp_path / "network.onnx")
    options = runtime.SessionOptions()  # without its own int8 kernels, which saturate sums in int16
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(tmp_path / "network.onnx", options)
    fed = stored if stored.dtype == np.int32 else x.numpy()
    (found,) = session.run(None, {graph.inputs[0]: fed})
    assert np.sqrt(((found - y) ** 2).mean()) < 0.1 * y.std()


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_run_on_an_emulated_cortex_m(name):
    build, x = NETWORKS[name]
    torch.manual_seed(3)
    graph = int8_graph(build(), x, "network")
    compile(graph, "cortex-m7")  # verified step by step


def test_the_table_of_an_embedding_and_its_rows_are_on_one_grid():
    x = NETWORKS["bert"][1]
    torch.manual_seed(3)
    graph = int8_graph(Encoder(), x, "network")
    op = graph.ops[0]
    assert isinstance(op.attributes, attributes.Embedding)
    table, out = graph.tensors[op.inputs[1]], graph.tensors[op.output]
    assert table.dtype is DType.I8 and table.quantisation == out.quantisation
    assert graph.tensors[graph.inputs[0]].dtype is DType.I32
    with pytest.raises(DataError, match="must be int32"):
        run_integer(graph, {graph.inputs[0]: np.zeros((1, 6), np.int8)})
    other = replace(out, quantisation=replace(out.quantisation, zero_point=0))
    with pytest.raises(UnsupportedOpError, match="quantised otherwise"):
        emit(graph.with_tensors({out.name: other}), machine("host"))


def test_quantising_a_shared_norm_gives_one_weight():
    norm = nn.LayerNorm(8)
    module = nn.Sequential(norm, nn.ReLU(), norm)
    x = torch.randn(16, 5, 8, generator=torch_generator(4))
    real = trace(module, x[:1], "shared")
    graph = quantise(real, calibrate(real, [x]))
    first, last = (op for op in graph.ops if op.kind == "layernorm")
    assert first.inputs[1:] == last.inputs[1:]
    compile(graph)
    y = dequantise_output(
        graph, run_integer(graph, {graph.inputs[0]: quantise_input(graph, x.numpy())})[last.output]
    )
    (wanted,) = run_float(real, {"input": x}).values()
    assert np.abs(y - wanted.numpy()).max() < 0.12


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_states_of_large_weights_saturate_alike(kind):
    """Gates far beyond +-8: the reference and C clamp at the same places."""
    generator = torch_generator(6)
    cell = kind(7, 9, batch_first=True)
    for parameter in cell.parameters():
        parameter.data.normal_(0, 6, generator=generator)
    x = 4 * torch.randn(8, 20, 7, generator=generator)
    module = Apply(lambda x, cell: cell(x)[0], cell=cell)
    graphs = [int8_graph(module, x, f"saturated{i}", r) for i, r in enumerate(Rounding)]
    assert mismatches(graphs, HOST) == []
    assert mismatches(graphs, PORTABLE) == []
