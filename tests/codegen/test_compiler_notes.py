"""Acceptance checks of the compiler notes, fp32 on the host (numbers are theirs)."""

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from layers import Builder, every_op, random_layer

from cofit.codegen import build, compile, emit, machine, verify
from cofit.codegen.build import WARNINGS
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.machine import WIDE_FLAGS
from cofit.codegen.verify import POISONS
from cofit.core import UnsupportedOpError, VerificationError
from cofit.ir import Op, Tensor, attributes, run_float
from cofit.ir.types import Graph
from cofit.structures import parse

pytestmark = pytest.mark.device

HOST = machine("host")
STRUCTURES = (
    "block32x1@4", "block16x1@8", "block8x1@4", "block4x4@4", "block2x2@3", "block16x1@4+int8",
    "stripe16@4", "pattern8g8@8", "pattern8g4@9", "pattern8g1@8", "connectivity@4",
    "connectivity@3.6+pattern8g1@2.25", "unstructured@6", "nm1:4", "channel@3",
    "rows4@3", "rows2w@2+polarised2w",
)  # fmt: skip


def lanes(count):
    """The host with vectors of another width; 1 is plain C without any CPU flag."""
    flags = HOST.flags if count > 4 else ()
    return dataclasses.replace(HOST, vector_floats=count, flags=flags)


def structured_layer(name, text, rng, shape=(1, 10, 9, 13), **attrs):
    """A convolution (or, for a 2-D shape, a linear layer) whose weight obeys a structure."""
    b = Builder(name, shape, rng)
    outputs, kernel = 37, 3
    if len(shape) == 4:
        weight = rng.standard_normal((outputs, shape[1], kernel, kernel))
        op = attributes.Conv2d(padding=(1, 0, 1, 1), **attrs)
    else:
        weight = rng.standard_normal((outputs, shape[1]))
        op = attributes.Linear(**attrs)
    projected = parse(text).project(torch.from_numpy(weight.astype(np.float32))).numpy()
    y = b.add(op, "x", b.constant(projected, text), b.constant(rng.standard_normal(outputs)))
    return b.graph(y)


def structured_layers(rng):
    """Every structure × (plain, strided and dilated) convolutions, and linear where it applies."""
    graphs = []
    for i, text in enumerate(STRUCTURES):
        if parse(text).applies((37, 10, 3, 3)) is None:
            graphs.append(structured_layer(f"plain{i}", text, rng, fused="relu6"))
            attrs = {"stride": (2, 2), "dilation": (1, 2), "fused": "relu"}
            graphs.append(structured_layer(f"strided{i}", text, rng, **attrs))
            graphs.append(structured_layer(f"few{i}", text, rng, shape=(1, 10, 2, 2)))
        if parse(text).applies((37, 50)) is None:
            graphs.append(structured_layer(f"linear{i}", text, rng, shape=(1, 50)))
    return graphs


def check_all(graphs, machine_, compiler):
    sources = [emit(graph, machine_) for graph in graphs]
    library = build_host(sources, compiler, optimise="-O1")
    for source in sources:
        verify(source, HostRunner(source, library))
    return sources


def test_01_random_layers_are_within_the_bound():
    rng = np.random.default_rng(1)
    graphs = [random_layer(f"layer{i}", rng) for i in range(200)]
    check_all([every_op("all", rng), *graphs], HOST, "zig")


@pytest.mark.parametrize("count", sorted({1, HOST.vector_floats, 16}))
def test_01_structured_layers_are_within_the_bound(count):
    sources = check_all(structured_layers(np.random.default_rng(2)), lanes(count), "zig")
    kernels = {step.kernel for source in sources for step in source.steps}
    wanted = {"f32-block", "f32-pattern", "f32-planes", "f32-channel"}
    assert wanted <= kernels and "f32-dense" not in kernels


def wide_layers(rng):
    """Structures over 32 channels and 64 outputs, which no vector leaves a rest of."""
    graphs = []
    for i, text in enumerate((None, "block32x1@4", "block16x1@8", "pattern8g4@9", "nm1:4")):
        for stride in (1, 2):
            b = Builder(f"wide{i}_{stride}", (1, 32, 9, 11), rng)
            weight = rng.standard_normal((64, 32, 3, 3)).astype(np.float32)
            if text:
                weight = parse(text).project(torch.from_numpy(weight)).numpy()
            op = attributes.Conv2d((stride, 1), (1, 0, 2, 1), (1, stride), fused="relu6")
            constants = b.constant(weight, text), b.constant(rng.standard_normal(64))
            graphs.append(b.graph(b.add(op, "x", *constants)))
    return graphs


