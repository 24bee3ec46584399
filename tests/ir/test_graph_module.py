import numpy as np
import pytest
import torch

from cofit.core import ModelError
from cofit.ir import Graph, Op, QuantSpec, Tensor, run_float
from cofit.ir import attributes as at
from cofit.ir.module import GraphModule


def two_convs(names=("layer1.0.conv", "layer1.1.conv")):
    draw = np.random.default_rng(0)
    tensors = {"x": Tensor("x", (1, 2, 5, 5))}
    ops, last = [], "x"
    for i, name in enumerate(names):
        w, b, y = f"{name}.weight", f"{name}.bias", f"y{i}"
        tensors[w] = Tensor(
            w, (2, 2, 3, 3), data=draw.standard_normal((2, 2, 3, 3), np.float32), structure="any@2"
        )
        tensors[b] = Tensor(b, (2,), data=draw.standard_normal(2, np.float32))
        tensors[y] = Tensor(y, (1, 2, 5, 5))
        ops.append(Op(y, at.Conv2d(padding=(1, 1, 1, 1), fused="relu"), (last, w, b)))
        last = y
    tensors["offset"] = Tensor("offset", (2, 1, 1), data=np.ones((2, 1, 1), np.float32))
    tensors["out"] = Tensor("out", (1, 2, 5, 5))
    ops.append(Op("out", at.Add(), (last, "offset")))
    return Graph.build("two", ("x",), ("out",), tuple(ops), tensors)


def test_forward_equals_the_reference_and_names_are_tensor_names():
    graph = two_convs()
    module = GraphModule(graph)
    x = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(module(x), run_float(graph, {"x": x})["out"])
    constants = {name for name, t in graph.tensors.items() if t.data is not None}
    assert set(module.state_dict()) == constants
    assert {name for name, _ in module.named_parameters()} == constants - {"offset"}
    weight = module.get_parameter("layer1.1.conv.weight")
    assert weight is module.parameter("layer1.1.conv.weight")


def test_training_writes_back_to_a_new_graph_only():
    graph = two_convs()
    before = {n: t.data.copy() for n, t in graph.tensors.items() if t.data is not None}
    module = GraphModule(graph).to(memory_format=torch.channels_last)
    x = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    module(x).square().mean().backward()
    optimiser.step()
    trained = module.to_graph()
    assert torch.allclose(run_float(trained, {"x": x})["out"], module(x), atol=1e-6)
    for name, parameter in module.named_parameters():
        assert np.array_equal(trained.tensors[name].data, parameter.detach().numpy())
    assert trained.tensors["layer1.0.conv.weight"].structure == "any@2"
    weights = [weight for _, weight in trained.weighted()]
    assert all((weight.data != before[weight.name]).any() for weight in weights)
    assert all(weight.data.flags.c_contiguous for weight in weights)
    for name, data in before.items():
        assert np.array_equal(graph.tensors[name].data, data)
    copy = trained.tensors["layer1.0.conv.weight"].data.copy()
    optimiser.step()
    assert np.array_equal(trained.tensors["layer1.0.conv.weight"].data, copy)


def test_edges_change_one_activation():
    module = GraphModule(two_convs())
    x = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    module.edges["x"] = torch.zeros_like
    from_zero = module(x)
    module.edges.clear()
    assert torch.equal(from_zero, module(torch.zeros_like(x)))
    module.edges["out"] = lambda y: y - 1
    assert torch.equal(module(torch.zeros_like(x)), from_zero - 1)


def test_several_outputs_are_a_tuple():
    graph = two_convs()
    both = Graph.build("two", ("x",), ("y0", "out"), graph.ops, graph.tensors)
    outputs = GraphModule(both)(torch.zeros(2, 2, 5, 5))
    assert [tuple(y.shape) for y in outputs] == [(2, 2, 5, 5)] * 2


def test_integer_graphs_and_colliding_names_are_refused():
    graph = two_convs()
    integer = Graph(graph.name, graph.inputs, graph.outputs, graph.ops, graph.tensors, QuantSpec())
    with pytest.raises(ModelError, match="integers"):
        GraphModule(integer)
    with pytest.raises(ModelError, match="collides"):
        GraphModule(two_convs(("layer", "layer.weight")))
