"""Shapes, validation, execution and the graph's own bookkeeping."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cofit.core import ModelError
from cofit.ir import DType, Graph, Op, Tensor, attributes, kept_macs, macs, run_float
from cofit.ir.attributes import KINDS
from cofit.ir.execute import FUNCTIONS, apply
from cofit.ir.shapes import output_shape, window_output


def constant(name: str, *shape: int) -> Tensor:
    data = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return Tensor(name, shape, data=data)


CONSTANTS = [constant("w", 6, 4, 3, 3), constant("b", 6), constant("unused", 9)]


def convolution(**changes: object) -> Graph:
    op = Op("y", attributes.Conv2d(padding=(1, 1, 1, 1)), ("x", "w", "b"))
    tensors = {
        t.name: t for t in [Tensor("x", (1, 4, 8, 8)), Tensor("y", (1, 6, 8, 8)), *CONSTANTS]
    }
    arguments = {"name": "g", "inputs": ("x",), "outputs": ("y",), "ops": (op,), "tensors": tensors}
    return Graph.build(**(arguments | changes))


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 12), kernel=st.integers(1, 5), stride=st.integers(1, 3),
    pad=st.integers(0, 4), dilation=st.integers(1, 3),
)  # fmt: skip
def test_windows_are_as_many_as_torch_says(
    size: int, kernel: int, stride: int, pad: int, dilation: int
) -> None:
    pads = (pad, 0, 0, pad)
    x, w = torch.zeros(1, 1, size, size), torch.zeros(1, 1, kernel, 1)
    padded = F.pad(x, (0, pad, pad, 0))
    expected = window_output((size, size), (kernel, 1), (stride, 1), pads, (dilation, 1))
    conv = attributes.Conv2d((stride, 1), pads, (dilation, 1))
    if dilation * (kernel - 1) + 1 > padded.shape[2]:
        with pytest.raises(ValueError, match="larger than the padded input"):
            output_shape(conv, ((1, 1, size, size), (1, 1, kernel, 1)))
    else:
        y = F.conv2d(padded, w, stride=(stride, 1), dilation=(dilation, 1))
        assert tuple(y.shape[2:]) == expected
        assert output_shape(conv, (tuple(x.shape), tuple(w.shape))) == tuple(y.shape)


IMAGE = (1, 4, 5, 6)
ATTRIBUTES: list[tuple[attributes.Attributes, list[tuple[int, ...]]]] = [
    (attributes.Conv2d((2, 1), (1, 0, 2, 0), (1, 2), 2, "relu6"), [IMAGE, (6, 2, 3, 2), (6,)]),
    (attributes.Linear("relu"), [(1, 3, 6), (5, 6), (5,)]),
    (attributes.Add("relu"), [IMAGE, IMAGE]),
    (attributes.Add(), [IMAGE, (4, 1, 1)]),
    (attributes.Mul("relu6"), [IMAGE, (1, 4, 1, 1)]),
    (attributes.Concat(2), [IMAGE, (1, 4, 1, 6)]),
    (attributes.MaxPool2d((3, 2), (2, 1), (1, 2, 0, 1)), [IMAGE]),
    (attributes.AvgPool2d((3, 2), (2, 1), (1, 2, 0, 1)), [IMAGE]),
    (attributes.GlobalMean(True), [IMAGE]),
    (attributes.GlobalMean(False), [IMAGE]),
    (attributes.Reshape((1, 10, 12)), [IMAGE]),
    (attributes.Slice((0, 1, 0, 2), (1, 4, 5, 6), (1, 2, 3, 1)), [IMAGE]),
    (attributes.Pad(((0, 0), (1, 2), (0, 3), (4, 0))), [IMAGE]),
    (attributes.Activation("hardswish"), [IMAGE]),
    (attributes.Softmax(), [(1, 3, 6)]),
    (attributes.Matmul(scale=0.5), [(1, 1, 2, 3, 6), (1, 1, 2, 6, 4)]),
    (attributes.Matmul(transposed=True), [(1, 3, 6), (1, 4, 6)]),
    (attributes.Transpose((0, 3, 1, 2)), [IMAGE]),
    (attributes.LayerNorm(), [(1, 3, 6), (6,), (6,)]),
    (attributes.Embedding(), [(1, 3), (4, 6)]),
    (attributes.Gru(), [(1, 3, 6), (12, 6), (12, 4), (12,), (12,)]),
    (attributes.Lstm(), [(1, 3, 6), (16, 6), (16, 4), (16,), (16,)]),
]


@pytest.mark.parametrize(("attribute", "shapes"), ATTRIBUTES, ids=lambda v: getattr(v, "kind", ""))
def test_execution_gives_the_stated_shape_and_keeps_batches_apart(
    attribute: attributes.Attributes, shapes: list[tuple[int, ...]]
) -> None:
    generator = torch.Generator().manual_seed(1)
    weighted = attribute.kind in ("conv2d", "linear")
    args = [
        torch.randn((3, *s[1:]) if s[0] == 1 and not (weighted and i) else s, generator=generator)
        for i, s in enumerate(shapes)
    ]
    op = Op("y", attribute, ())
    if attribute.kind == "embedding":
        args[0] = torch.randint(0, len(args[1]), args[0].shape, generator=generator)
    y = apply(op, args)
    assert tuple(y.shape) == (3, *output_shape(attribute, tuple(shapes))[1:])
    for i in range(3):
        one = [a[i : i + 1] if s[0] == 1 else a for a, s in zip(args, shapes, strict=True)]
        torch.testing.assert_close(apply(op, one), y[i : i + 1])


def test_every_kind_is_executed_above() -> None:
    assert {attribute.kind for attribute, _ in ATTRIBUTES} == set(KINDS)


def test_asymmetric_convolution_by_hand() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)  # 0 1 2 / 3 4 5
    conv = attributes.Conv2d(padding=(1, 0, 0, 1))
    w, b = torch.tensor([[[[1.0, 10], [100, 1000]]]]), torch.tensor([0.5])
    y = apply(Op("y", conv, ()), [x, w, b])
    expected = [[1000.5, 2100.5, 200.5], [4310.5, 5421.5, 502.5]]
    assert y.tolist() == [[expected]]


def test_pools_by_hand() -> None:
    x = torch.tensor([[[[-1.0, -3], [-5, -7]]]])
    pads = (1, 0, 1, 0)
    pooled = apply(Op("y", attributes.MaxPool2d((2, 2), (1, 1), pads), ()), [x])
    assert pooled.tolist() == [[[[-1, -1], [-1, -1]]]]  # the padding never wins
    there = attributes.AvgPool2d((2, 2), (1, 1), pads)
    assert apply(Op("y", there, ()), [x]).tolist() == [[[[-1, -2], [-3, -4]]]]
    counted = replace(there, count_padding=True)
    assert apply(Op("y", counted, ()), [x]).tolist() == [[[[-0.25, -1], [-1.5, -4]]]]


def test_functions_are_those_of_their_names() -> None:
    x = torch.linspace(-8, 8, 65, dtype=torch.float64)
    gate = ((x + 3) / 6).clamp(0, 1)
    expected = {
        "none": x, "relu": x.clamp(min=0), "relu6": x.clamp(0, 6), "hardsigmoid": gate,
        "hardswish": x * gate, "sigmoid": 1 / (1 + (-x).exp()),
        "tanh": 1 - 2 / ((2 * x).exp() + 1),
        "gelu": x / 2 * (1 + (x / 2**0.5).erf()),
        "gelu_tanh": x / 2 * (1 + ((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh()),
    }  # fmt: skip
    assert set(expected) == set(FUNCTIONS)
    for name, y in expected.items():
        torch.testing.assert_close(FUNCTIONS[name](x), y, rtol=1e-12, atol=1e-12)


def test_run_in_float64_differs_from_float32_and_can_keep_everything() -> None:
    graph = convolution()
    x = {"x": torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))}
    wide, narrow = run_float(graph, x, torch.float64), run_float(graph, x)
    assert wide["y"].dtype == torch.float64 and narrow["y"].dtype == torch.float32
    assert 0 < (wide["y"] - narrow["y"]).abs().max() < 1e-5
    assert {"x", "y", "w", "b"} == set(run_float(graph, x, keep=True))


def test_macs_count_multiplications_by_weights() -> None:
    graph = convolution()
    assert macs(graph, graph.ops[0]) == 8 * 8 * 6 * 4 * 9
    sparse = graph.tensors["w"].data.copy()
    sparse[:, :2] = 0
    zeros = replace(graph.tensors["w"], data=sparse)
    half = graph.with_tensors({"w": replace(zeros, structure="unstructured@2")})
    assert kept_macs(half, half.ops[0]) == macs(half, half.ops[0]) // 2
    dense = graph.with_tensors({"w": zeros})  # zeros without a structure are executed
    assert kept_macs(dense, dense.ops[0]) == macs(dense, dense.ops[0])
    linear = Op("z", attributes.Linear(), ("s", "lw", "lb"))
    tensors = {
        t.name: t for t in [Tensor("s", (1, 7, 5)), Tensor("z", (1, 7, 3)), constant("lw", 3, 5),
                            constant("lb", 3)]
    }  # fmt: skip
    sequence = Graph.build("g", ("s",), ("z",), (linear,), tensors)
    assert macs(sequence, linear) == 7 * 3 * 5


def test_build_drops_what_nobody_reads() -> None:
    relu = Op("r", attributes.Activation("relu"), ("x",))
    op = convolution().ops[0]
    tensors = {**convolution().tensors, "r": Tensor("r", (1, 4, 8, 8)), "unused": CONSTANTS[2]}
    graph = convolution(ops=(relu, op), tensors=tensors)
    assert graph.ops == (op,) and set(graph.tensors) == {"x", "y", "w", "b"}
    both = convolution(ops=(relu, op), tensors=tensors, outputs=("y", "r"))
    assert set(both.tensors) == {"x", "y", "w", "b", "r"}
    assert both.consumers["x"] == (relu, op) and both.producer["r"] is relu
    assert [(o.output, w.name) for o, w in both.weighted()] == [("y", "w")]


def test_tensors_know_their_bytes() -> None:
    assert Tensor("t", (2, 3), DType.I16).nbytes == 12
    assert [dtype.nbytes for dtype in DType] == [4, 1, 2, 4]


def test_graphs_that_make_no_sense_are_refused() -> None:
    good = convolution()
    op, tensors = good.ops[0], dict(good.tensors)
    twice = Op("y", attributes.Activation("relu"), ("x",))
    wrong = [
        ({"ops": (replace(op, inputs=("missing", "w", "b")),)}, "before it is produced"),
        ({"ops": (op, twice)}, "produced twice"),
        ({"ops": (replace(op, inputs=("x", "w")),)}, "needs input, weight, bias"),
        ({"ops": (replace(op, inputs=("x", "x", "b")),)}, "must be a constant"),
        ({"tensors": tensors | {"y": Tensor("y", (1, 6, 8, 7))}}, "its tensor says"),
        ({"ops": (replace(op, attributes=attributes.Conv2d(groups=2)),)}, "do not fit"),
        ({"outputs": ("z",)}, "never produced"),
        ({"tensors": tensors | {"w": replace(CONSTANTS[0], shape=(6, 4, 3, 2))}}, "says|holds"),
    ]
    for changes, text in wrong:
        with pytest.raises(ModelError, match=text):
            convolution(**changes)


@pytest.mark.parametrize(
    ("attribute", "shapes"),
    [
        (attributes.Linear(), ((1, 4), (3, 5))),
        (attributes.Add(), ((1, 4), (1, 4, 1))),
        (attributes.Mul(), ((1, 4, 1, 1), (1, 4, 2, 2))),
        (attributes.Concat(1), ((1, 4, 2), (1, 4, 3))),
        (attributes.Concat(0), ((1, 4), (1, 4))),
        (attributes.MaxPool2d((2, 2), (1, 1), (2, 0, 0, 0)), ((1, 1, 4, 4),)),
        (attributes.Reshape((1, 5)), ((1, 4),)),
        (attributes.Conv2d(), ((1, 4, 4), (2, 4, 1, 1))),
    ],
)
def test_shapes_that_do_not_fit(attribute: attributes.Attributes, shapes: tuple) -> None:
    with pytest.raises(ValueError):
        output_shape(attribute, shapes)