@pytest.mark.parametrize("count", sorted({HOST.vector_floats, 16}))
def test_01_layers_whose_channels_are_taken_in_parts_are_within_the_bound(count, monkeypatch):
    for room in ("tile", "parts"):
        monkeypatch.setattr(f"cofit.codegen.kernels.{room}.L1_BYTES", 64)
    monkeypatch.setattr("cofit.codegen.kernels.parts.LEAST_TILES", 1)
    sources = check_all(wide_layers(np.random.default_rng(2)), lanes(count), "zig")
    for source in sources:
        assert source.steps[1].code.variant.endswith(", 4 parts")


def test_01_a_layer_without_any_weight_left_is_its_bias():
    rng = np.random.default_rng(3)
    for text in ("block16x1@4", "unstructured@4", "pattern8g4@9", "channel@4"):
        graph = structured_layer("empty", text, rng)
        weight = graph.tensors[graph.ops[0].inputs[1]]
        empty = dataclasses.replace(weight, data=np.zeros(weight.shape, np.float32))
        check_all([graph.with_tensors({weight.name: empty})], HOST, "zig")


def test_04_zeros_without_a_structure_change_nothing():
    """Structure, not data, is compiled."""
    rng = np.random.default_rng(4)
    graph = structured_layer("net", "block16x1@8", rng)
    weight = graph.tensors[graph.ops[0].inputs[1]]
    full = dataclasses.replace(weight, data=np.ones(weight.shape, np.float32), structure=None)
    zeroed = dataclasses.replace(weight, structure=None)
    dense, holes, blocks = (
        emit(graph.with_tensors({weight.name: w}), HOST).steps[1] for w in (full, zeroed, weight)
    )
    assert holes.code.body == dense.code.body and holes.constant_bytes == dense.constant_bytes
    assert blocks.kernel == "f32-block" and blocks.constant_bytes < dense.constant_bytes / 4


def test_04_a_weight_that_breaks_its_structure_runs_dense_and_says_so():
    graph = structured_layer("net", "block16x1@8", np.random.default_rng(5))
    weight = graph.tensors[graph.ops[0].inputs[1]]
    full = dataclasses.replace(weight, data=np.ones(weight.shape, np.float32))
    step = emit(graph.with_tensors({weight.name: full}), HOST).steps[1]
    assert step.kernel == "f32-dense"
    assert any("block16x1@8 does not hold" in reason for reason in step.rejected)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("count", [HOST.vector_floats, 1])
