"""First layers in stripes of rows: the same bytes from a smaller arena, for the least halo."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
from s8_graphs import PORTABLE, Chain, differences, random_convolution, weights

from cofit.codegen import compile as compile_program
from cofit.codegen import emit, load_program, machine
from cofit.codegen.cortex_m import CortexMRunner, board
from cofit.codegen.emitter import Emitter
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.layout import to_memory
from cofit.codegen.save import manifest
from cofit.codegen.schedule import MOST_STRIPES
from cofit.codegen.steps import lay_out
from cofit.codegen.stripes import halo_macs, stage_ops, striped
from cofit.codegen.verify import verify
from cofit.core import TargetError
from cofit.ir import Graph, Rounding, kept_macs, macs, run_integer
from cofit.ir import attributes as at
from cofit.targets import CortexM

PADS = (1, 1, 1, 1)


def conv(chain: Chain, k: int, kernel: int, attributes: at.Conv2d) -> str:
    channels = chain.here[1] // attributes.groups
    return chain.weighted(attributes, weights(chain.rng, (k, channels, kernel, kernel)))


@functools.cache
def mobilenet(name: str = "mobile", size: int = 48) -> Graph:
    """Convolution, then pairs of depthwise and pointwise, then a classifier."""
    chain = Chain(np.random.default_rng(1), (1, 3, size, size), Rounding.SHORT, name)
    conv(chain, 8, 3, at.Conv2d((2, 2), (0, 1, 0, 1), fused="relu"))
    for outputs, stride in ((16, 1), (24, 2), (24, 1), (32, 2)):
        groups = chain.here[1]
        depthwise = at.Conv2d((stride, stride), PADS, groups=groups, fused="relu")
        conv(chain, groups, 3, depthwise)
        conv(chain, outputs, 1, at.Conv2d(fused="relu"))
    chain.add(at.GlobalMean(keep=False), keep=False)
    chain.weighted(at.Linear(), weights(chain.rng, (5, 32)))
    return chain.graph()


@functools.cache
def ds_cnn(name: str = "keywords") -> Graph:
    """A tall first kernel on one channel, then layers of one size."""
    chain = Chain(np.random.default_rng(2), (1, 1, 25, 10), Rounding.SHORT, name)
    conv(chain, 16, 5, at.Conv2d((1, 2), (2, 2, 2, 2), fused="relu"))
    for _ in range(3):
        conv(chain, 16, 3, at.Conv2d(padding=PADS, groups=16, fused="relu"))
        conv(chain, 16, 1, at.Conv2d(fused="relu"))
    chain.add(at.MaxPool2d((2, 2), (2, 2)))
    chain.add(at.GlobalMean(keep=False), keep=False)
    chain.weighted(at.Linear(), weights(chain.rng, (5, 16)))
    return chain.graph()


def random_chain(seed: int) -> Graph:
    """Layers of any stride, padding, dilation and groups, pools and tables among them."""
    rng = np.random.default_rng(seed)
    rounding = (Rounding.SHORT, Rounding.DOUBLE)[seed % 2]
    chain = Chain(rng, (1, int(rng.integers(1, 7)), 23, 9), rounding, f"chain{seed}")
    for _ in range(int(rng.integers(1, 5))):
        kind = rng.integers(5)
        if kind == 0 and min(chain.here[2:]) > 4:
            chain.add(at.MaxPool2d((3, 2), (2, 1), (1, 0, 0, 1)))
        elif kind == 1 and min(chain.here[2:]) > 4:
            chain.add(at.AvgPool2d((2, 3), (1, 1), (1, 1, 1, 1), bool(rng.integers(2))))
        elif kind == 2:
            chain.add(at.Activation("hardswish"), keep=False)
        else:
            random_convolution(chain)
    conv(chain, 2, 3, at.Conv2d((2, 2), PADS))
    chain.add(at.GlobalMean(keep=False), keep=False)
    return chain.graph()


def outputs(graph: Graph, x: np.ndarray) -> np.ndarray:
    return run_integer(graph, {graph.inputs[0]: x})[graph.outputs[0]]


def inputs(graph: Graph, seed: int = 0) -> np.ndarray:
    shape = graph.tensors[graph.inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def test_the_graph_of_stripes_means_the_same_for_every_number_of_layers_and_rows():
    tried = 0
    for seed in range(10):
        graph = random_chain(seed)
        ops, x = stage_ops(graph), inputs(graph)
        wanted = outputs(graph, x)
        for count in range(1, len(ops) + 1):
            rows = graph.tensors[ops[count - 1].output].shape[2]
            for height in {2, rows // 3, rows // 2} & set(range(1, rows)):
                found = striped(graph, count, height)
                if found is not None:  # no stripe is all padding
                    np.testing.assert_array_equal(outputs(found.graph, x), wanted)
                    tried += found.stripes > 1
    assert tried >= 30


@pytest.mark.parametrize(
    "target",
    [PORTABLE, replace(machine("host"), quads=False), machine("host")],
    ids=["portable", "pairs", "host"],
)
def test_programs_in_stripes_give_the_bytes_of_the_reference(target):
    graphs = [random_chain(seed) for seed in range(20, 36)]
    graphs += [mobilenet(), ds_cnn()]
    sources = [emit(graph, target, 0) for graph in graphs]
    # planes of bytes take half of the scratch, so that stripes win less often
    assert sum(source.schedule.stripes > 1 for source in sources) >= (3 if target.quads else 6)
    library = build_host(sources, optimise="-O1")
    for source in sources:
        runner = HostRunner(source, library)
        if target is PORTABLE:
            assert not differences(source, runner)
        verify(source, runner)


@pytest.mark.device
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
@pytest.mark.parametrize("make", [mobilenet, ds_cnn])
def test_emulated_cores_give_the_bytes_of_the_reference_whole_and_in_stripes(core, make):
    graph = make()
    x = inputs(graph, 3)
    wanted = to_memory(outputs(graph, x))
    arena, least = (emit(graph, machine(core), limit).plan.arena_bytes for limit in (None, 0))
    assert least < 0.85 * arena
    instructions = []
    for limit in (None, arena, arena - 8, (arena + least) // 2):
        program = compile_program(graph, core, arena_limit_bytes=limit)
        assert np.array_equal(program.run_native(to_memory(x)), wanted)
        source, runner = program.source, program.runner
        assert isinstance(runner, CortexMRunner)
        limited = limit is not None and limit < arena
        assert source.plan.arena_bytes <= (limit or arena)
        assert (source.schedule.stripes > 1) == limited
        assert runner.linked.image.ram_bytes == source.plan.arena_bytes
        # stripes share their constants
        assert source.constant_bytes == emit(graph, machine(core)).constant_bytes
        instructions.append(sum(program.measure().instructions.values()))
    assert instructions[0] == instructions[1] < instructions[2] <= instructions[3]


def test_arena_of_a_stage_is_its_input_and_output_and_the_most_of_a_stripe():
    chain = Chain(np.random.default_rng(4), (1, 4, 32, 16), Rounding.SHORT, "closed")
    conv(chain, 32, 1, at.Conv2d(fused="relu"))
    conv(chain, 32, 3, at.Conv2d((2, 2), PADS, groups=32, fused="relu"))
    conv(chain, 4, 1, at.Conv2d())
    graph = chain.graph()
    whole, limit = emit(graph, PORTABLE), 11_000
    second = whole.steps[1].code.scratch_bytes
    assert whole.plan.arena_bytes == 32 * 32 * 16 + 32 * 16 * 8 + -(-second // 64) * 64
    source = emit(graph, PORTABLE, limit)
    # stripes of 4 rows: 9 rows under the depthwise windows of the inner ones
    ends, stripe, narrow = 4 * 32 * 16 + 4 * 16 * 8, 32 * 9 * 16, 32 * 4 * 8
    scratch = max(s.code.scratch_bytes for s in source.steps if s.layer == "t1")
    assert source.schedule.stripes == 4
    assert source.plan.arena_bytes == ends + stripe + narrow + -(-scratch // 64) * 64 <= limit
    assert source.plan.arena_bytes == source.plan.lower_bound_bytes
    # three seams, each computing one row of the first layer twice
    assert source.schedule.halo_macs == 3 * 16 * 4 * 32
    done = sum(step.macs for step in source.steps)
    assert done == sum(macs(graph, op) for op in graph.ops) + source.schedule.halo_macs


def test_halo_is_counted_by_the_rows_that_are_computed_twice():
    graph = mobilenet()
    for count, height in itertools.product(range(1, 8), range(1, 5)):
        ops = stage_ops(graph)[:count]
        found = striped(graph, count, height)
        assert found is not None
        executed = sum(kept_macs(found.graph, op) for op in found.graph.ops)
        more = executed - sum(kept_macs(graph, op) for op in graph.ops)
        assert found.halo_macs == halo_macs(graph, ops, height) == more


def test_of_all_stages_within_the_limit_the_least_halo_is_taken():
    graph, emitter = mobilenet(), Emitter(PORTABLE)
    ops = stage_ops(graph)
    found = []
    for count in range(1, len(ops) + 1):
        rows = graph.tensors[ops[count - 1].output].shape[2]
        for height in {-(-rows // n) for n in range(2, min(rows, MOST_STRIPES) + 1)}:
            schedule = striped(graph, count, height)
            assert schedule is not None
            found.append((lay_out(schedule, emitter).plan.arena_bytes, schedule.halo_macs))
    whole, least = emit(graph, PORTABLE).plan.arena_bytes, min(found)[0]
    for limit in (whole - 1, (whole + least) // 2, (whole + 3 * least) // 4, least):
        source = emit(graph, PORTABLE, limit)
        assert source.plan.arena_bytes <= limit
        assert source.schedule.halo_macs == min(halo for arena, halo in found if arena <= limit)
    assert emit(graph, PORTABLE, 0).plan.arena_bytes == least
    assert emit(graph, PORTABLE, whole).schedule.stripes == 1


def test_stages_end_where_the_network_branches_or_mixes_rows():
    chain = Chain(np.random.default_rng(5), (1, 4, 8, 8), Rounding.SHORT, "branch")
    before = conv(chain, 4, 1, at.Conv2d())
    conv(chain, 4, 3, at.Conv2d(padding=PADS))
    chain.add(at.Add(), before, keep=False)
    assert [op.output for op in stage_ops(chain.graph())] == [before]
    flat = Chain(np.random.default_rng(5), (1, 16), Rounding.SHORT, "flat")
    flat.weighted(at.Linear(), weights(flat.rng, (3, 16)))
    assert stage_ops(flat.graph()) == ()
    assert emit(flat.graph(), PORTABLE, 0).schedule.stripes == 1


@pytest.mark.device
def test_a_board_too_small_for_whole_layers_runs_stripes_and_one_too_small_says_so(tmp_path):
    graph = mobilenet("board")
    whole = compile_program(graph, "cortex-m4")
    arena = whole.plan.arena_bytes
    roomy = board("stm32f446")
    small = type(roomy)(**{**vars(roomy), "ram_bytes": 4096 + arena - 1000})
    target = CortexM(small)
    cost, program = target.cost(graph), target.program(graph)
    assert program.verified and program.source.schedule.stripes > 1
    assert [row.op for row in cost.rows] == [*(op.output for op in graph.ops), "(runtime)"]
    striped_rows = [row for row in cost.rows if "stripes" in row.note]
    assert {row.op for row in striped_rows} == set(program.source.schedule.layers.values())
    assert sum(row.flash_bytes for row in cost.rows) == program.runner.linked.image.flash_bytes
    assert cost.macs == sum(step.macs for step in program.source.steps)
    assert manifest(whole)["stripes"] == 1 and manifest(whole)["halo_macs"] == 0
    program.save(tmp_path / "saved")
    assert load_program(tmp_path / "saved").source.source == program.source.source
    tiny = type(roomy)(**{**vars(roomy), "ram_bytes": 4096 + 500})
    with pytest.raises(TargetError, match="bytes of RAM"):
        CortexM(tiny).cost(graph)
