"""int8 kernels of a CPU with vectors: exact at every extreme, also without the instructions."""

import ctypes
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from s8_graphs import HOST, POISON, Chain, weights

from cofit.codegen.build import build
from cofit.codegen.c_text import support_text
from cofit.codegen.emit import Source, emit
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.layout import to_memory
from cofit.codegen.machine import Machine
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor
from cofit.ir import attributes as at
from cofit.ir.integer import requantise, run_integer
from cofit.structures import parse

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(HOST.vector_floats < 8, reason="this CPU has no vectors of eight int32"),
]
PAIRS = replace(HOST, quads=False)
"""What a CPU of the same vectors without VNNI is given."""
QUADS = replace(HOST, vector_floats=16, vector_registers=32, quads=True)
PLAIN = [replace(machine, flags=()) for machine in (PAIRS, QUADS)]
"""The same kernels compiled for any CPU: what stands in for the vector instructions."""
NAMES = ("pairs", "plain pairs", "plain quads", "vectors")
MACHINES = pytest.mark.parametrize("machine", [PAIRS, *PLAIN, HOST], ids=NAMES)
WINOGRAD = pytest.mark.parametrize("machine", [PAIRS, PLAIN[0]], ids=NAMES[:2])
"""With quads only planes of many tiles are computed so."""
ROUNDINGS = pytest.mark.parametrize("rounding", list(Rounding))


def wrong_steps(source: Source, runner: HostRunner, x: np.ndarray) -> list[str]:
    graph = source.graph
    wanted = run_integer(graph, {graph.inputs[0]: x}, keep=True)
    runner.load(to_memory(x), POISON)
    found = []
    for index, step in enumerate(source.steps):
        runner.step(index)
        bad = int((runner.read(step.writes) != wanted[step.writes]).sum())
        if bad:
            found.append(f"{step.name} {step.kernel} {step.op}: {bad} differ")
    overrun = runner.overrun()
    return [*found, overrun] if overrun else found


