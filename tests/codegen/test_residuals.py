"""Additions inside convolutions: the integers, and within the bounds the floats, of two steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from layers import Builder
from s8_graphs import HOST, PORTABLE, Chain, differences, weights

from cofit.codegen import emit, steps, verify
from cofit.codegen.emit import Source
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.kernels import s8_host_layer, shares
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Rounding
from cofit.ir import attributes as at
from cofit.structures import parse
from cofit.targets import HostTarget, work_of

pytestmark = pytest.mark.device
SAME = (1, 1, 1, 1)
FLOAT = replace(HOST, io="float")
PORTABLE_FLOAT = replace(PORTABLE, io="float")
PAIRS = replace(HOST, quads=False)
PLAIN = replace(HOST, flags=())  # the same kernels without intrinsics
VECTORS = pytest.mark.skipif(HOST.vector_floats < 8, reason="no vectors of eight int32 here")


@pytest.fixture
def all_shared(monkeypatch):
    """Steps of any size are shared."""
    monkeypatch.setattr(shares, "LEAST_CYCLES", 0)


def unfused(graph: Graph, machine: Machine) -> Source:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "find_residuals", lambda graph: {})
        return emit(graph, machine)


def projected(text: str | None, weight: np.ndarray) -> np.ndarray:
    if text is None:
        return weight
    return parse(text).project(torch.tensor(weight, dtype=torch.float32)).numpy()


def built(source: Source) -> HostRunner:
    return HostRunner(source, build_host([source], optimise="-O1"))


def fused_steps(source: Source) -> list[steps.Step]:
    return [step for step in source.steps if step.residual is not None]


def float_block(
    text: str | None, shape: tuple[int, ...], fused: at.Fused, order: int = 0,
    name: str = "block", **conv,
) -> Graph:  # fmt: skip
    """y = x1 + conv(x1), read by one more convolution and by another such block."""
    b = Builder(name, (1, 3, *shape[2:]), np.random.default_rng(len(text or "")))
    y = b.conv("x", shape[0], 1, fused="relu")
    for _ in range(2):
        weight = projected(text, b.rng.standard_normal((shape[0], shape[1], *conv["kernel"])))
        operator = at.Conv2d(**{k: v for k, v in conv.items() if k != "kernel"})
        bias = b.constant(b.rng.standard_normal(shape[0]))
        z = b.add(operator, y, b.constant(weight, text), bias)
        y = b.add(at.Add(fused=fused), *((z, y) if order == 0 else (y, z)))
    return b.graph(b.conv(y, 8, 1))


FLOATS = [
    # structure, (outputs, channels per group, height, width), padding and so on, family
    (None, (64, 64, 9, 11), {"kernel": (3, 3), "padding": SAME}, "f32-dense"),
    (None, (21, 21, 9, 11), {"kernel": (1, 1)}, "f32-dense"),
    (None, (42, 21, 9, 11), {"kernel": (3, 3), "padding": SAME, "groups": 2}, "f32-dense"),
    ("block16x1@4", (48, 48, 9, 11), {"kernel": (3, 3), "padding": SAME}, "f32-block"),
    ("block32x1@4", (64, 64, 9, 11), {"kernel": (1, 1)}, "f32-block"),
    ("block8x2@2", (19, 19, 9, 11), {"kernel": (3, 3), "padding": SAME}, "f32-block"),
    ("pattern8g1@4", (24, 24, 9, 11), {"kernel": (3, 3), "padding": SAME}, "f32-planes"),
    ("pattern8g4@4", (18, 18, 9, 11), {"kernel": (3, 3), "padding": SAME}, "f32-planes"),
    ("pattern8g4@4", (19, 19, 2, 2), {"kernel": (3, 3), "padding": SAME}, "f32-pattern"),
    ("unstructured@4", (20, 20, 9, 11), {"kernel": (3, 3), "padding": SAME}, "f32-planes"),
    ("unstructured@4", (20, 20, 2, 2), {"kernel": (3, 3), "padding": SAME}, "f32-planes"),
]


@pytest.mark.parametrize(
    ("machine", "threads"),
    [(FLOAT, 1), (FLOAT, 3), pytest.param(PORTABLE_FLOAT, 1, marks=pytest.mark.slow)],
    ids=["host", "threads", "portable"],
)
def test_floats_are_within_the_bound_of_two_steps(machine, threads, all_shared):
    fused, apart = [], []
    for index, (text, shape, conv, family) in enumerate(FLOATS):
        activation = ("none", "relu", "relu6")[index % 3]
        graph = float_block(text, shape, activation, index % 2, f"block{index}", **conv)
        source = emit(graph, machine.with_threads(threads))
        taken = fused_steps(source)
        assert len(taken) == 2 and not any(step.kind == "add" for step in source.steps)
        if machine is FLOAT:
            assert {step.kernel for step in taken} == {family}
        fused.append(source)
        apart.append(unfused(replace(graph, name=f"apart{index}"), machine))
    variants = [step.code.variant for source in fused for step in fused_steps(source)]
    assert machine is not FLOAT or any(" parts" in variant for variant in variants)
    library = build_host([*fused, *apart], optimise="-O1")
    for source, two in zip(fused, apart, strict=True):
        runner = HostRunner(source, library)
        verify(source, runner)  # every step, and each addition by the bounds of its two ops
        shape = source.graph.tensors["x"].shape
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        a, b = (np.asarray(r.run(x), np.float64) for r in (runner, HostRunner(two, library)))
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def test_the_float_check_sees_a_wrong_addition():
    """Of the other operand twice, or after the clamp."""
    graph = float_block(None, (16, 16, 5, 5), "relu", kernel=(3, 3), padding=SAME)
    source = emit(graph, FLOAT)
    (first, _) = fused_steps(source)
    exact = [graph.tensors[name].shape for name in first.reads]
    assert exact == [(1, 16, 5, 5)] * 2
    for wrong in (" += *(const vec *)(z", " = *(const vec *)(z", " -= *(const vec *)(z"):
        text = source.source.replace(" += *(const vec *)(z", wrong)
        runner = built(replace(source, source=text))
        if text == source.source:
            verify(source, runner)
        else:
            with pytest.raises(Exception, match="op 't"):
                verify(source, runner)


def weighted_like(chain: Chain, operator: at.Conv2d, weight: np.ndarray, text: str | None) -> str:
    """A convolution whose outputs have about the scale of its inputs, as in a network."""
    wanted = chain.quantisation.scale[0] * chain.rng.uniform(0.5, 2)
    name = chain.weighted(operator, weight, text)
    factor = wanted / chain.quantisation.scale[0]
    for each in (f"{name}.w", f"{name}.b", name):
        tensor = chain.tensors[each]
        scales = tuple(factor * scale for scale in tensor.quantisation.scale)
        chain.tensors[each] = replace(
            tensor, quantisation=replace(tensor.quantisation, scale=scales)
        )
    return name


def int8_block(
    text: str | None, channels: int, kernel: int, rounding: Rounding, name: str = "block",
    groups: int = 1,
) -> Graph:  # fmt: skip
    """Two blocks of convolution and addition, the operands once in each order."""
    chain = Chain(np.random.default_rng(channels), (1, 5, 9, 11), rounding, name)
    rng, pads = chain.rng, (kernel // 2,) * 4
    before = chain.weighted(at.Conv2d(), weights(rng, (channels, 5, 1, 1)))
    for turned in (False, True):
        shape = (channels, channels // groups, kernel, kernel)
        weight = projected(text, weights(rng, shape)).astype(np.int8)
        fused = "relu" if turned else "none"
        operator = at.Conv2d(padding=pads, groups=groups, fused=fused)
        after = weighted_like(chain, operator, weight, text)
        if turned:
            chain.last = before
        before = chain.add(at.Add("relu"), after if turned else before, keep=False)
    chain.weighted(at.Conv2d(), weights(rng, (8, channels, 1, 1)))
    return chain.graph()


INT8 = [
    (None, 24, 1, 1, "s8-host-dense"),
    (None, 21, 1, 1, "s8-host-dense"),
    (None, 21, 5, 1, "s8-host-dense"),
    (None, 24, 3, 2, "s8-host-dense"),
    (None, 40, 3, 1, "s8-host-dense-winograd"),
    ("block16x1@8", 48, 3, 1, "s8-host-block"),
    ("block32x4@8", 64, 3, 1, "s8-host-block"),
    ("block8x2@4", 24, 1, 1, "s8-host-block"),
    ("pattern8g4@4", 24, 3, 1, "s8-host-dense"),
]


@VECTORS
@pytest.mark.parametrize(
    ("machine", "threads"),
    [(HOST, 1), (PAIRS, 1), (HOST, 3), pytest.param(PLAIN, 1, marks=pytest.mark.slow)],
    ids=["host", "pairs", "threads", "plain"],
)
def test_integers_are_those_of_two_steps(machine, threads, all_shared):
    fused, apart = [], []
    for index, (text, channels, kernel, groups, family) in enumerate(INT8):
        rounding = tuple(Rounding)[(index + threads) % 3]
        graph = int8_block(text, channels, kernel, rounding, f"block{index}", groups)
        source = emit(graph, machine.with_threads(threads))
        if machine.quads:  # which are faster on planes of few tiles
            family = family.removesuffix("-winograd")
        assert [step.kernel for step in fused_steps(source)] == [family] * 2
        assert not any(step.kind == "add" for step in source.steps)
        fused.append(source)
        apart.append(unfused(replace(graph, name=f"apart{index}"), machine))
    assert threads == 1 or any(s.code.shares > 1 for each in fused for s in fused_steps(each))
    library = build_host([*fused, *apart], optimise="-O1")
    x = np.random.default_rng(3).integers(-128, 128, (2, 9, 11, 5)).astype(np.int8)
    for source, two in zip(fused, apart, strict=True):
        runner = HostRunner(source, library)
        assert not differences(source, runner)
        assert runner.run(x).tobytes() == HostRunner(two, library).run(x).tobytes()


def test_sums_that_floats_get_wrong_stay_apart(monkeypatch):
    monkeypatch.setattr(s8_host_layer, "float_sum", lambda *_: None)
    graph = int8_block(None, 21, 1, Rounding.SHORT)
    source = emit(graph, HOST)
    assert not fused_steps(source) and [s.kind for s in source.steps].count("add") == 2


def taken_adds(graph: Graph, machine: Machine = FLOAT) -> set[str]:
    return {step.residual.op.output for step in fused_steps(emit(graph, machine))}


def test_an_output_with_two_readers_is_stored():
    b = Builder("two", (1, 8, 5, 5), np.random.default_rng(0))
    y = b.conv("x", 8, 3, padding=SAME)
    total = b.add(at.Add(), y, "x")
    graph = b.graph(b.add(at.Mul(), total, y))
    assert not taken_adds(graph)
    verify(source := emit(graph, FLOAT), built(source))


def test_the_output_of_the_graph_is_stored():
    b = Builder("out", (1, 8, 5, 5), np.random.default_rng(0))
    y = b.conv("x", 8, 3, padding=SAME)
    b.add(at.Add(), y, "x")
    assert not taken_adds(b.graph(y))


def test_what_is_added_to_itself_broadcast_or_clamped_before_is_apart():
    b = Builder("apart", (1, 8, 5, 5), np.random.default_rng(0))
    y = b.conv("x", 8, 3, padding=SAME)
    y = b.add(at.Add(), y, y)
    z = b.conv(y, 8, 3, padding=SAME)
    z = b.add(at.Add(), z, b.constant(b.rng.standard_normal((1, 8, 1, 1))))
    t = b.conv(z, 8, 3, padding=SAME, fused="relu")
    t = b.add(at.Add(), t, z)
    mean = b.add(at.GlobalMean(), t)
    graph = b.graph(b.add(at.Add(), b.conv(t, 8, 1), mean))
    assert not taken_adds(graph)
    verify(source := emit(graph, FLOAT), built(source))


def shortcut(first: str) -> Graph:
    """A block whose shortcut is a convolution too, before or behind the others."""
    b = Builder("shortcut", (1, 8, 6, 6), np.random.default_rng(0))
    if first == "shortcut":
        z = b.conv("x", 16, 1, stride=(2, 2))
    y = b.conv("x", 16, 3, padding=SAME, stride=(2, 2), fused="relu")
    y = b.conv(y, 16, 3, padding=SAME)
    if first != "shortcut":
        z = b.conv("x", 16, 1, stride=(2, 2))
    return b.graph(b.conv(b.add(at.Add(fused="relu"), y, z), 4, 1))


@pytest.mark.parametrize("first", ["shortcut", "body"])
def test_a_residual_that_comes_later_is_not_waited_for(first):
    """Of two convolutions the later one adds."""
    graph = shortcut(first)
    source = emit(graph, FLOAT)
    (step,) = fused_steps(source)
    operands = step.residual.op.inputs
    assert step.op.output == max(operands, key=[op.output for op in graph.ops].index)
    assert step.residual.other == min(operands, key=[op.output for op in graph.ops].index)
    verify(source, built(source))


def test_the_other_operand_lives_until_it_is_added():
    """Through the step that adds it, where its bytes go to the output unless others read it."""
    graph = int8_block(None, 21, 5, Rounding.SHORT)
    source = emit(graph, HOST)
    for step in fused_steps(source):
        index = source.steps.index(step)
        names = (*step.reads, step.writes)
        spans = [(source.offsets[n], source.offsets[n] + graph.tensors[n].nbytes) for n in names]
        (x, other, out) = spans
        assert x == other or x[1] <= other[0] or other[1] <= x[0]
        assert x[1] <= out[0] or out[1] <= x[0]
        alive = [b for b in source.plan.buffers if b.first <= index <= b.last]
        assert any(source.plan.offsets[b.name] == other[0] for b in alive)


def long_block() -> Graph:
    """Several layers between an activation and the addition that reads it again."""
    chain = Chain(np.random.default_rng(0), (1, 8, 9, 9), Rounding.SHORT, "long")
    rng = chain.rng
    before = chain.weighted(at.Conv2d(), weights(rng, (16, 8, 1, 1)))
    for _ in range(3):
        weighted_like(chain, at.Conv2d(padding=SAME), weights(rng, (16, 16, 3, 3)), None)
    chain.add(at.Add(), before, keep=False)
    chain.weighted(at.Conv2d(), weights(rng, (8, 16, 1, 1)))
    return chain.graph()


@VECTORS
def test_freed_early_it_would_be_overwritten(monkeypatch):
    """The mutant in which the planner is not told of the second operand gives other bytes."""
    graph = long_block()
    source = emit(graph, HOST)
    assert len(fused_steps(source)) == 1
    assert not differences(source, built(source))
    access = steps.Access
    monkeypatch.setattr(steps, "Access", lambda reads, *rest: access(reads[:1], *rest[:2]))
    mutant = emit(graph, HOST)
    assert differences(mutant, built(mutant))


@VECTORS
def test_outputs_take_the_place_of_what_is_added():
    for graph, machine in ((long_block(), HOST), (float_long_block(), FLOAT)):
        source = emit(graph, machine)
        (step,) = fused_steps(source)
        assert source.offsets[step.writes] == source.offsets[step.residual.other]
        assert step.code.variant.endswith("in place")


def float_long_block() -> Graph:
    b = Builder("long", (1, 8, 9, 9), np.random.default_rng(0))
    before = b.conv("x", 16, 1)
    y = b.conv(b.conv(before, 16, 3, padding=SAME), 16, 3, padding=SAME)
    return b.graph(b.conv(b.add(at.Add(fused="relu"), y, before), 8, 1))


def test_work_and_rows_belong_to_the_convolution():
    """Bytes of both operands and of the sum; the addition has a row that says where it went."""
    graph = float_long_block()
    source = emit(graph, FLOAT)
    (step,) = fused_steps(source)
    found, tensor = work_of(source, step), 4 * 16 * 9 * 9
    assert step.name == step.op.output and step.writes == step.residual.op.output
    assert found.macs_dense == step.macs == 16 * 16 * 9 * 81
    assert (found.input_bytes, found.output_bytes) == (2 * tensor, tensor)
    assert step.name not in source.offsets and step.writes in source.offsets
    rows = {row.op: row for row in HostTarget().cost(graph).rows}
    assert set(rows) >= {op.output for op in graph.ops}
    assert rows[step.writes].note == f"within {step.name}" and rows[step.writes].latency_s == 0
    assert "adds" in rows[step.name].note and rows[step.name].latency_s > 0
