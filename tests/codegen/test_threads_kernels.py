"""Every kernel family that threads share: the same integers, and the same bits of floats."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from s8_graphs import PORTABLE, Chain, differences, random_convolution, weights
from test_s8_structures import TEXTS, structured_layer
from test_sequence_programs import product_graph
from test_stripes import mobilenet
from test_threads import HOST, assert_same_bits

from cofit.codegen import emit
from cofit.codegen.emit import Source
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.kernels import shares
from cofit.codegen.kernels.shares import Shares, filled_range
from cofit.codegen.kernels.tile import MAX_VECTORS
from cofit.codegen.machine import Machine
from cofit.core import numpy_generator, torch_generator
from cofit.ir import Graph, Rounding, calibrate, quantise, trace
from cofit.ir import attributes as at

sys.path.insert(0, str(Path(__file__).parents[1] / "ir"))
from sequence_nets import SmallVit

pytestmark = pytest.mark.device
VECTORS = pytest.mark.skipif(HOST.vector_floats < 8, reason="no vectors of eight int32 here")
MACHINES = pytest.mark.parametrize(
    "machine",
    [PORTABLE, pytest.param(replace(HOST, io="native"), marks=VECTORS)],
    ids=lambda m: m.name,
)


@pytest.fixture(autouse=True)
def all_shared(monkeypatch):
    """Steps of any size are shared."""
    monkeypatch.setattr(shares, "LEAST_CYCLES", 0)


def shared_kernels(sources: list[Source]) -> set[str]:
    return {step.kernel for source in sources for step in source.steps if step.code.shares > 1}


def assert_exact(graphs: list[Graph], machine: Machine) -> set[str]:
    """Families whose steps are shared; all steps have the integers of the reference."""
    sources = [emit(graph, machine) for graph in graphs]
    library = build_host(sources, optimise="-O1")
    assert not [e for source in sources for e in differences(source, HostRunner(source, library))]
    return shared_kernels(sources)


@MACHINES
def test_every_structure_is_exact(machine):
    """Each by one of the roundings: all of each are in test_s8_structures."""
    rng = np.random.default_rng(7)
    chains = [Chain(rng, (1, 12, 9, 7), each, f"structures{i}") for i, each in enumerate(Rounding)]
    for index, text in enumerate(TEXTS):
        turned = (chains[(index + turn) % len(chains)] for turn in range(len(chains)))
        assert any(structured_layer(chain, text) for chain in turned), text
    found = assert_exact([chain.graph() for chain in chains], machine.with_threads(3))
    if machine is PORTABLE:
        assert found >= {"s8-sparse", "s8-blocks", "s8-lifted"}
    else:
        assert found >= {"s8-host-block", "s8-host-kept", "s8-host-dense"}


@VECTORS
@pytest.mark.parametrize("height", [1, 9])
@pytest.mark.parametrize("kept", [(0, 63), (1, 62), (7, 63)])
def test_kept_channels_and_idle_ones_are_of_one_share(kept, height):
    """The first and the last channels of a share, kept or not."""
    chain = Chain(np.random.default_rng(0), (1, 20, height, 1), name="kept")
    weight = weights(chain.rng, (64, 20, 1, 1))
    weight[weight == 0] = 1
    outputs = [kept[0], *range(20, 58), kept[1]]
    weight[np.setdiff1d(np.arange(64), outputs)] = 0
    chain.weighted(at.Conv2d(), weight, "channel@1.6")
    machine = replace(HOST.with_threads(3), io="native")
    assert assert_exact([chain.graph()], machine) == {"s8-host-kept"}


def test_shares_fill_disjoint_ranges_that_are_all_outputs():
    kept = np.array([2, 3, 5, 8, 9, 10, 13])
    found = filled_range(Shares("outputs", (0, 1, 3)), kept, 2, 16)
    assert found == ("static const int32_t filled[] = {0, 5, 16};", "filled[share]",
                     "filled[share + 1]")  # fmt: skip
    assert filled_range(Shares("rows", (0, 1, 3)), kept, 2, 16) == ("", "0", "16")


@pytest.mark.parametrize("threads", [2, 7])
def test_scalar_convolutions_are_exact(threads):
    """Dense, grouped and depthwise ones, pixels that no tile divides, single pixels."""
    graphs = []
    for index in range(16):
        rounding = (Rounding.SHORT, Rounding.DOUBLE)[index % 2]
        chain = Chain(np.random.default_rng(index), (1, 8, 9, 7), rounding, f"c{index}")
        random_convolution(chain)
        groups = max(chain.here[1] // 2 * 2, 2)
        pointwise = weights(chain.rng, (groups, chain.here[1], 1, 1))
        chain.weighted(at.Conv2d(), np.maximum(pointwise, -127))
        depthwise = at.Conv2d((1, 1 + index // 2 % 2), (1, 1, 1, 1), groups=groups)
        chain.weighted(depthwise, weights(chain.rng, (groups, 1, 3, 3)))
        chain.add(at.Activation("hardswish"))
        graphs.append(chain.graph())
    found = assert_exact(graphs, PORTABLE.with_threads(threads))
    assert found >= {"s8-lifted", "s8-dense", "s8-depthwise", "s8-planes", "s8-activation"}


def test_shared_depthwise_steps_are_not_in_place():
    graph = mobilenet()
    alone, shared = (emit(graph, PORTABLE.with_threads(n)) for n in (1, 2))
    pairs = zip(alone.steps, shared.steps, strict=True)
    depthwise = [pair for pair in pairs if pair[0].kernel == "s8-planes" and pair[0].code.in_place]
    assert depthwise
    for one, two in depthwise:
        assert two.code.shares == 2 and not two.code.in_place
        assert alone.offsets[one.reads[0]] == alone.offsets[one.writes]
        assert shared.offsets[two.reads[0]] != shared.offsets[two.writes]


@MACHINES
def test_stripes_are_shared(machine):
    """Stripes of a layer call one function, with buffers and scratch of their own."""
    graph, three = mobilenet(), machine.with_threads(3)
    limit = emit(graph, three).plan.arena_bytes * 3 // 4
    source = emit(graph, three, limit)
    assert source.schedule.stripes > 1
    parts = [step for step in source.steps if step.layer != step.name]
    assert sum(step.code.shares > 1 for step in parts) > len(parts) // 2
    assert not differences(source, HostRunner(source, build_host([source], optimise="-O1")))


@pytest.mark.parametrize("threads", [2, 3])
def test_float_sequences_give_the_same_bits(threads):
    graph = trace(SmallVit(True), torch.randn(1, 3, 16, 16), "vit")
    source = assert_same_bits(graph, threads)
    families = {"f32-matmul", "f32-softmax", "f32-layernorm", "f32-activation", "f32-dense"}
    assert shared_kernels([source]) >= families


@MACHINES
def test_int8_sequences_are_exact(machine):
    torch.manual_seed(1)
    x = torch.randn(8, 3, 16, 16, generator=torch_generator(1))
    real = trace(SmallVit(False), x[:1], "vit")
    graph = quantise(real, calibrate(real, [x.numpy()]))
    found = assert_exact([graph], machine.with_threads(3))
    prefix = "s8" if machine is PORTABLE else "s8-host"
    families = ("matmul", "softmax", "layernorm", "activation")
    assert found >= {f"{prefix}-{family}" for family in families}


@pytest.mark.parametrize("transposed", [False, True])
def test_one_matrix_is_shared_by_columns(transposed):
    columns = 3 * MAX_VECTORS * HOST.vector_floats + 3  # more than three of the widest tiles
    source = assert_same_bits(product_graph(1, 6, 11, columns, transposed), 3)
    (step,) = (step for step in source.steps if step.kernel == "f32-matmul")
    assert step.code.shares == 3


def test_conversions_give_the_same_bits():
    chain = Chain(numpy_generator(3), (1, 3, 11, 9), name="converted")
    random_convolution(chain)
    source = assert_same_bits(chain.graph(), 3, least_shared=2)
    assert "convert" in shared_kernels([source])