def extremes(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Random inputs, all least, all greatest, and both in turn."""
    rng = np.random.default_rng(1)
    turns = np.resize(np.array([-128, 127], np.int8), shape)
    values = [rng.integers(-128, 128, shape, dtype=np.int8), turns]
    return values + [np.full(shape, value, np.int8) for value in (-128, 127)]


def assert_exact(graphs: list[Graph], machine: Machine = HOST) -> list[Source]:
    sources = [emit(graph, machine) for graph in graphs]
    library = build_host(sources, optimise="-O1")
    for source in sources:
        runner = HostRunner(source, library)
        for x in extremes(source.graph.tensors[source.graph.inputs[0]].shape):
            assert not wrong_steps(source, runner, x)
    return sources


SCALE = """
void scale(const int32_t *acc, const int32_t *multiplier, const int32_t *shift, int32_t count,
           int32_t *out)
{
    for (int32_t i = 0; i < count; i += 8) {
        const s8_factor f = s8_factor_of(s8_load(multiplier + i), s8_load(shift + i));
        s8_spill(s8_scaled(s8_load(acc + i), &f, ROUNDING), out + i);
    }
}
"""


@ROUNDINGS
def test_requantise_of_vectors(rounding: Rounding) -> None:
    """Every shift, ties of both roundings, bounds of accumulators and multipliers."""
    name = "S8_TWICE" if rounding is Rounding.DOUBLE else "S8_ONCE"
    text = "#include <stdint.h>\n" + support_text(["s8_host_scale.h"])
    files = {"scale.c": text + SCALE.replace("ROUNDING", name)}
    flags = ("-std=c99", "-O2", *HOST.flags, "-shared", "-fPIC")
    library = ctypes.CDLL(str(build(files, flags, "scale.so")))
    rng = np.random.default_rng(2)
    near = np.concatenate([(1 << np.arange(31))[:, None] + np.arange(-2, 3)], 0).ravel()
    edges = np.unique(np.clip(np.concatenate([near, -near, [0]]), 1 - (1 << 30), (1 << 30) - 1))
    multipliers = np.array([0, 1 << 30, (1 << 30) + 1, 3 << 29, (1 << 31) - 1, 1518500250])
    grid = np.meshgrid(edges, multipliers, np.arange(-31, 0), indexing="ij")
    acc, multiplier, shift = (part.ravel() for part in grid)
    count = 200_000
    acc = np.append(acc, rng.integers(1 - (1 << 30), 1 << 30, count) >> rng.integers(0, 30, count))
    multiplier = np.append(multiplier, rng.integers(1 << 30, 1 << 31, count))
    shift = np.append(shift, rng.integers(-31, 0, count))
    size = len(acc) // 8 * 8
    values = [np.ascontiguousarray(v[:size], np.int32) for v in (acc, multiplier, shift)]
    out = np.zeros(size, np.int32)
    pointers = [ctypes.c_void_p(v.ctypes.data) for v in values]
    library.scale(*pointers, ctypes.c_int32(size), ctypes.c_void_p(out.ctypes.data))
    assert np.array_equal(out, requantise(*values, rounding))


@MACHINES
def test_ragged_channels_and_rows(machine: Machine) -> None:
    rng = np.random.default_rng(3)
    graphs = []
    for rounding in Rounding:
        for channels in (1, 3, 7, 10, 17):
            chain = Chain(rng, (1, channels, 6, 7), rounding, f"ragged{len(graphs)}")
            for outputs in (7, 1, 10, 17, 8, 25, 3, channels):
                kernel = ((3, 3), (1, 1), (2, 3))[len(chain.ops) % 3]
                shape = (outputs, chain.here[1], *kernel)
                pads = (kernel[0] // 2, kernel[0] - 1, kernel[1] // 2, kernel[1] - 1)
                chain.weighted(at.Conv2d(padding=pads), weights(rng, shape))
            chain.weighted(
                at.Conv2d(groups=channels, padding=(1, 1, 2, 0)), weights(rng, (channels, 1, 3, 3))
            )
            graphs.append(chain.graph())
    families = {step.kernel for source in assert_exact(graphs, machine) for step in source.steps}
    assert families >= {"s8-host-dense", "s8-host-depthwise"}


def linear(rounding: Rounding, name: str, factors: np.ndarray, bias: np.ndarray) -> Graph:
    """One input of scale 1 to outputs of scale 1 over weights of these scales."""
    rng, outputs = np.random.default_rng(4), len(bias)
    scales = tuple(factors.tolist())
    tensors = {
        "x": Tensor("x", (1, 6), DType.I8, Quantisation((1.0,), 3)),
        "w": Tensor("w", (outputs, 6), DType.I8, Quantisation(scales), weights(rng, (outputs, 6))),
        "b": Tensor("b", (outputs,), DType.I32, Quantisation(scales), bias.astype(np.int32)),
        "y": Tensor("y", (1, outputs), DType.I8, Quantisation((1.0,), -7)),
    }
    op = Op("y", at.Linear(), ("x", "w", "b"))
    return Graph.build(name, ("x",), ("y",), (op,), tensors, QuantSpec(rounding))


@MACHINES
@ROUNDINGS
def test_accumulators_up_to_int32_and_all_shifts(rounding: Rounding, machine: Machine) -> None:
    """Left shifts, shifts of zero and accumulators beyond 2^30 leave the fast path, exactly."""
    most = 2**31 - 1 - 6 * 255 * 127
    bounds = np.array([most, -most, 2**30, -(2**30), 2**30 - 1, 5, 0, -1, 1, 77, -77])
    graphs = [
        linear(rounding, "wide", np.full(11, 2.0**-24 * 1.37), bounds),
        linear(rounding, "left", 1.3 * 2.0 ** np.arange(0, 11), np.arange(-5, 6)),
        linear(rounding, "right", 1.3 * 2.0 ** -np.arange(2, 31), np.arange(29) * 2**24),
        linear(rounding, "tiny", 2.0 ** -np.arange(20, 40), np.full(20, 2**29)),
        linear(rounding, "ties", np.full(16, 0.25), np.arange(-8, 8)),
    ]
    sources = assert_exact(graphs, machine)
    fast = {"wide": False, "left": False, "right": True, "tiny": True, "ties": True}
    for source in sources:
        assert ("S8_ANY" not in source.steps[0].code.body) == fast[source.name]


@WINOGRAD
@ROUNDINGS
def test_winograd_is_exact(rounding: Rounding, machine: Machine) -> None:
    """Odd planes, one-sided padding, odd channels, several bands, largest weights and inputs."""
    rng = np.random.default_rng(5)
    graphs = []
    shapes = [(16, 16, 6, 6), (17, 20, 8, 6), (30, 33, 19, 12), (64, 64, 53, 50)]
    for index, (c, k, h, w) in enumerate(shapes):
        chain = Chain(rng, (1, c, h, w), rounding, f"winograd{index}")
        pads = ((1, 1, 1, 1), (0, 1, 2, 0), (2, 0, 0, 1), (1, 1, 1, 1))[index]
        chain.weighted(at.Conv2d(padding=pads, fused="relu"), weights(rng, (k, c, 3, 3)))
        largest = np.where(rng.random((k, k, 3, 3)) < 0.5, -127, 127)
        chain.weighted(
            at.Conv2d(padding=pads), largest if index % 2 else np.full_like(largest, 127)
        )
        graphs.append(chain.graph())
    seen = set()
    for source in assert_exact(graphs, machine):
        assert {step.kernel for step in source.steps} == {"s8-host-dense-winograd"}
        seen |= {step.code.variant for step in source.steps}
    assert seen == {"2x2 outputs", "4x4 outputs"}


@WINOGRAD
def test_folded_winograd_is_exact(machine: Machine) -> None:
    """7x7 kernels of stride 2: odd and even sizes, padding, bands, largest weights and inputs."""
    rng = np.random.default_rng(9)
    graphs = []
    shapes = [(3, 32, 29, 31), (3, 21, 30, 28), (2, 16, 17, 64), (4, 24, 64, 90), (3, 64, 35, 224)]
    for index, (c, k, h, w) in enumerate(shapes):
        chain = Chain(rng, (1, c, h, w), tuple(Rounding)[index % 3], f"folded{index}")
        pads = ((3, 3, 3, 3), (2, 3, 3, 2), (0, 1, 2, 0), (3, 2, 0, 4), (3, 3, 3, 3))[index]
        weight = np.maximum(weights(rng, (k, c, 7, 7)), -127)
        weight[0], weight[1] = 127, -127
        chain.weighted(at.Conv2d((2, 2), pads, fused="relu"), weight)
        graphs.append(chain.graph())
    for source in assert_exact(graphs, machine):
        (step,) = source.steps
        assert (step.kernel, step.code.variant) == ("s8-host-dense-winograd", "3x3 outputs")


@pytest.mark.parametrize("case", ["lowest weight", "one channel", "five channels", "stride"])
def test_folded_winograd_stays_in_range(case: str) -> None:
    """What would not fit int16 or one vector is computed directly, and right."""
    channels = {"one channel": 1, "five channels": 5}.get(case, 3)
    weight = np.full((16, channels, 7, 7), 127, np.int8)
    weight[3, 0] = -128 if case == "lowest weight" else 5
    chain = Chain(np.random.default_rng(1), (1, channels, 20, 22), name="range")
    stride = (2, 1) if case == "stride" else (2, 2)
    chain.weighted(at.Conv2d(stride, (3, 3, 3, 3)), weight)
    (source,) = assert_exact([chain.graph()], PAIRS)
    assert source.steps[0].kernel == "s8-host-dense"


def test_winograd_needs_bits_of_room() -> None:
    rng = np.random.default_rng(6)
    graphs, variants = [], []
    for index, offset in enumerate((0, 2**25, 2**29)):
        chain = Chain(rng, (1, 16, 74, 73), name=f"room{index}")
        chain.weighted(at.Conv2d(padding=(1, 1, 1, 1)), weights(rng, (16, 16, 3, 3)))
        graph, bias = chain.graph(), np.full(16, offset, np.int32)
        graphs.append(graph.with_tensors({"t0.b": replace(graph.tensors["t0.b"], data=bias)}))
        variants.append(emit(graphs[-1], PAIRS).steps[0].code.variant)
    assert variants == ["4x4 outputs", "2x2 outputs", "dense"]
    assert_exact(graphs, PAIRS)


def test_winograd_replaces_blocks_that_would_be_slower() -> None:
    """Half of the weights as a list take longer than all of them by Winograd; an eighth do not."""
    rng = np.random.default_rng(11)
    graphs, families = [], []
    for index, rate in enumerate((2, 8)):
        text = f"block16x2@{rate}"
        kept = parse(text).project(torch.from_numpy(rng.standard_normal((32, 32, 3, 3))))
        chain = Chain(rng, (1, 32, 16, 16), name=f"half{index}")
        values = np.rint(kept.numpy() * 30).clip(-127, 127).astype(np.int8)
        chain.weighted(at.Conv2d(padding=(1, 1, 1, 1)), values, structure=text)
        graphs.append(chain.graph())
        families.append(emit(graphs[-1], PAIRS).steps[0].kernel)
    assert families == ["s8-host-dense-winograd", "s8-host-block"]
    assert_exact(graphs, PAIRS)


def test_bands_and_long_rows() -> None:
    rng = np.random.default_rng(7)
    bands = Chain(rng, (1, 64, 80, 44), name="bands")
    bands.weighted(at.Conv2d((2, 1), (2, 1, 1, 0)), weights(rng, (9, 64, 3, 3)))
    bands.weighted(at.Conv2d(padding=(1, 1, 1, 1), groups=9), weights(rng, (9, 1, 3, 3)))
    long = Chain(rng, (1, 128, 28, 30), name="long")
    long.weighted(at.Conv2d(), weights(rng, (20, 128, 1, 1)))
    prime = Chain(rng, (1, 601, 120), name="prime")
    prime.weighted(at.Linear(), weights(rng, (18, 120)))
    sources = assert_exact([bands.graph(), long.graph(), prime.graph()])
    steps = [step for source in sources for step in source.steps]
    rows = [int(re.findall(r"y0 \+= (\d+)\)", step.code.body)[0]) for step in steps]
    heights = [int(re.findall(r"y0 < (\d+);", step.code.body)[0]) for step in steps]
    assert rows[0] < heights[0]  # a convolution in bands
    assert heights[2:] == [7, 1]  # a row of 840 pixels as seven; 601 is prime and stays whole


@MACHINES
@ROUNDINGS
def test_all_pairs_of_bytes(rounding: Rounding, machine: Machine) -> None:
    """add and mul of every two int8, for factors of one half, small, and beyond the fast path."""
    x = np.repeat(np.arange(-128, 128, dtype=np.int8), 256).reshape(1, 1, 256, 256)
    y = np.ascontiguousarray(x.transpose(0, 1, 3, 2))
    graphs, fast = [], []
    cases = [(0.02, 0.02, 0.04), (0.02, 0.013, 0.02), (0.001, 0.02, 0.011), (0.7, 0.9, 0.3)]
    for index, (sx, sy, so) in enumerate(cases):
        for kind in (at.Add("relu6"), at.Add(), at.Mul()):
            tensors = {
                "x": Tensor("x", x.shape, DType.I8, Quantisation((sx,), 11)),
                "c": Tensor("c", x.shape, DType.I8, Quantisation((sy,), -128), y),
                "y": Tensor("y", x.shape, DType.I8, Quantisation((so,), -3)),
            }
            name = f"{kind.kind}{len(graphs)}"
            op = Op("y", kind, ("x", "c"))
            spec = QuantSpec(rounding)
            graphs.append(Graph.build(name, ("x",), ("y",), (op,), tensors, spec))
            fast.append(kind.kind == "add" or index < 3)
    sources = [emit(graph, machine) for graph in graphs]
    library = build_host(sources, optimise="-O1")
    for source, is_fast in zip(sources, fast, strict=True):
        assert (source.steps[0].kernel == "s8-host-binary") == is_fast
        assert not wrong_steps(source, HostRunner(source, library), x)


@MACHINES
def test_tables_and_pools(machine: Machine) -> None:
    rng = np.random.default_rng(8)
    bytes_ = Chain(rng, (1, 3, 16, 21), name="bytes")
    bytes_.add(at.Activation("hardswish"), keep=False)
    bytes_.add(at.Concat(1), "x", keep=False)
    bytes_.add(at.Activation("tanh"), keep=False)
    pools = Chain(rng, (1, 67, 9, 8), name="pools")
    pools.add(at.MaxPool2d((3, 2), (1, 1), (1, 0, 1, 0)))
    pools.add(at.AvgPool2d((3, 3), (1, 1), (1, 1, 1, 1)))
    pools.add(at.AvgPool2d((2, 4), (1, 1), (1, 0, 2, 1), True))
    pools.add(at.GlobalMean(), keep=False)
    sources = assert_exact([bytes_.graph(), pools.graph()], machine)
    families = {step.kernel for source in sources for step in source.steps}
    assert families == {"s8-host-activation", "s8-host-concat", "s8-host-pool"}


def test_weights_take_one_byte_each() -> None:
    """Widened and transformed weights exist at run time only; one index for two or four."""
    chain = Chain(np.random.default_rng(9), (1, 16, 16, 16), name="flash")
    for stride in ((1, 1), (2, 2)):
        chain.weighted(
            at.Conv2d(stride, (1, 1, 1, 1)), weights(chain.rng, (32, chain.here[1], 3, 3))
        )
    winograd, dense = emit(chain.graph(), PAIRS).steps
    assert winograd.constant_bytes == 32 * 16 * 9 + 32 * 12
    assert dense.constant_bytes == 32 * 32 * 9 + 32 * 12 + 4 * 32 * 9 // 2
    _, dense = emit(chain.graph(), QUADS).steps
    assert dense.constant_bytes == 32 * 32 * 9 + 32 * 12 + 4 * 32 * 9 // 4


@pytest.mark.parametrize(
    ("machine", "instruction"), [(PAIRS, "vpdpwssd"), (QUADS, "vpdpbusd")], ids=NAMES[:2]
)
def test_vnni_replaces_multiply_and_add(machine: Machine, instruction: str) -> None:
    """It cannot run everywhere, but must compile; no other products are left."""
    chain = Chain(np.random.default_rng(10), (1, 8, 8, 8), name="vnni")
    chain.weighted(at.Conv2d(), weights(chain.rng, (16, 8, 3, 3)))
    source = emit(chain.graph(), machine)
    files = {"vnni.c": source.source, "vnni.h": source.header}
    flags = ("-std=c99", "-O2", "-march=icelake_server", "-S")
    text = build(files, flags, "vnni.s").read_text()
    assert instruction in text
    assert "vpmaddwd" not in text


@pytest.mark.parametrize("machine", [QUADS if HOST.quads else PLAIN[1], PLAIN[1]])
def test_quads_of_blocks(machine: Machine) -> None:
    """Every height of blocks, odd channels, rows beyond the last, strides; all extremes."""
    rng = np.random.default_rng(12)
    graphs = []
    texts = ("block16x4@2", "block32x4@8", "block64x4@4", "block48x8@3", "block16x4@1")
    for index, text in enumerate(texts):
        chain = Chain(
            rng, (1, 13 + index, 9, 5 + 7 * index), tuple(Rounding)[index % 3], f"quads{index}"
        )
        for outputs, kernel, stride in ((70, 3, 1), (96, 1, 1), (64, 3, 2)):
            dense = torch.from_numpy(rng.standard_normal((outputs, chain.here[1], kernel, kernel)))
            values = np.rint(parse(text).project(dense).numpy() * 40).clip(-128, 127)
            chain.weighted(
                at.Conv2d((stride, stride), (kernel // 2, 1, 0, 2)), values.astype(np.int8),
                structure=text,
            )  # fmt: skip
        graphs.append(chain.graph())
    for source in assert_exact(graphs, machine):
        assert {step.kernel for step in source.steps} == {"s8-host-block"}
        assert all("s8_quad_block" in step.code.body for step in source.steps)
