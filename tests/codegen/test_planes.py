"""Activations lie in planes where that moves the fewest bytes, and programs stay right."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from layers import Builder

from cofit.codegen import compile, emit, load_program, machine
from cofit.codegen.assignment import Meeting, Problem, assign_planes
from cofit.codegen.emitter import Emitter
from cofit.codegen.host import build_host
from cofit.codegen.kernels import shares
from cofit.codegen.layout import PlaneLayout, plane_layout
from cofit.codegen.meetings import problem_of
from cofit.codegen.residuals import find_residuals
from cofit.ir import attributes as at
from cofit.ir.execute import run_float
from cofit.structures import parse

HOST = machine("host")
pytestmark = pytest.mark.device
vectors = pytest.mark.skipif(HOST.vector_floats == 1, reason="planes are for vectors")


def pruned(b, x, outputs, structure="pattern8g4@4", **attrs):
    """A convolution whose weight has the structure."""
    y = b.conv(x, outputs, 3, padding=(1, 1, 1, 1), **attrs)
    name = b.ops[-1].inputs[1]
    values = parse(structure).project(torch.from_numpy(b.tensors[name].data)).numpy()
    b.tensors[name] = replace(b.tensors[name], data=values, structure=structure)
    return y


def vgg(structure="pattern8g4@4", side=18):
    """Dense, two pruned, a pool, two pruned, a mean: t3, t6, t9, t10, t13, t16, t17."""
    b = Builder("vgg", (1, 3, side, side + 3), np.random.default_rng(1))
    x = b.conv("x", 16, 3, padding=(1, 1, 1, 1), fused="relu")
    x = pruned(b, pruned(b, x, 16, structure, fused="relu"), 24, structure, fused="relu")
    x = b.add(at.MaxPool2d((2, 2), (2, 2)), x)
    x = pruned(b, pruned(b, x, 24, structure, fused="relu"), 32, structure, fused="relu")
    return b.graph(b.add(at.GlobalMean(), x))


def resnet(structure="pattern8g4@4"):
    """Two residual blocks of pruned layers, and one whose shortcut is strided."""
    b = Builder("res", (1, 16, 13, 11), np.random.default_rng(2))
    x = b.conv("x", 16, 1)
    for _ in range(2):
        y = pruned(b, pruned(b, x, 16, structure, fused="relu"), 16, structure)
        x = b.add(at.Add(fused="relu"), x, y)
    y = pruned(b, pruned(b, x, 32, structure, fused="relu", stride=(2, 2)), 32, structure)
    shortcut = b.conv(x, 32, 1, stride=(2, 2))
    return b.graph(b.add(at.Add(fused="relu"), shortcut, y))


def sums(structure="pattern8g4@4"):
    """A residual between pruned layers: all of it can lie in planes."""
    b = Builder("sums", (1, 3, 14, 17), np.random.default_rng(3))
    x = pruned(b, b.conv("x", 16, 1), 16, structure, fused="relu")
    for fused in ("relu", "none"):
        y = pruned(b, pruned(b, x, 16, structure, fused="relu"), 16, structure)
        x = b.add(at.Add(fused=fused), x, y)
    x = b.add(at.AvgPool2d((2, 3), (2, 3)), x)
    return b.graph(pruned(b, x, 20, structure, stride=(1, 2)))


GRAPHS = {
    "vgg": vgg(),
    "vgg, single weights": vgg("unstructured@4"),
    "vgg, patterns of one": vgg("pattern8g1@4", 21),
    "resnet": resnet(),
    "resnet, single weights": resnet("unstructured@4"),
    "sums": sums(),
    "sums, patterns of one": sums("pattern8g1@4"),
}


@vectors
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_programs_in_planes_are_right(graph, threads, monkeypatch):
    monkeypatch.setattr(shares, "LEAST_CYCLES", 0)
    program = compile(graph, threads=threads)  # verified step by step
    assert program.source.planes
    x = np.random.default_rng(0).standard_normal(graph.tensors["x"].shape, np.float32)
    expected = run_float(graph, {"x": torch.from_numpy(x)})[graph.outputs[0]].numpy()
    np.testing.assert_allclose(program.run(x), expected, rtol=1e-3, atol=1e-3)


@vectors
def test_layers_of_vgg_hand_planes_on():
    source = emit(vgg(), HOST)
    assert sorted(source.planes) == ["t10", "t13", "t6", "t9"]  # not the dense one's, nor the last
    variants = [step.code.variant for step in source.steps if step.kernel == "f32-planes"]
    sides = [(", from planes" in text, ", to planes" in text) for text in variants]
    assert sides == [(False, True), (True, True), (True, True), (True, False)]
    (pool,) = [step for step in source.steps if step.kind == "maxpool2d"]
    assert "in planes" in pool.code.variant
    # between planes nothing is turned
    assert "f32_turn" not in next(s for s in source.steps if s.name == "t9").code.body


@vectors
def test_sums_lie_as_what_they_add():
    graph = GRAPHS["sums"]
    source = emit(graph, HOST)
    added = [step for step in source.steps if step.residual is not None]
    assert len(added) == 2
    for step in added:
        assert {*step.reads, step.writes} <= set(source.planes)
        assert len({source.planes[name] for name in (step.residual.other, step.writes)}) == 1


def random_problem(rng):
    """Steps of all sorts, each reading earlier tensors."""
    names, steps = ["x"], []
    for index in range(int(rng.integers(3, 8))):
        reads = tuple(rng.choice(names, size=min(len(names), int(rng.integers(1, 3)))))
        kind = rng.choice(["turns", "free", "fixed"], p=[0.6, 0.25, 0.15])
        pitch = PlaneLayout(int(rng.choice([4, 6], p=[0.8, 0.2])), 48)
        target = None if kind == "fixed" else pitch
        writes = f"t{index}"
        steps.append(Meeting(reads, writes, kind == "turns", kind == "free", target))
        names.append(writes)
    sizes = {name: int(rng.integers(1, 100)) for name in names}
    return Problem(sizes, {"x", names[-1]}, steps)


def exhaustive(problem):
    """Least bytes over all layouts that are allowed."""
    names = list(problem.sizes)
    subsets = itertools.chain.from_iterable(
        itertools.combinations(names, count) for count in range(len(names) + 1)
    )
    return min(problem.moved(planes) for planes in subsets if problem.allows(planes))


def test_the_assignment_is_the_best_of_all():
    rng, gains = np.random.default_rng(0), 0
    for _ in range(300):
        problem = random_problem(rng)
        found = assign_planes(problem)
        assert problem.allows(found)
        assert problem.moved(found) == exhaustive(problem)
        gains += bool(found)
    assert gains > 50


@vectors
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_the_assignment_of_networks_is_the_best_of_all(graph):
    problem = problem_of(graph, Emitter(HOST), find_residuals(graph))
    assert problem.moved(set(emit(graph, HOST).planes)) == exhaustive(problem)


def test_planes_hold_a_tensor():
    layout, shape = plane_layout(5, 9), (1, 3, 5, 7)
    values = np.full(layout.nbytes(shape) // 4, np.nan, np.float32)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for c, y, w in np.ndindex(*shape[1:]):
        values[c * layout.size + y * layout.pitch + w] = x[0, c, y, w]
    assert np.array_equal(layout.to_logical(values, shape), x)
    assert layout.size >= 5 * 9 and (layout.size // 16) % 2 == 1


@vectors
def test_a_program_in_planes_is_saved_and_runs_again(tmp_path):
    program = compile(GRAPHS["vgg"])
    program.save(tmp_path / "saved")
    assert load_program(tmp_path / "saved").source.source == program.source.source
    arena = program.plan.arena_bytes
    biggest = max(layout.nbytes(program.graph.tensors[n].shape)
                  for n, layout in program.source.planes.items())  # fmt: skip
    assert arena >= biggest  # the plan knows what lies between rows


@vectors
def test_dense_kernels_have_no_planes():
    b = Builder("dense", (1, 16, 9, 9), np.random.default_rng(0))
    x = b.conv(b.conv("x", 16, 3), 16, 3)
    assert not emit(b.graph(x), HOST).planes


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_gcc_takes_turns_without_a_warning():
    b = Builder("turn", (1, 64, 56, 56), np.random.default_rng(0))
    build_host([emit(b.graph(b.conv("x", 64, 1)), HOST)], "gcc")  # warnings are errors
