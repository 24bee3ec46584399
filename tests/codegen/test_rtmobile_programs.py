"""Numbered checks of compiled recurrent layers whose weights have structures.

Specification: RTMobile (DAC 2020, arXiv 2002.11474), acceptance 4, 5 and 7. Times are measured by
`cofit reproduce rtmobile`; here it is checked that the work is really left out.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cofit.codegen import compile, emit, machine, verify
from cofit.codegen.export import export_onnx
from cofit.codegen.kernels.block_lists import LEAST_LANES, narrowest
from cofit.core import ModelError, UnsupportedOpError, VerificationError, torch_generator
from cofit.ir import calibrate, kept_macs, quantise, trace
from cofit.ir.integer import quantise_input, run_integer
from cofit.models import StreamingGru
from cofit.structures import parse

FORMS = (
    "bsp16x16@4", "bsp16x16r2@8", "bsp7x9r1.3@3", "bsp48x32@4+int8", "bsp96x10r1.5@3",
    "block16x1@4", "block16x4@2", "stripe8@3", "unstructured@5", "nm2:4",
)  # fmt: skip


class States(nn.Module):
    """All hidden states of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def structured(module, x, text):
    """Project every matrix of the module's recurrent layer in place, and trace it."""
    structure = parse(text)
    names = []
    for name, parameter in module.named_parameters():
        if "weight_" in name and structure.applies(tuple(parameter.shape)) is None:
            parameter.data = structure.project(parameter.detach())
            names.append(name)
    graph = trace(module, x, "net")
    tensors = graph.tensors
    return graph.with_tensors({n: replace(tensors[n], structure=text) for n in names}), names


