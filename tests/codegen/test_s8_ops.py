"""int8 ops without weights: exact on random shapes, zero points and scales."""

import numpy as np
import pytest
from s8_graphs import HOST, PORTABLE, Chain, mismatches, weights

from cofit.codegen.emit import emit
from cofit.core import UnsupportedOpError
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor
from cofit.ir import attributes as at

pytestmark = pytest.mark.device
FUNCTIONS = ("relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh")
FUSED = ("none", "relu", "relu6")


def random_op(chain: Chain, kind: str) -> None:
    rng = chain.rng
    _, c, h, w = chain.here
    fused = FUSED[rng.integers(3)]
    earlier = [
        name
        for name in ("x", *(op.output for op in chain.ops))
        if chain.tensors[name].shape == chain.here
    ]
    if kind in ("add", "mul"):
        form = rng.integers(4)
        make = at.Add(fused) if kind == "add" else at.Mul(fused)
        if form == 0:
            chain.add(make, earlier[rng.integers(len(earlier))], keep=False)
            return
        shape = [(1, c, 1, 1), (1, c, h, w), (1, 1, h, w)][form - 1]
        name = f"constant{len(chain.ops)}"
        data = weights(rng, shape, 128 if kind == "mul" else 127)
        chain.constant(name, data, Quantisation((0.013,), int(rng.integers(-128, 128))))
        chain.add(make, name, keep=False)
    elif kind == "gate":
        before = chain.last
        chain.add(at.GlobalMean(), keep=False)
        gate = chain.add(at.Activation("sigmoid"), scale=1 / 256)
        chain.last = before
        chain.add(at.Mul(fused), gate, keep=False)
    elif kind == "activation":
        chain.add(at.Activation(FUNCTIONS[rng.integers(len(FUNCTIONS))]), keep=False)
    elif kind in ("max", "average", "average whole"):
        kernel = tuple(rng.integers(1, 4, 2).tolist())
        stride = tuple(rng.integers(1, 3, 2).tolist())
        pads = tuple(int(rng.integers(0, kernel[i // 2])) for i in range(4))
        if kind == "max":
            chain.add(at.MaxPool2d(kernel, stride, pads))
        else:
            chain.add(at.AvgPool2d(kernel, stride, pads, kind == "average whole"))
    elif kind == "concat":
        axis = int(rng.integers(1, 4))
        chain.add(at.Concat(axis), earlier[rng.integers(len(earlier))], keep=bool(form_of(rng)))
    if max(chain.here[2:]) > 14 or chain.here[1] > 14:
        stop = tuple(min(n, 9) for n in chain.here[1:])
        chain.add(at.Slice((0, 0, 0, 0), (1, *stop), (1, 1, 1, 1)))
    if min(chain.here[2:]) < 4:
        chain.add(at.Pad(((0, 0), (0, 1), (2, 2), (1, 3))))


def form_of(rng: np.random.Generator) -> int:
    return int(rng.integers(2))


KINDS = ("add", "mul", "gate", "activation", "max", "average", "average whole", "concat")


@pytest.mark.parametrize("machine", [PORTABLE, HOST], ids=lambda m: m.name)
def test_random_ops_are_exact(machine) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(8)
    graphs = []
    for index, rounding in enumerate(Rounding):
        chain = Chain(rng, (1, 6, 9, 7), rounding, f"ops{index}")
        for kind in KINDS * 12:
            random_op(chain, kind)
        graphs.append(chain.graph())
    assert not mismatches(graphs, machine)


def test_softmax_is_exact_for_many_scales_and_sizes() -> None:
    rng = np.random.default_rng(9)
    graphs = []
    for index in range(24):
        shape = (1, int(rng.integers(1, 4)), int(rng.choice([1, 2, 10, 100, 600])))
        x = Tensor("x", shape, DType.I8, Quantisation((float(np.exp(rng.uniform(-7, 2))),), 3))
        y = Tensor("y", shape, DType.I8, Quantisation((1 / 256,), -128))
        op = Op("y", at.Softmax(), ("x",))
        graphs.append(
            Graph.build(f"soft{index}", ("x",), ("y",), (op,), {"x": x, "y": y}, QuantSpec())
        )
    assert not mismatches(graphs, PORTABLE)


@pytest.mark.parametrize("rounding", Rounding)
def test_wide_accumulators_use_the_wide_requantisation(rounding: Rounding) -> None:
    rng = np.random.default_rng(10)
    weight = weights(rng, (6, 4))
    weight[0, 0] = -128  # which has no lifted form
    tensors = {
        "x": Tensor("x", (1, 4), DType.I8, Quantisation((1.0,), 0)),
        "w": Tensor("w", (6, 4), DType.I8, Quantisation((2.0**-24,)), weight),
        "b": Tensor(
            "b", (6,), DType.I32, Quantisation((2.0**-24,)),
            np.array([2**31 - 10**6, -(2**31) + 10**6, 2**30, -(2**30), 7, 0], np.int32),
        ),
        "y": Tensor("y", (1, 6), DType.I8, Quantisation((1.1,), 5)),
    }  # fmt: skip
    op = Op("y", at.Linear(), ("x", "w", "b"))
    graph = Graph.build("wide", ("x",), ("y",), (op,), tensors, QuantSpec(rounding))
    support = emit(graph, PORTABLE).steps[0].code.support
    name = "double" if rounding is Rounding.DOUBLE else "single"
    assert support[0] == f"s8_requantise_{name}_wide.h"
    assert not mismatches([graph], PORTABLE)


def test_in_place_ops_share_their_input_buffer() -> None:
    chain = Chain(np.random.default_rng(11), (1, 4, 6, 6), name="place")
    chain.add(at.Activation("hardswish"), keep=False)
    chain.add(at.Add(), chain.last, keep=False)
    graph = chain.graph()
    assert emit(graph, PORTABLE).plan.arena_bytes < 2 * 144
    assert not mismatches([graph], PORTABLE)


def test_unsupported_integers_name_op_and_reason() -> None:
    chain = Chain(np.random.default_rng(12), (1, 4, 6, 6), name="bad")
    chain.weighted(at.Conv2d(), weights(chain.rng, (4, 4, 3, 3)))
    graph = chain.graph()
    skewed = Tensor(
        "t0.w", (4, 4, 3, 3), DType.I8, Quantisation((0.01,), 3), graph.tensors["t0.w"].data
    )
    with pytest.raises(UnsupportedOpError, match=r"'t0' .*zero point 0"):
        emit(graph.with_tensors({"t0.w": skewed}), PORTABLE)
