"""Quantisation-aware training against the integer reference."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from regime_nets import conv_net, small_graph, task

from cofit.core import ConfigError, ModelError, UnknownNameError
from cofit.ir import calibrate, dequantise_output, quantise, quantise_input, run_integer, trace
from cofit.ir.module import GraphModule
from cofit.models import GruSpeech
from cofit.regimes import QAT, Batches, Masked, Recipe, RegimeStack, Trace, fit, testing
from cofit.regimes.qat import FakeQuantiseWeight
from cofit.structures import parse

X, Y = task(128)
GRAPH = small_graph()
RANGES = calibrate(GRAPH, [{"x": X}])


def integer_outputs(integer, x):
    stored = run_integer(integer, {"x": quantise_input(integer, x.numpy())})["y"]
    return torch.from_numpy(np.asarray(dequantise_output(integer, stored), np.float32))


@pytest.mark.parametrize("bits", [8, {"stem": 4, "y": 4}])
def test_forward_is_the_integer_reference_within_a_step(bits):
    integer = quantise(GRAPH, RANGES, weight_bits=bits)
    module = GraphModule(GRAPH)
    regime = QAT(integer)
    handle = regime.attach(module, X)
    regime.on_epoch(0)
    with torch.no_grad():
        fake, plain = module(X), GraphModule(GRAPH)(X)
    step = integer.tensors["y"].quantisation.scale[0]
    exact = integer_outputs(integer, X)
    assert (fake - exact).abs().max() <= step * 1.001
    assert ((fake - exact).abs() < step / 2).float().mean() > 0.7
    assert (fake - exact).abs().mean() < 0.5 * (plain - exact).abs().mean()
    handle.remove()
    with torch.no_grad():
        assert torch.equal(module(X), plain)


@pytest.mark.parametrize(
    "check", [check for check in testing.CHECKS if check is not testing.check_losses]
)
@pytest.mark.parametrize("bits", [8, 4])
def test_conforms(check, bits):
    integer = quantise(GRAPH, RANGES, weight_bits=bits)
    check(testing.Case(lambda: GraphModule(GRAPH), lambda model: QAT(integer), X[:16], Y[:16]))


def test_weights_round_per_channel_keep_zeros_and_pass_gradients():
    weight = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    weight[:, ::2] = 0.0
    weight[1] = 0.0
    weight[2] *= 1e-3
    weight.requires_grad_()
    rounded = FakeQuantiseWeight(3, 8)(weight)
    scale = weight.detach().abs().amax(1, keepdim=True) / 127
    codes = rounded / torch.where(scale > 0, scale, 1.0)
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert ((rounded - weight).abs() <= scale / 2 * 1.0001).all()
    assert torch.equal(rounded == 0, rounded.detach() == 0) and (rounded[:, ::2] == 0).all()
    assert (rounded[2] != 0).any()
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_tracer_sees_the_rounded_weights_under_their_own_names():
    module = GraphModule(GRAPH)
    QAT(quantise(GRAPH, RANGES, weight_bits=4)).attach(module, X)
    with Trace(module) as trace:
        F.cross_entropy(module(X), Y).backward()
    assert [layer.name for layer in trace.layers] == [w.name for _, w in GRAPH.weighted()]
    stored = (module.parameter("stem.conv.weight") != 0).sum()
    assert trace.layers[0].weight.nonzeros == stored < GRAPH.tensors["stem.conv.weight"].size
    grads = [p.grad is not None for p in module.parameters()]
    assert all(grads) and not torch.nn.utils.parametrize._cache_enabled


def test_activation_gradient_is_clipped_to_the_range():
    integer = quantise(GRAPH, RANGES)
    module = GraphModule(GRAPH)
    QAT(integer).attach(module, X)
    grid = integer.tensors["x"].quantisation
    x = torch.linspace(-200, 200, 41)
    x.requires_grad_()
    module.edges["x"](x).sum().backward()
    codes = (x / grid.scale[0] + grid.zero_point).round()
    assert torch.equal(x.grad, ((codes >= -128) & (codes <= 127)).float())


def test_training_helps_the_integer_network_and_keeps_its_zeros():
    """4-bit weights after training, at the same activation grids, on data not trained on."""
    names = ["stem.conv.weight", "layer1.0.deep.weight", "head.weight"]
    data = Batches(X, Y, 16)
    start, _ = fit(GraphModule(GRAPH), data, Recipe(6, 0.05))
    with torch.no_grad():
        stem = start.get_parameter(names[0])
        stem.copy_(parse("unstructured@2").project(stem.detach()))
    graph = start.to_graph()
    ranges = calibrate(graph, [{"x": X}])
    before = quantise(graph, ranges, weight_bits=4)
    stack = RegimeStack([Masked(names), QAT(before)])
    trained, _ = fit(GraphModule(graph), data, Recipe(6, 0.02), stack)
    after = quantise(trained.to_graph(), ranges, weight_bits=4)
    for name in ("x", "stem", "sum", "y"):
        assert before.tensors[name].quantisation == after.tensors[name].quantisation
    zeros = graph.tensors[names[0]].data == 0
    assert (after.tensors[names[0]].data[zeros] == 0).all() and zeros.mean() == 0.5
    x, y = task(256, seed=1)
    losses = [F.cross_entropy(integer_outputs(graph, x), y) for graph in (before, after)]
    assert losses[1] < losses[0]


def test_wrong_graphs_and_models_are_refused():
    integer = quantise(GRAPH, RANGES)
    with pytest.raises(ConfigError, match="float graph"):
        QAT(GRAPH)
    with pytest.raises(ModelError, match="Sequential"):
        QAT(integer).attach(conv_net(), X)
    with pytest.raises(ConfigError, match="put 'masked' first"):
        RegimeStack([QAT(integer), Masked(["head.weight"])])
    other = GraphModule(GRAPH)
    del other.head
    with pytest.raises(UnknownNameError, match=r"head\.weight"):
        QAT(integer).attach(other, X)
    assert not other.edges


def test_both_weights_of_a_recurrent_layer_are_rounded_as_they_will_be():
    network = GruSpeech(features=4, hidden=8, stack=1).eval()
    x = torch.randn(16, 1, 6, 4, generator=torch.Generator().manual_seed(1))
    graph = trace(network, x[:1])
    integer = quantise(graph, calibrate(graph, [x.numpy()]))
    module = GraphModule(graph)
    handle = QAT(integer).attach(module, x)
    for name in ("gru.weight_ih_l0", "gru.weight_hh_l0"):
        stored = integer.tensors[name]
        wanted = stored.data * np.array(stored.quantisation.scale)[:, None]
        np.testing.assert_allclose(module.parameter(name).detach().numpy(), wanted, rtol=1e-5)
        assert not np.array_equal(wanted, graph.tensors[name].data)
    handle.remove()
    np.testing.assert_array_equal(
        module.parameter("gru.weight_hh_l0").detach().numpy(),
        graph.tensors["gru.weight_hh_l0"].data,
    )
