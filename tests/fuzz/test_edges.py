"""Graphs at the edge: every kind alone at the least size, odd names, extreme numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from batch import HOST, faults, run_together

from cofit.codegen import compile as compile_program
from cofit.codegen.emit import emit
from cofit.codegen.machine import Machine, machine
from cofit.core import ModelError, numpy_generator
from cofit.ir import (
    DType,
    Graph,
    Op,
    Quantisation,
    QuantSpec,
    Rounding,
    Tensor,
    calibrate,
    quantise,
    run_float,
)
from cofit.ir import attributes as at
from cofit.structures import parse
from graphs import FUNCTIONS, Growing

pytestmark = pytest.mark.device
Build = Callable[[Growing], object]
MACHINES = tuple(map(machine, ("host", "cortex-m4", "cortex-m7")))


def constants(g: Growing, *shape: int) -> tuple[str, str]:
    return g.constant(g.rng.standard_normal(shape)), g.constant(g.rng.standard_normal(shape[0]))


def alone() -> Iterator[tuple[tuple[int, ...], Build]]:
    """(input shape, what is built on it), one op of every kind."""
    dot, plane = (1, 1, 1, 1), (1, 3, 5, 4)
    for shape, k in ((dot, 1), (plane, 1), (plane, 4)):
        for fused in ("none", "relu", "relu6"):
            conv = at.Conv2d(fused=fused)  # type: ignore[arg-type]
            yield (
                shape,
                lambda g, c=conv, k=k: g.append(c, "x", *constants(g, k, g.shape("x")[1], 1, 1)),
            )
    far = at.Conv2d(stride=(5, 7), padding=(9, 9, 9, 9), dilation=(4, 3))
    yield plane, lambda g: g.append(far, "x", *constants(g, 6, 3, 3, 3))
    outside = at.Conv2d(padding=(9, 0, 0, 9))  # windows that meet padding only
    yield plane, lambda g: g.append(outside, "x", *constants(g, 6, 3, 2, 2))
    yield plane, lambda g: g.append(at.Conv2d(groups=3), "x", *constants(g, 3, 1, 5, 4))
    yield plane, lambda g: g.append(at.Conv2d(groups=3), "x", *constants(g, 6, 1, 3, 3))
    zero = at.Conv2d()
    yield (
        plane,
        lambda g: g.append(zero, "x", g.constant(np.zeros((2, 3, 1, 1))), g.constant([0, 0])),
    )
    for shape in ((1, 1), (1, 7), (1, 2, 3)):
        yield shape, lambda g: g.append(at.Linear(), "x", *constants(g, 1, g.shape("x")[-1]))
        yield shape, lambda g: g.append(at.Softmax(), "x")
        yield shape, lambda g: g.append(at.Concat(1), "x", "x", "x")
    for shape in (dot, plane, (1, 1), (1, 5), (1, 2, 3)):
        for op in (at.Add(), at.Mul("relu")):
            yield shape, lambda g, op=op: g.append(op, "x", "x")
            yield shape, lambda g, op=op: g.append(op, "x", g.constant(np.array(2.0)))
            yield shape, lambda g, op=op: g.append(op, g.constant(np.ones(g.shape("x"))), "x")
        yield shape, lambda g: g.append(at.Activation("tanh"), "x")
        yield shape, lambda g: g.append(at.Reshape((1, int(np.prod(g.shape("x"))))), "x")
        yield (
            shape,
            lambda g: g.append(at.Pad(((0, 0),) + ((1, 0),) * (len(g.shape("x")) - 1)), "x"),
        )
        yield (
            shape,
            lambda g: g.append(
                at.Slice(
                    (0,) * len(g.shape("x")), g.shape("x"), (1,) * (len(g.shape("x")) - 1) + (9,)
                ),
                "x",
            ),
        )
    for function in FUNCTIONS:
        yield plane, lambda g, f=function: g.append(at.Activation(f), "x")
    for shape in (dot, plane):
        yield shape, lambda g: g.append(at.GlobalMean(), "x")
        yield shape, lambda g: g.append(at.GlobalMean(False), "x")
        yield shape, lambda g: g.append(at.MaxPool2d((1, 1), (3, 2)), "x")
        yield shape, lambda g: g.append(at.MaxPool2d((3, 3), (1, 2), (2, 2, 2, 2)), "x")
        yield shape, lambda g: g.append(at.AvgPool2d((3, 2), (1, 1), (2, 2, 1, 1)), "x")
        yield shape, lambda g: g.append(at.AvgPool2d((3, 2), (2, 1), (2, 2, 1, 1), True), "x")
    yield plane, lambda g: g.append(at.Reshape((1, 4, 3, 5)), "x")
    yield plane, lambda g: g.append(at.Reshape((1, 60, 1, 1)), "x")


def floats() -> list[Graph]:
    graphs = []
    for shape, build in alone():
        growing = Growing(lambda _: 0, shape)
        build(growing)
        graphs.append(replace(growing.finish(), name=f"edge{len(graphs)}"))
    return graphs


def numbers(graph: Graph) -> np.ndarray:
    return (
        numpy_generator(0, "edges").uniform(-2, 2, (3, *graph.tensors["x"].shape[1:])).astype("f4")
    )


@pytest.mark.parametrize("chosen", MACHINES, ids=lambda m: m.name)
def test_every_kind_alone(chosen: Machine) -> None:
    graphs = floats()
    integers = [
        quantise(g, calibrate(g, [numbers(g)]), QuantSpec(tuple(Rounding)[i % 2]))
        for i, g in enumerate(graphs)
    ]
    wrong = []
    for some in (integers, graphs if chosen is MACHINES[0] else []):
        runners = run_together(some, chosen) if some else []
        for graph, runner in zip(some, runners, strict=True):
            wrong += faults(runner, runner.source, numbers(graph))
    assert not wrong


NAMES = {
    "net": ("run", "step", "batch", "profile", "now"),
    "s8": ("add", "lookup", "clamp"),
    "cofit": ("clamp", "word", "input"),
    "main": ("int", "in0", "out"),
    "a\nb": ('x"y', "*/", "a\\", "ü", ""),
    "COFIT": ("STEPS", "INPUT_BYTES", "run_2", "run"),
}


@pytest.mark.parametrize("machine_name", ["host", "cortex-m4"])
@pytest.mark.parametrize("name", NAMES, ids=lambda n: n.split("\n")[0])
def test_any_name_builds(name: str, machine_name: str) -> None:
    """Names of graphs and ops meet neither entry points, support code nor each other."""
    tensors, ops, last = {"x": Tensor("x", (1, 3, 2, 2))}, [], "x"
    for op in NAMES[name]:
        tensors[op] = Tensor(op, (1, 3, 2, 2))
        ops.append(Op(op, at.Activation("hardswish"), (last,)))
        last = op
    graph = Graph.build(name, ("x",), (last,), tuple(ops), tensors)
    program = compile_program(quantise(graph, calibrate(graph, [numbers(graph)])), machine_name)
    assert program.verified and len(program.source.steps) >= len(ops)


def test_names_of_the_conversions_are_refused() -> None:
    tensors = {name: Tensor(name, (1, 2)) for name in ("x", "(input)")}
    op = Op("(input)", at.Activation("relu"), ("x",))
    graph = Graph.build("g", ("x",), ("(input)",), (op,), tensors)
    with pytest.raises(ModelError, match=r"\(input\)"):
        emit(graph, HOST)


def test_a_graph_without_ops_gives_its_input() -> None:
    graph = Graph.build("nothing", ("x",), ("x",), (), {"x": Tensor("x", (1, 3, 2, 2))})
    x = numbers(graph)
    assert np.array_equal(compile_program(graph).run(x), x)
    integer = quantise(graph, calibrate(graph, [x]))
    assert np.abs(compile_program(integer).run(x) - x).max() <= 4 / 255


def requantised(scale: float, bias: int, zero_y: int, rounding: Rounding) -> Graph:
    """Accumulators that are the bias alone, or little more."""
    weight = np.array([0, 0, 0, 1, -1, 1], np.int8).reshape(2, 3, 1, 1)
    scales = Quantisation((scale, scale))
    tensors = [
        Tensor("x", (1, 3, 1, 2), DType.I8, Quantisation((1.0,), -128)),
        Tensor("w", weight.shape, DType.I8, scales, weight),
        Tensor("b", (2,), DType.I32, scales, np.array([bias, bias // 3], np.int32)),
        Tensor("y", (1, 2, 1, 2), DType.I8, Quantisation((1.0,), zero_y)),
    ]
    op = Op("y", at.Conv2d(), ("x", "w", "b"))
    named = {t.name: t for t in tensors}
    return Graph.build("g", ("x",), ("y",), (op,), named, QuantSpec(rounding))


@pytest.mark.parametrize("chosen", MACHINES, ids=lambda m: m.name)
def test_requantisation_at_the_ends_of_int32(chosen: Machine) -> None:
    most = (1 << 31) - 1024
    graphs = []
    for rounding in Rounding:
        below_one = 1 - 2.0**-rounding.multiplier_bits  # what rounds to one needs a left shift
        for scale in (below_one, 0.5, 2.0**-8, 2.0**-23, 0.7 * 2.0**-31, 2.0**-32, 2.0**-40):
            for zero_y in (-128, 127):
                graphs += [requantised(scale, b, zero_y, rounding) for b in (most, -most)]
        below_two = 2 - 2.0 ** -(rounding.multiplier_bits - 2)
        for scale, limit in ((below_two, most >> 1), (2.0**20, most >> 22)):
            graphs += [requantised(scale, b, 127, rounding) for b in (limit, -limit)]
    graphs = [replace(graph, name=f"g{i}") for i, graph in enumerate(graphs)]
    x = np.array([-128, 127, 0], np.float32).reshape(3, 1, 1, 1) * np.ones((3, 3, 1, 2), np.float32)
    runners = run_together(graphs, chosen)
    assert not [f for runner in runners for f in faults(runner, runner.source, x)]


@pytest.mark.parametrize("structure", [None, "unstructured@2", "stripe8@2"])
def test_columns_beyond_16_bits(structure: str | None) -> None:
    growing = Growing(lambda _: 0, (1, 70_001))
    weight = growing.rng.standard_normal((8, 70_001)) / 300
    if structure is not None:
        weight = parse(structure).project(torch.from_numpy(weight)).numpy()
    held = growing.constant(weight, structure)
    growing.append(at.Linear(), "x", held, growing.constant(np.zeros(8)))
    graph = growing.finish()
    x = growing.rng.standard_normal((2, 70_001)).astype(np.float32)
    integer = quantise(graph, calibrate(graph, [x]))
    for g in (graph, integer):
        runner = run_together([replace(g, name="wide")], machine("host"))[0]
        assert not faults(runner, runner.source, x)
    wanted = run_float(graph, {"x": torch.from_numpy(x)})[graph.outputs[0]].numpy()
    assert np.abs(compile_program(graph).run(x) - wanted).max() < 1e-3


def test_wrong_shapes_are_refused() -> None:
    """Shapes that no kernel means are refused when the graph is built."""
    for shape, op, words in (
        ((1, 2, 3, 4), at.Softmax(), "softmax"),
        ((1, 2, 3, 4), at.Pad(((0, 0), (0, 0), (-1, 1), (0, 0))), "negative"),
        ((1, 5), at.Slice((0, 2), (1, 2), (1, 1)), "empty"),
    ):
        tensors = {"x": Tensor("x", shape), "y": Tensor("y", shape)}
        with pytest.raises(ModelError, match=words):
            Graph.build("g", ("x",), ("y",), (Op("y", op, ("x",)),), tensors)
