"""Operators of sequences and transformers, against torch: what they become and what is refused."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sequence_nets import CASES, TOKENS, Apply, Encoder, GruSpeech, SmallVit
from torch import nn

from cofit.core import ModelError, UnsupportedOpError, torch_generator
from cofit.ir import (
    DType,
    Graph,
    GraphModule,
    Op,
    Tensor,
    attributes,
    describe,
    load_graph,
    macs,
    run_float,
    save_graph,
    trace,
)


def same(module: nn.Module, graph: Graph, x: torch.Tensor) -> None:
    """Batches through the graph equal single samples through the module."""
    module.eval()
    (found,) = run_float(graph, {graph.inputs[0]: x}, torch.float64).values()
    module = module.double()
    with torch.no_grad():
        for i in range(len(x)):
            one = x[i : i + 1]
            expected = module(one.double() if one.is_floating_point() else one)
            torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_every_form_is_traced_and_computes_what_torch_computes(name, tmp_path):
    build, shape, kinds = CASES[name]
    generator = torch_generator(3, name)
    module = build()
    for parameter in module.parameters():
        parameter.data.normal_(generator=generator)
    graph = trace(module, torch.randn(shape, generator=generator))
    found = [op.kind for op in graph.ops if op.kind not in ("reshape", "slice")]
    assert kinds is None or found == kinds
    x = torch.randn(3, *shape[1:], generator=generator)
    same(module, graph, x)
    save_graph(graph, tmp_path)
    again = load_graph(tmp_path)
    assert again.ops == graph.ops
    for name, y in run_float(again, {graph.inputs[0]: x}).items():
        assert torch.equal(y, run_float(graph, {graph.inputs[0]: x})[name])


@pytest.mark.parametrize("sizes", [(1, 3, 5), (2, 7, 4), (6, 1, 1), (9, 8, 16)])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_layers_equal_torch_for_all_sizes(sizes, kind, layers):
    steps, features, hidden = sizes
    module = Apply(
        lambda x, cell: cell(x)[0], cell=kind(features, hidden, layers, batch_first=True)
    )
    graph = trace(module, torch.randn(1, steps, features, generator=torch_generator(1)))
    same(module, graph, torch.randn(2, steps, features, generator=torch_generator(2)))
    gates = 3 if kind is nn.GRU else 4
    first, *others = [op for op in graph.ops if op.kind in ("gru", "lstm")]
    assert macs(graph, first) == steps * gates * hidden * (features + hidden)
    assert all(macs(graph, op) == steps * gates * hidden * 2 * hidden for op in others)
    assert {"cell.weight_ih_l0", "cell.bias_hh_l0"} <= set(graph.tensors)


def test_tokens_enter_as_integers_and_are_looked_up():
    graph = trace(TOKENS(), torch.tensor([[3, 0, 9, 9]]))
    assert graph.tensors[graph.inputs[0]].dtype is DType.I32
    tokens = torch.tensor([[1, 2, 3, 4], [9, 0, 0, 5]])
    (y,) = run_float(graph, {graph.inputs[0]: tokens}).values()
    module = TOKENS()
    table = torch.from_numpy(graph.tensors["table.weight"].data)
    assert torch.equal(y, 2 * F.embedding(tokens, table)) and module is not None
    assert macs(graph, graph.ops[0]) == 0


@pytest.mark.parametrize(("build", "example"), [
    (lambda: Encoder(), torch.tensor([[5, 1, 0, 7, 7, 2]])),
    (lambda: SmallVit(token=True), torch.randn(1, 3, 16, 16)),
    (lambda: SmallVit(token=False), torch.randn(1, 3, 16, 16)),
    (lambda: GruSpeech(), torch.randn(1, 12, 10)),
])  # fmt: skip
def test_whole_networks_are_traced_and_trained_as_modules(build, example):
    torch.manual_seed(0)
    module = build()
    graph = trace(module, example)
    if example.is_floating_point():
        x = torch.randn(2, *example.shape[1:], generator=torch_generator(5))
    else:
        x = torch.randint(0, 8, (2, *example.shape[1:]), generator=torch_generator(5))
    same(module, graph, x)
    text = describe(graph)
    assert all(op.kind in text for op in graph.ops)
    trainable = GraphModule(graph)
    loss = trainable(x).square().sum()
    loss.backward()
    parameters = dict(trainable.named_parameters())
    assert all(p.grad is not None for p in parameters.values())
    assert sum(p.numel() for p in parameters.values()) >= 0.8 * sum(
        p.numel() for p in module.parameters()
    )


def test_attention_counts_the_products_of_activations():
    graph = trace(CASES["attention"][0](), torch.randn(1, 5, 8))
    products = [op for op in graph.ops if op.kind == "matmul"]
    # two heads of four: q k^T and weights v, 5 * 5 * 4 each per head
    assert [macs(graph, op) for op in products] == [2 * 5 * 5 * 4] * 2
    assert products[0].attributes == attributes.Matmul(True, 0.5)


REFUSED = {
    "masked attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), "mask"),
    "softmax over tokens": (lambda x: torch.softmax(x, 1), "only over the last"),
    "layer norm over two axes": (lambda x: F.layer_norm(x, (5, 8)), "over the last axis"),
    "batch against tokens": (lambda x: torch.einsum("btc,bsc->bt", x, x), "summed"),
    "einsum of three": (lambda x: torch.einsum("btc,bsc,bsd->btd", x, x, x), "two tensors"),
    "mean of features": (lambda x: x.mean(2), "pixels or of tokens"),
    "constant in the middle": (lambda x: torch.cat([x, torch.ones(1, 1, 8), x], 1), "between"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_represented_is_refused_in_one_line(name):
    function, text = REFUSED[name]
    with pytest.raises(UnsupportedOpError, match=text) as caught:
        trace(Apply(function), torch.randn(1, 5, 8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("options", "text"), [
    ({"bidirectional": True}, "one direction"),
    ({"batch_first": False}, "batch_first"),
])  # fmt: skip
def test_other_recurrent_forms_are_refused(options, text):
    cell = nn.GRU(8, 4, **{"batch_first": True, **options})
    with pytest.raises(UnsupportedOpError, match=text):
        trace(Apply(lambda x, cell: cell(x)[0], cell=cell), torch.randn(1, 5, 8))


def test_the_cell_state_and_projections_and_given_states_are_refused():
    lstm = nn.LSTM(8, 4, batch_first=True)
    with pytest.raises(UnsupportedOpError, match="cell state"):
        trace(Apply(lambda x, lstm: lstm(x)[1][1][-1], lstm=lstm), torch.randn(1, 5, 8))
    projected = nn.LSTM(8, 4, batch_first=True, proj_size=2)
    with pytest.raises(UnsupportedOpError, match="projections"):
        trace(Apply(lambda x, lstm: lstm(x)[0], lstm=projected), torch.randn(1, 5, 8))
    started = Apply(
        lambda x, gru: gru(x, torch.ones(1, 1, 4))[0], gru=nn.GRU(8, 4, batch_first=True)
    )
    with pytest.raises(UnsupportedOpError, match="first state"):
        trace(started, torch.randn(1, 5, 8))


def test_tokens_that_are_not_looked_up_are_refused():
    with pytest.raises(UnsupportedOpError, match=r"only an embedding reads those"):
        trace(nn.Linear(4, 3), torch.ones(1, 4, dtype=torch.int64))


def test_outputs_without_a_batch_axis_are_refused():
    with pytest.raises(ModelError, match="first axis must be the batch"):
        trace(Apply(lambda x: x.reshape(5, 8) * 2), torch.randn(1, 5, 8))


def one_op(op: attributes.Attributes, *shapes: tuple[int, ...]) -> Graph:
    """A graph of one op whose first input is computed and whose others are constants."""
    tensors = {"x": Tensor("x", shapes[0])}
    for i, shape in enumerate(shapes[1:]):
        tensors[f"c{i}"] = Tensor(f"c{i}", shape, data=np.zeros(shape, np.float32))
    tensors["y"] = Tensor("y", shapes[0])
    names = tuple(n for n in tensors if n != "y")
    return Graph.build("g", ("x",), ("y",), (Op("y", op, names),), tensors)


@pytest.mark.parametrize(("op", "shapes", "text"), [
    (attributes.LayerNorm(), ((1, 4, 8), (4,), (8,)), "needs a weight"),
    (attributes.LayerNorm(), ((1, 4, 8), (8,)), "input, weight, bias"),
    (attributes.Matmul(), ((1, 4, 8), (1, 4, 8)), "does not fit"),
    (attributes.Matmul(), ((1, 1, 2, 4, 8), (1, 1, 3, 8, 4)), "does not fit"),
    (attributes.Matmul(), ((1, 2, 4, 8), (1, 2, 8, 4)), "matmul of the image"),
    (attributes.LayerNorm(), ((1, 2, 4, 8), (8,), (8,)), "layernorm of the image"),
    (attributes.Transpose((1, 0, 2)), ((1, 4, 8),), "the batch first"),
    (attributes.Gru(), ((1, 4, 8), (9, 8), (9, 3), (9,), (8,)), "does not fit"),
    (attributes.Lstm(), ((1, 4, 8), (12, 8), (12, 3), (12,)), "w_ih, w_hh"),
])  # fmt: skip
def test_graphs_that_do_not_fit_are_refused(op, shapes, text):
    with pytest.raises(ModelError, match=text):
        one_op(op, *shapes)


def test_gelu_is_the_error_function_unless_tanh_is_asked_for():
    x = torch.linspace(-4, 4, 101)[None]
    for approximate in ("none", "tanh"):
        (y,) = run_float(trace(nn.GELU(approximate), x), {"input": x}, torch.float64).values()
        exact = 0.5 * x.double() * (1 + torch.erf(x.double() / math.sqrt(2)))
        error = float((y - exact).abs().max())
        assert error < 1e-7 if approximate == "none" else 1e-5 < error < 1e-3
