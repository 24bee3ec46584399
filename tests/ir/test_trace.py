"""Tracing: what each operator becomes, what it is called, and what is refused.

`trace` checks itself in float64; here the finished float32 graph is checked again, on a batch and
on other inputs, and the ops it consists of are stated.
"""

from collections.abc import Callable

import networks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import (
    ModelError,
    UnsupportedOpError,
    VerificationError,
    read_tensors,
    torch_generator,
)
from cofit.ir import Graph, attributes, macs, randomise_statistics_, run_float, trace
from cofit.ir import lowerings as lowerings_module


class Apply(nn.Module):
    """A function as a network, with layers if it wants some."""

    def __init__(self, function: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.__dict__["names"] = list(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *xs: torch.Tensor) -> object:
        return self.function(*xs, *(getattr(self, name) for name in self.names))


def kinds(graph: Graph) -> list[str]:
    """Kinds of the ops, with what is fused or computed."""
    found = []
    for op in graph.ops:
        extra = getattr(op.attributes, "fused", getattr(op.attributes, "function", "none"))
        found.append(op.kind if extra == "none" else f"{op.kind}+{extra}")
    return found


def check(module: nn.Module, *shapes: tuple[int, ...]) -> Graph:
    """Trace and compare on fresh float32 inputs, one by one and as a batch."""
    generator = torch_generator(11)
    randomise_statistics_(module, generator)
    graph = trace(module, [torch.randn(s, generator=generator) for s in shapes])
    module.eval()
    xs = [3 * torch.randn(4, *s[1:], generator=generator) for s in shapes]
    results = run_float(graph, dict(zip(graph.inputs, xs, strict=True)))
    for i in range(4):
        with torch.no_grad():
            expected = module(*(x[i : i + 1] for x in xs))
        expected = expected if isinstance(expected, tuple) else (expected,)
        for name, y in zip(graph.outputs, expected, strict=True):
            assert graph.tensors[name].shape == y.shape
            torch.testing.assert_close(results[name][i : i + 1], y, rtol=2e-4, atol=2e-5)
    assert all(t.data is None or t.data.dtype == np.float32 for t in graph.tensors.values())
    return graph


IMAGE = (1, 4, 8, 8)
CASES: dict[str, tuple[nn.Module, tuple[int, ...], list[str]]] = {
    "conv": (nn.Conv2d(4, 6, 3, stride=2, padding=1), IMAGE, ["conv2d"]),
    "conv dilated": (nn.Conv2d(4, 6, 3, dilation=(2, 1), padding=(2, 0)), IMAGE, ["conv2d"]),
    "conv grouped": (nn.Conv2d(4, 6, 3, groups=2), IMAGE, ["conv2d"]),
    "conv depthwise": (nn.Conv2d(4, 8, (3, 1), groups=4, bias=False), IMAGE, ["conv2d"]),
    "conv same": (nn.Conv2d(4, 6, (3, 5), padding="same", dilation=(1, 2)), IMAGE, ["conv2d"]),
    "conv same, even": (nn.Conv2d(4, 6, (4, 2), padding="same"), IMAGE, ["conv2d"]),
    "conv valid": (nn.Conv2d(4, 6, 3, padding="valid"), IMAGE, ["conv2d"]),
    "padded conv": (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 6, 3, 2)), IMAGE,
                    ["conv2d"]),
    "padded padding": (nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3, padding=1)), IMAGE,
                       ["conv2d"]),
    "linear": (nn.Linear(8, 3, bias=False), (1, 8), ["linear"]),
    "linear of a sequence": (nn.Linear(8, 3), (1, 5, 8), ["linear"]),
    "conv bn relu": (nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
                     IMAGE, ["conv2d+relu"]),
    "linear bn relu6": (nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5), nn.ReLU6()), (1, 8),
                        ["linear+relu6"]),
    "bn without affine": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False)),
                          IMAGE, ["conv2d"]),
    "bn first": (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)), IMAGE,
                 ["conv2d+relu", "conv2d"]),
    "bn twice": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), IMAGE,
                 ["conv2d"]),
    "bn after relu": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)), IMAGE,
                      ["conv2d+relu", "conv2d"]),
    "bn of features": (nn.BatchNorm1d(8), (1, 8), ["mul", "add"]),
    "add": (Apply(lambda x, y: F.relu(x + y)), IMAGE, ["add+relu"]),
    "add scaled": (Apply(lambda x, y: torch.add(x, y, alpha=0.5)), IMAGE, ["mul", "add"]),
    "sub": (Apply(lambda x, y: x - y), IMAGE, ["mul", "add"]),
    "constants": (Apply(lambda x: (3 - F.relu(x - 0.5)) / 2), IMAGE,
                  ["add+relu", "mul", "add", "mul"]),
    "constant tensor": (Apply(lambda x: x + torch.arange(8.0) * torch.ones(4, 1, 1)), IMAGE,
                        ["add"]),
    "normalised image": (Apply(lambda x: (x - torch.tensor([[[1.0]], [[2]], [[3]], [[4]]])) / 3),
                         IMAGE, ["conv2d"]),
    "nothing": (Apply(lambda x: (x + 0) * 1), IMAGE, []),
    "gate": (Apply(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)).expand_as(x)), IMAGE,
             ["globalmean", "activation+sigmoid", "mul"]),
    "gate first": (Apply(lambda x: x.mean((2, 3), keepdim=True) * x), IMAGE,
                   ["globalmean", "mul"]),
    "concat": (Apply(lambda x: torch.cat([x, F.relu(x), x], 1)), IMAGE,
               ["activation+relu", "concat"]),
    "concat of zeros": (Apply(lambda x: torch.cat([torch.zeros_like(x)[:, :1], x, x], 1)), IMAGE,
                        ["concat", "pad"]),
    "max pool": (nn.MaxPool2d(3, 2, 1), IMAGE, ["maxpool2d"]),
    "avg pool": (nn.AvgPool2d((3, 2), (2, 1), (1, 0)), IMAGE, ["avgpool2d"]),
    "avg pool of what is there": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE,
                                  ["avgpool2d"]),
    "global mean": (nn.AdaptiveAvgPool2d(1), IMAGE, ["globalmean"]),
    "global mean flattened": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGE,
                              ["globalmean"]),
    "mean": (Apply(lambda x: x.mean((-1, -2))), IMAGE, ["globalmean"]),
    "adaptive pool": (nn.AdaptiveAvgPool2d((4, 2)), IMAGE, ["avgpool2d"]),
    "flatten": (Apply(lambda x: torch.flatten(x, 1)), IMAGE, ["reshape"]),
    "view": (Apply(lambda x: x.view(x.size(0), 4, -1).reshape(1, 2, 2, 64)), IMAGE, ["reshape"]),
    "squeeze": (Apply(lambda x: x.mean((2, 3), keepdim=True).squeeze(3).squeeze(2)), IMAGE,
                ["globalmean"]),
    "slice": (Apply(lambda x: x[:, 1:, ::2, 1:7:3]), IMAGE, ["slice"]),
    "select": (Apply(lambda x: x[:, -1]), IMAGE, ["slice", "reshape"]),
    "chunk": (Apply(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)), IMAGE,
              ["slice", "slice", "concat"]),
    "split": (Apply(lambda x: x.split([1, 3], 1)[1]), IMAGE, ["slice"]),
    "option A": (Apply(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))), IMAGE,
                 ["slice", "pad"]),
    "relu": (nn.ReLU(inplace=True), IMAGE, ["activation+relu"]),
    "relu6": (Apply(lambda x: F.hardtanh(x, 0, 6)), IMAGE, ["activation+relu6"]),
    "clamp": (Apply(lambda x: x.clamp(0, 6) + x.clamp(min=0)), IMAGE,
              ["activation+relu6", "activation+relu", "add"]),
    "hardswish": (nn.Hardswish(), IMAGE, ["activation+hardswish"]),
    "hardsigmoid": (nn.Hardsigmoid(), IMAGE, ["activation+hardsigmoid"]),
    "tanh": (nn.Tanh(), IMAGE, ["activation+tanh"]),
    "silu": (nn.SiLU(), IMAGE, ["activation+sigmoid", "mul"]),
    "softmax": (Apply(lambda x: torch.softmax(x, -1)), (1, 8), ["softmax"]),
    "no-ops": (Apply(lambda x: F.dropout(x, 0.5, False).detach().contiguous().clone().to(x.dtype)),
               IMAGE, []),
    "still transpose": (Apply(lambda x: x.mean((2, 3), keepdim=True).permute(0, 2, 3, 1)), IMAGE,
                        ["globalmean", "reshape"]),
    "matmul": (Apply(lambda x, layer: x @ layer.weight.t() + layer.bias, layer=nn.Linear(8, 3)),
               (1, 8), ["linear"]),
    "shuffle": (Apply(lambda x: x.view(1, 2, 2, 8, 8).transpose(1, 2).flatten(1)), IMAGE,
                ["reshape", "transpose", "reshape"]),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 1)), IMAGE, ["conv2d"]),
    "resnet": (networks.ResNet(1, 4), (1, 3, 16, 16),
               ["conv2d+relu"] * 2 + ["conv2d", "add+relu"]
               + ["conv2d+relu", "conv2d", "slice", "pad", "add+relu"] * 2
               + ["avgpool2d", "reshape", "linear"]),
    "mobilenet": (networks.MobileNet(), (1, 3, 16, 16),
                  ["conv2d+relu6"] * 3 + ["conv2d", "add"] + ["conv2d+relu6"] * 2 + ["conv2d"]
                  + ["conv2d+relu6"] * 2 + ["conv2d", "add", "globalmean", "linear"]),
    "branches": (networks.Branches(), (1, 3, 16, 16),
                 ["conv2d+relu", "conv2d", "concat", "conv2d+relu", "slice", "slice", "conv2d",
                  "add", "maxpool2d", "reshape", "linear"]),
    "excitation": (networks.Excitation(), (1, 3, 8, 8),
                   ["conv2d+relu", "globalmean", "linear+relu", "linear", "activation+sigmoid",
                    "reshape", "mul", "conv2d"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_operators(case: str) -> None:
    module, shape, expected = CASES[case]
    inputs = 1
    if isinstance(module, Apply):
        inputs = module.function.__code__.co_argcount - len(module.names)
    assert sorted(kinds(check(module, *[shape] * inputs))) == sorted(expected)


def test_padding_of_an_even_kernel_is_asymmetric() -> None:
    graph = trace(nn.Conv2d(1, 1, (4, 2), padding="same"), torch.zeros(1, 1, 8, 8))
    assert graph.ops[0].attributes == attributes.Conv2d(padding=(1, 2, 0, 1))


def test_tensors_are_called_by_their_parameters_and_ops_by_their_layers() -> None:
    model = networks.ResNet(1, 4)
    graph = trace(model, torch.zeros(1, 3, 16, 16), "net")
    weights = {n for n, p in model.named_parameters() if p.ndim > 1}
    biases = {n.removesuffix("weight") + "bias" for n in weights}
    assert {n for n, t in graph.tensors.items() if t.data is not None} == weights | biases
    assert graph.name == "net" and graph.inputs == ("x",) and graph.outputs == ("linear",)
    assert [op.output for op in graph.ops][:9] == [
        "conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.0.add", "layer2.0.conv1",
        "layer2.0.conv2", "layer2.0.slice", "layer2.0.pad", "layer2.0.add",
    ]  # fmt: skip


def test_weights_without_batchnorm_are_those_of_the_module_bit_for_bit() -> None:
    model = networks.Branches()
    graph = trace(model, torch.zeros(1, 3, 16, 16))
    for name, parameter in model.named_parameters():
        assert np.array_equal(graph.tensors[name].data, parameter.detach().numpy())


def test_a_layer_used_twice_shares_its_weight_but_not_its_batchnorm() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    plain = check(Apply(lambda x, c: c(F.relu(c(x))), conv=conv), IMAGE)
    assert [op.output for op in plain.ops] == ["conv", "conv_1"]
    assert plain.ops[0].inputs[1:] == plain.ops[1].inputs[1:] == ("conv.weight", "conv.bias")
    bn = nn.BatchNorm2d(4)
    folded = check(Apply(lambda x, c, b: c(F.relu(b(c(x)))), conv=conv, bn=bn), IMAGE)
    assert kinds(folded) == ["conv2d+relu", "conv2d"]
    weights = [folded.tensors[op.inputs[1]] for op in folded.ops]
    assert np.array_equal(weights[1].data, conv.weight.detach().numpy())
    assert not np.array_equal(weights[0].data, weights[1].data)


def test_several_inputs_and_outputs() -> None:
    graph = check(
        Apply(lambda x, y, c: (c(x), F.relu(c(x) + y)), conv=nn.Conv2d(4, 4, 1)), IMAGE, IMAGE
    )
    assert len(graph.inputs) == len(graph.outputs) == 2
    assert "conv2d" in kinds(graph)  # an output is not swallowed by the relu behind it


def test_a_value_read_twice_is_not_fused() -> None:
    conv = nn.Conv2d(4, 4, 1)
    graph = check(Apply(lambda x, c: F.relu(y := c(x)) + y, conv=conv), IMAGE)
    assert kinds(graph) == ["conv2d", "activation+relu", "add"]


def test_in_place_changes_are_seen_by_earlier_names() -> None:
    def forward(x: torch.Tensor, conv: nn.Module) -> torch.Tensor:
        y = conv(x)
        z = F.relu_(y)
        return z + y  # both are the relu

    graph = check(Apply(forward, conv=nn.Conv2d(4, 4, 1)), IMAGE)
    assert kinds(graph) == ["conv2d+relu", "add"]


def test_the_module_is_left_as_it_was() -> None:
    model = networks.ResNet(1, 4).train()
    model.layer2.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: part.training for name, part in model.named_modules()}
    trace(model, torch.randn(5, 3, 16, 16, generator=torch_generator(0)))
    assert {name: part.training for name, part in model.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_tracing_again_gives_the_same_graph() -> None:
    model = networks.MobileNet()
    first, second = (trace(model, torch.zeros(1, 3, 16, 16)) for _ in range(2))
    assert first.ops == second.ops and list(first.tensors) == list(second.tensors)


def test_a_wrong_lowering_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = lowerings_module.LOWERINGS
    monkeypatch.setitem(table, "sigmoid", table["hardsigmoid"])
    with pytest.raises(VerificationError, match="traced graph"):
        trace(nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()), torch.zeros(1, 4))


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * 2


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "unknown": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.SELU()), IMAGE,
                "'1'.*'selu'.*supported: .*relu"),
    "ceil mode": (nn.AvgPool2d(3, 2, ceil_mode=True), IMAGE, "'avg_pool2d'.*ceil_mode"),
    "transposed": (nn.ConvTranspose2d(4, 4, 2), IMAGE, "conv_transpose2d"),
    "reflection": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), IMAGE, "constant zero"),
    "clamp": (Apply(lambda x: x.clamp(-1, 1)), IMAGE, r"clamp to \[-1, 1\]"),
    "matmul of two": (Apply(lambda x: x @ x[:, :1]), IMAGE, "leading axes must be equal"),
    "dropout that drops": (Apply(lambda x: F.dropout(x, 0.5, True)), IMAGE, "dropout|bernoulli"),
    "batch statistics": (nn.BatchNorm2d(4, track_running_stats=False), IMAGE, "batch_norm"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_operators_are_named_on_one_line(case: str) -> None:
    module, shape, text = REFUSED[case]
    with pytest.raises(UnsupportedOpError, match=text) as caught:
        trace(module, torch.ones(shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "example", "text"),
    [
        (Branching(), torch.ones(1, 4), "cannot be exported"),
        (Counting(), torch.ones(1, 4), "changes its buffers"),
        (nn.Linear(4, 3), torch.ones(1, 5), "cannot be exported"),
        (nn.Linear(4, 3), torch.ones(1, 4, dtype=torch.bool), "torch.bool"),
        (nn.Linear(4, 3), torch.ones(4), "give a batch"),
        (Apply(lambda x: torch.ones(1, 3)), torch.ones(1, 4), "computed from the input"),
    ],
)
def test_what_cannot_be_traced_says_why(
    module: nn.Module, example: torch.Tensor, text: str
) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        trace(module, example)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_must_be_finite(value: float) -> None:
    model = networks.ResNet(1, 4)
    with torch.no_grad():
        model.layer2[0].conv1.weight[0, 0, 0, 0] = value
    with pytest.raises(ModelError, match=r"'layer2\.0\.conv1\.weight' holds 1 values"):
        trace(model, torch.zeros(1, 3, 16, 16))


def test_resnet20_with_its_published_weights(models_dir) -> None:
    model = networks.ResNet()
    model.load_state_dict(read_tensors(models_dir / "resnet20_cifar10.safetensors"))
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    stage = 9 * 1024 * 16 * 16  # MACs of one 3x3 layer of 16 channels on 32x32
    first_of_stage = stage // 2  # half the input channels, at the new resolution
    expected = 9 * 1024 * 3 * 16 + 6 * stage + 2 * (first_of_stage + 5 * stage) + 640
    assert sum(macs(graph, op) for op in graph.ops) == expected == 40_551_040
    weights = sum(t.size for _, t in graph.weighted())
    assert weights == sum(p.numel() for p in model.parameters() if p.ndim > 1)
    x = torch.randn(4, 3, 32, 32, generator=torch_generator(1))
    with torch.no_grad():
        expected_logits = model.eval()(x)
    logits = run_float(graph, {"x": x})[graph.outputs[0]]
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-4)