def recurrent(kind=nn.GRU, features=20, hidden=32, layers=1):
    torch.manual_seed(3)
    return kind(features, hidden, layers, batch_first=True).eval()


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("text", FORMS)
def test_every_form_is_compiled_and_left_out_work_is_left_out(kind, text):
    module, x = States(recurrent(kind)), torch.randn(1, 5, 20)
    graph, names = structured(module, x, text)
    assert len(names) == 2
    program = compile(graph)  # verified step by step
    with torch.no_grad():
        np.testing.assert_allclose(program.run(x.numpy()), module(x).numpy(), atol=1e-5)
    (step,) = program.source.steps
    assert text in step.code.variant
    weights = {c.name: c.values for c in step.code.constants if c.name.startswith("weight_")}
    nonzeros = sum(np.count_nonzero(graph.tensors[name].data) for name in names)
    assert step.macs == kept_macs(graph, graph.ops[0]) == 5 * nonzeros
    assert sum(w.size for w in weights.values()) < 0.75 * sum(
        graph.tensors[name].size for name in names
    )


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_vectors_of_a_stripe_are_as_few_as_there_can_be_and_then_as_narrow(lanes):
    for rows in range(1, 70):
        width = narrowest(rows, lanes)
        vectors = [-(-rows // each) for each in (1, 2, 4, 8, 16) if LEAST_LANES <= each <= lanes]
        assert -(-rows // width) == min(vectors, default=rows)
        assert width == 1 or width % LEAST_LANES == 0
        assert width in (1, LEAST_LANES) or -(-rows // (width // 2)) > -(-rows // width)


def test_a_dense_weight_beside_a_sparse_one_stays_dense():
    graph, _ = structured(States(recurrent(hidden=64)), torch.randn(1, 3, 20), "bsp16x64@4")
    ih, hh = graph.weights(graph.ops[0])
    graph = graph.with_tensors({ih.name: replace(ih, structure=None)})
    (step,) = compile(graph).source.steps
    assert "hh bsp" in step.code.variant and "ih bsp" not in step.code.variant
    assert step.macs == 3 * (ih.size + np.count_nonzero(hh.data))


def test_rows_without_weights_stay_at_their_bias():
    """Whole gates may be gone; then the layer still computes, from biases and the other matrix."""
    module = States(recurrent())
    module.layer.weight_hh_l0.data[:] = 0
    module.layer.weight_ih_l0.data[32:64] = 0
    x = torch.randn(1, 4, 20)
    graph = trace(module, x, "net")
    names = ("layer.weight_ih_l0", "layer.weight_hh_l0")
    graph = graph.with_tensors(
        {n: replace(graph.tensors[n], structure="bsp16x20r1.5@1.5") for n in names[:1]}
        | {n: replace(graph.tensors[n], structure="bsp16x32@4") for n in names[1:]}
    )
    with torch.no_grad():
        np.testing.assert_allclose(compile(graph).run(x.numpy()), module(x).numpy(), atol=1e-6)


@pytest.mark.parametrize("text", ["block16x1@4", "bsp16x20@4"])
def test_a_weight_of_zeros_is_compiled(text):
    module, x = States(recurrent()), torch.randn(1, 4, 20)
    module.layer.weight_ih_l0.data[:] = 0
    graph, _ = structured(module, x, text)
    compile(graph)
    compile(quantise(graph, calibrate(graph, [x.numpy()])))


def test_a_wrong_sparse_weight_is_caught():
    graph, names = structured(States(recurrent()), torch.randn(1, 5, 20), "bsp16x16@4")
    program = compile(graph)
    values = graph.tensors[names[1]].data
    values[np.nonzero(values)[0][7], np.nonzero(values)[1][7]] += 0.05
    with pytest.raises(VerificationError, match="f32-recurrent"):
        verify(program.source, program.runner)


def test_04_200_steps_equal_torch_and_go_on_across_calls():
    """Against torch.nn.GRU with the masked weights; the state is carried in and out."""
    text, size = "bsp32x16r1.6@6.4", 64
    gru = recurrent(features=40, hidden=size, layers=2)
    x = torch.randn(1, 200, 40, generator=torch_generator(4))
    whole, _ = structured(States(gru), x, text)
    with torch.no_grad():
        states = gru(x)[0]
    assert np.abs(compile(whole).run(x.numpy()) - states.numpy()).max() <= 2e-5

    def stream(frames):
        module = StreamingGru(gru, nn.Identity(), frames).eval()
        call = torch.zeros(1, frames * 40 + module.state_size)
        graph, _ = structured(module, call, text)
        # what it gives is compared below
        program, state = compile(graph, verify=False), np.zeros((1, module.state_size), np.float32)
        outputs = []
        for t in range(0, 200, frames):
            piece = x[:, t : t + frames].reshape(1, -1).numpy()
            found = program.run(np.concatenate([piece, state], 1))
            outputs.append(found[:, :size])
            state = found[:, size:]
        return np.concatenate(outputs)

    by_frame, by_half = stream(1), stream(100)
    assert np.abs(by_frame - states[0].numpy()).max() <= 2e-5
    assert np.abs(by_half - states[0, [99, 199]].numpy()).max() <= 2e-5


def test_04_onnx_runtime_carries_the_state_alike(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    gru, head = recurrent(layers=2), nn.Linear(32, 4)
    module = StreamingGru(gru, head).eval()
    call = torch.randn(1, 20 + 64, generator=torch_generator(6))
    graph = trace(module, call, "stream")
    export_onnx(graph, tmp_path / "stream.onnx")
    session = runtime.InferenceSession(tmp_path / "stream.onnx")
    with torch.no_grad():
        expected = module(call).numpy()
    (found,) = session.run(None, {graph.inputs[0]: call.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(compile(graph).run(call.numpy()), expected, atol=1e-6)


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [(nn.GRU, "bsp16x16r1.6@6.4"), (nn.LSTM, "stripe8@4"), (nn.GRU, "block6x2@3")],
)
def test_05_int8_equals_the_integer_reference(kind, text, target):
    """Zeros of the structure are zeros of the int8 weights, and are left out; all else is equal."""
    module = nn.Sequential(States(recurrent(kind, hidden=40)), nn.Linear(40, 4)).eval()
    x = torch.randn(4, 20, 20, generator=torch_generator(5))
    graph, names = structured(module, x[:1], text)
    integer = quantise(graph, calibrate(graph, [x.numpy()]))
    for name in names:
        stored = integer.tensors[name]
        assert stored.dtype == "int8" and stored.structure == text
        assert not stored.data[graph.tensors[name].data == 0].any()
    program = compile(integer, target)
    vectors = target == "host" and machine("host").vector_floats >= 8
    by_lists = text != "block6x2@3" or not vectors  # vectors want 8 rows of one column
    (step,) = (step for step in program.source.steps if step.kind in ("gru", "lstm"))
    assert (text in step.code.variant) == by_lists
    quantisation = integer.tensors[integer.outputs[0]].quantisation
    for one in x.split(1):
        stored = quantise_input(integer, one.numpy())
        wanted = run_integer(integer, {integer.inputs[0]: stored})[integer.outputs[0]]
        got = program.run(one.numpy())
        back = np.rint(got / quantisation.scale[0]) + quantisation.zero_point
        np.testing.assert_array_equal(back, wanted)
    dense = compile(integer.with_tensors(
        {n: replace(integer.tensors[n], structure=None) for n in names}
    ), target)  # fmt: skip
    np.testing.assert_array_equal(dense.run(x.numpy()), program.run(x.numpy()))
    if by_lists:
        assert program.source.constant_bytes < 0.75 * dense.source.constant_bytes


def test_05_one_sparse_int8_weight_beside_a_dense_one():
    module = States(recurrent(hidden=48))
    x = torch.randn(2, 6, 20, generator=torch_generator(7))
    graph, names = structured(module, x[:1], "bsp16x16@4")
    graph = graph.with_tensors({names[0]: replace(graph.tensors[names[0]], structure=None)})
    integer = quantise(graph, calibrate(graph, [x.numpy()]))
    results = [compile(integer, target).run(x.numpy()) for target in ("host", "cortex-m4")]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_05_int8_linear_layers_run_as_blocks(target):
    layer = nn.Linear(64, 48)
    structure = parse("bsp16x16r1.6@6.4")
    layer.weight.data = structure.project(layer.weight.detach())
    x = torch.randn(3, 64, generator=torch_generator(8))
    graph = trace(layer, x[:1], "linear")
    name = graph.ops[0].inputs[1]
    graph = graph.with_tensors({name: replace(graph.tensors[name], structure=structure.text)})
    program = compile(quantise(graph, calibrate(graph, [x.numpy()])), target)
    (step,) = (step for step in program.source.steps if step.kind == "linear")
    assert structure.text in step.code.variant


def test_05_a_state_given_from_outside_is_refused_in_int8():
    module = StreamingGru(recurrent(), nn.Linear(32, 4)).eval()
    call = torch.zeros(1, 20 + module.state_size)
    graph = trace(module, call, "stream")
    with pytest.raises(UnsupportedOpError, match="begins at a given state"):
        quantise(graph, calibrate(graph, [call.numpy()]))


def test_07_a_tenth_of_a_matrix_is_a_tenth_of_the_work():
    """3072 x 1024: products, weights and indices of the emitted program, by its own constants."""
    layer = nn.Linear(1024, 3072)
    structure = parse("bsp64x128@10.6666")
    layer.weight.data = structure.project(layer.weight.detach())
    graph = trace(layer, torch.randn(1, 1024), "matvec")
    name = graph.ops[0].inputs[1]
    dense = emit(graph, machine("host"))
    sparse = emit(
        graph.with_tensors({name: replace(graph.tensors[name], structure=structure.text)}),
        machine("host"),
    )
    assert sparse.steps[0].kernel == "f32-block" and dense.steps[0].kernel == "f32-dense"
    assert sparse.steps[0].macs * 10 <= dense.steps[0].macs
    assert sparse.constant_bytes * 9 <= dense.constant_bytes
    nearly = replace(graph.tensors[name], structure="bsp64x128@1.0666")
    full = emit(graph.with_tensors({name: nearly}), machine("host"))
    assert full.steps[0].kernel == "f32-block"  # the timed claim of a full weight is of this kernel


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.GRU(4, 8, batch_first=True, bidirectional=True), "bidirectional GRU"),
        (nn.GRU(4, 8), "give a GRU with batch_first=True"),
        (nn.LSTM(4, 8, batch_first=True), "cannot stream LSTM"),
    ],
)
def test_09_what_cannot_be_streamed_is_refused(layer, words):
    with pytest.raises(ModelError, match=words):
        StreamingGru(layer, nn.Identity())