def test_05_gcc_accepts_everything_and_sanitizers_stay_silent(count):
    """-Wall -Wextra -Werror; the arena is a heap block of exactly ARENA_BYTES."""
    rng = np.random.default_rng(6)
    graphs = [random_layer(f"layer{i}", rng) for i in range(25)]
    graphs += [every_op("all", rng), *structured_layers(rng)[::2]]
    sources = [emit(graph, lanes(count)) for graph in graphs]
    files = {f"{s.name}.h": s.header for s in sources}
    calls = "".join(
        f"    arena = aligned_alloc(64, ({s.name.upper()}_ARENA_BYTES + 63) / 64 * 64);\n"
        f"    memset(arena, 1, {s.name.upper()}_ARENA_BYTES);\n"
        f"    {s.name}_run(arena);\n    free(arena);\n"
        for s in sources
    )
    text = "\n".join(s.source for s in sources)
    files["all.c"] = (
        f"#include <stdlib.h>\n#include <string.h>\n{text}\n"
        f"int main(void)\n{{\n    void *arena;\n{calls}    return 0;\n}}\n"
    )
    sanitize = ("-g0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    flags = (*WARNINGS, "-std=c11", "-O1", *lanes(count).flags, *sanitize)
    program = build(files, flags, "sanitized", "gcc")
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("structure", [None, "block32x1@8", "pattern8g4@8", "pattern8g1@8"])
def test_05_tiles_of_512_bits_stay_in_their_registers(structure):
    """Compiled for AVX-512 wherever the test runs; a spilled accumulator would be on the stack."""
    flags = ("-march=cascadelake", *WIDE_FLAGS)
    wide = dataclasses.replace(HOST, vector_floats=16, vector_registers=32, flags=flags)
    b = Builder("wide", (1, 64, 14, 28), np.random.default_rng(12))
    weight = b.rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
    if structure:
        weight = parse(structure).project(torch.from_numpy(weight)).numpy()
    op = attributes.Conv2d(padding=(1, 1, 1, 1), fused="relu")
    constants = b.constant(weight, structure), b.constant(np.zeros(64))
    source = emit(b.graph(b.add(op, "x", *constants)), wide)
    files = {"wide.h": source.header, "wide.c": source.source}
    lines = (
        build(files, ("-std=c99", "-O3", *flags, "-ffp-contract=fast", "-c", "-S"), "wide.s")
        .read_text()
        .splitlines()
    )
    products = [line for line in lines if "vfmadd" in line]
    assert len(products) >= 14 and all("zmm" in line for line in products)
    assert not [line for line in lines if "vmovups" in line and "zmm" in line and "(%rsp)" in line]


def test_05_long_constants_are_linked_from_bytes_or_written_into_the_text(monkeypatch):
    monkeypatch.setattr(sys.modules["cofit.codegen.emit"], "LARGE_BYTES", 4096)
    rng = np.random.default_rng(11)
    graphs = [*wide_layers(rng)[::2], random_layer("layer", rng)]
    sources = check_all(graphs, HOST, "zig")
    linked = {item.symbol for source in sources for item in source.large}
    assert len(linked) >= 5
    for source in sources:
        files = {f"{source.name}.h": source.header, f"{source.name}.c": source.standalone}
        flags = (*WARNINGS, "-std=c11", "-O1", *HOST.flags, "-shared", "-fPIC")
        flags = (*flags, "-DCOFIT_PROFILE", "-DCOFIT_STEPS")
        compiler = "gcc" if shutil.which("gcc") else "zig"
        verify(source, HostRunner(source, build(files, flags, "alone.so", compiler)))
        values = {item.symbol: item.constant.values for item in source.large}
        assert all(values[item.symbol].tobytes() == item.data for item in source.large)


def with_fault(source, step, statement):
    """The program with one C statement more at the end of a step."""
    start = source.source.index(f"void {step.function}(")
    end = source.source.index("\n}\n", start)
    text = source.source[:end] + f"\n    {statement}" + source.source[end:]
    return dataclasses.replace(source, source=text)


def test_08_programs_that_are_wrong_or_touch_other_memory_are_found():
    """Each fault is a program that must not pass verification."""
    b = Builder("net", (1, 3, 5, 5), np.random.default_rng(7))
    a = b.conv("x", 8, 3, padding=(1, 1, 1, 1))
    c = b.conv(a, 4, 3)
    source = emit(b.graph(b.add(attributes.Activation("relu"), c)), HOST)
    first, second = source.steps[1], source.steps[2]
    where = source.offsets[first.writes]
    above, below = source.plan.arena_bytes - where, -where - 1
    faults = [
        (first, "out[7] *= 1.0001f;", rf"op '{a}' \(conv2d, f32-dense .*within"),
        (second, "out[0] = 0.0f / 0.0f;", rf"op '{c}' .*gives nan"),
        (first, f"((volatile char *)out)[{above}] = 1;", f"op '{a}' .*writes above the arena"),
        (first, f"((volatile char *)out)[{below}] = 1;", f"op '{a}' .*writes below the arena"),
        # an error within the bound, but only where the padding after `a` holds the first poison
        (
            second,
            f"for (int i = 0; i < 36; ++i) out[i] += out[i] * 2e-7f *"
            f" (((const uint8_t *)in0)[{4 * 8 * 25}] == {POISONS[0]});",
            "depends on what was in its arena",
        ),
    ]
    for step, statement, message in faults:
        broken = with_fault(source, step, statement)
        runner = HostRunner(broken, build_host([broken], "zig", "-O1"))
        with pytest.raises(VerificationError, match=message):
            verify(broken, runner)


def test_09_an_unsupported_op_is_named_with_the_reasons():
    tensors = {"x": Tensor("x", (1, 4)), "gate": Tensor("gate", (1, 4))}
    graph = Graph.build(
        "net", ("x",), ("gate",), (Op("gate", attributes.Activation("tanh"), ("x",)),), tensors
    )
    with pytest.raises(UnsupportedOpError) as error:
        emit(graph, machine("cortex-m4"))
    text = str(error.value)
    assert "'gate' (activation)" in text and "cortex-m4" in text and "\n" not in text
    assert "f32-activation: float tanh needs libm" in text and "f32-dense" in text


def test_programs_agree_with_pytorch_end_to_end():
    graph = every_op("net", np.random.default_rng(8))
    program = compile(graph)
    x = np.random.default_rng(9).standard_normal((5, *graph.tensors["x"].shape[1:]), np.float32)
    expected = run_float(graph, {"x": torch.from_numpy(x)}, torch.float64)[graph.outputs[0]]
    np.testing.assert_allclose(program.run(x), expected.numpy(), rtol=2e-4, atol=2e-4)
    assert program.verified and program.plan.arena_bytes < 3 * program.plan.lower_bound_bytes
