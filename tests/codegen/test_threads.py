"""Programs of several threads: the same bits, whatever the shares, and no deadlock."""

import multiprocessing
import os
import subprocess
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from layers import Builder, random_layer
from s8_graphs import Chain, mismatches, random_convolution, weights

from cofit.codegen import compile, emit, load_program, machine
from cofit.codegen.build import build
from cofit.codegen.emit import Source
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.kernels import shares
from cofit.codegen.kernels.shares import balanced, share_layer
from cofit.codegen.storage import SCRATCH
from cofit.core import BuildError, ConfigError, read_json
from cofit.ir import Graph, Rounding
from cofit.ir import attributes as at
from cofit.structures import parse

pytestmark = pytest.mark.device
HOST = machine("host")


@pytest.fixture
def all_shared(monkeypatch):
    """Steps of any size are shared."""
    monkeypatch.setattr(shares, "LEAST_CYCLES", 0)


def float_net(structure: str | None = None, size: int = 9, name: str = "net") -> Graph:
    """Ragged convolutions, a residual sum, pooling and a linear layer."""
    b = Builder(name, (1, 5, size, size + 2), np.random.default_rng(0))
    y = b.conv("x", 48, 3, padding=(1, 1, 1, 1), fused="relu")
    z = b.conv(y, 48, 3, padding=(1, 1, 1, 1))
    y = b.add(at.Add(fused="relu"), z, y)
    y = b.conv(y, 48, 3, padding=(1, 1, 1, 1), groups=48)
    y = b.add(at.MaxPool2d((2, 2), (2, 2), (0, 0, 0, 0)), y)
    y = b.conv(y, 40, 1, fused="relu6")
    y = b.add(at.Activation("hardswish"), y)
    y = b.add(at.GlobalMean(keep=False), y)
    graph = b.graph(b.linear(y, 33))
    changed = {}
    for _, weight in graph.weighted():
        if structure and parse(structure).applies(weight.shape) is None:
            data = parse(structure).project(torch.from_numpy(weight.data)).numpy()
            changed[weight.name] = replace(weight, data=data, structure=structure)
    assert structure is None or changed
    return graph.with_tensors(changed)


def outputs(graph: Graph, threads: int, x: np.ndarray) -> tuple[np.ndarray, Source]:
    source = emit(graph, HOST.with_threads(threads))
    runner = HostRunner(source, build_host([source], optimise="-O2"))
    return runner.run(x), source


def assert_same_bits(graph: Graph, threads: int, least_shared: int = 1) -> Source:
    shape = graph.tensors[graph.inputs[0]].shape
    x = np.random.default_rng(1).standard_normal((3, *shape[1:]), np.float32)
    expected, _ = outputs(graph, 1, x)
    found, source = outputs(graph, threads, x)
    assert sum(step.code.shares > 1 for step in source.steps) >= least_shared
    assert expected.tobytes() == found.tobytes()
    return source


@pytest.mark.parametrize("threads", [2, 3, 64])
@pytest.mark.parametrize(
    "structure", [None, "block16x1@2", "pattern8g4@4", "pattern8g1@4", "channel@2"]
)
def test_float_programs_give_the_same_bits(structure, threads, all_shared):
    source = assert_same_bits(float_net(structure), threads, least_shared=6)
    assert max(step.code.shares for step in source.steps) <= threads


def test_random_float_layers_give_the_same_bits(all_shared):
    rng = np.random.default_rng(7)
    graphs = [random_layer(f"layer{i}", rng) for i in range(40)]
    machines = [HOST, HOST.with_threads(3)]
    found = []
    for kind in machines:
        sources = [emit(graph, kind) for graph in graphs]
        library = build_host(sources, optimise="-O1")
        runs = []
        for source in sources:
            shape = source.graph.tensors[source.graph.inputs[0]].shape
            x = np.random.default_rng(2).standard_normal(shape, np.float32)
            runs.append(HostRunner(source, library).run(x).tobytes())
        found.append(runs)
    assert sum(any(s.code.shares > 1 for s in source.steps) for source in sources) > 20
    assert found[0] == found[1]


def projected(rng: np.random.Generator, shape: tuple[int, ...], structure: str) -> np.ndarray:
    drawn = torch.from_numpy(weights(rng, shape).astype(np.float32))
    return parse(structure).project(drawn).numpy().astype(np.int8)


def int8_net(index: int, structure: str | None, rounding: Rounding) -> Graph:
    """Winograd's kind of convolution, a strided one, depthwise, pooling, a sum and a linear."""
    chain = Chain(np.random.default_rng(index), (1, 32, 13, 11), rounding, f"net{index}")
    rng, same = chain.rng, (1, 1, 1, 1)
    for k, stride in ((48, 1), (64, 2)):
        shape = (k, chain.here[1], 3, 3)
        w = weights(rng, shape) if structure is None else projected(rng, shape, structure)
        chain.weighted(at.Conv2d((stride, stride), same, fused="relu"), w, structure)
    chain.weighted(at.Conv2d((1, 1), same, groups=64), weights(rng, (64, 1, 3, 3)))
    chain.add(at.Add(), chain.constant("other", weights(rng, chain.here), chain.quantisation))
    chain.add(at.Activation("relu"))
    chain.add(at.MaxPool2d((3, 3), (1, 1), same))
    chain.add(at.AvgPool2d((2, 2), (2, 2), (0, 0, 0, 0)))
    chain.weighted(at.Conv2d(), weights(rng, (40, 64, 1, 1)))
    chain.add(at.GlobalMean(keep=False))
    chain.weighted(at.Linear(), weights(rng, (37, 40)))
    return chain.graph()


@pytest.mark.skipif(HOST.vector_floats < 8, reason="this CPU has no vectors of eight int32")
@pytest.mark.parametrize("quads", sorted({False, HOST.quads}))
@pytest.mark.parametrize("threads", [2, 3, 64])
def test_int8_programs_are_exact(threads, quads, all_shared):
    cases = [
        (form, r) for form in (None, "block16x2@4", "block32x1@4", "block16x4@4") for r in Rounding
    ]
    graphs = [int8_net(i, *case) for i, case in enumerate(cases)]
    kind = replace(HOST.with_threads(threads), io="native", quads=quads)
    sources = [emit(graph, kind) for graph in graphs]
    shared = {step.kernel for s in sources for step in s.steps if step.code.shares > 1}
    assert shared >= {"s8-host-dense", "s8-host-block", "s8-host-depthwise"}
    assert ("s8-host-dense-winograd" in shared) != quads  # whose planes must have more tiles
    assert not mismatches(graphs, kind)


@pytest.mark.skipif(HOST.vector_floats < 8, reason="this CPU has no vectors of eight int32")
def test_random_int8_convolutions_are_exact(all_shared):
    graphs = []
    for index in range(25):
        chain = Chain(np.random.default_rng(index), (1, 7, 9, 8), name=f"c{index}")
        random_convolution(chain)
        random_convolution(chain)
        graphs.append(chain.graph())
    kind = replace(HOST.with_threads(3), io="native")
    assert sum(any(p.code.shares > 1 for p in emit(g, kind).steps) for g in graphs) > 15
    assert not mismatches(graphs, kind)


def test_lists_of_uneven_blocks_are_balanced(all_shared):
    """Blocks of very different length: shares have near-equal entries, not equal blocks."""
    b = Builder("uneven", (1, 256), np.random.default_rng(0))
    graph = b.graph(b.linear("x", 128))
    weight = next(weight for _, weight in graph.weighted())
    data = np.array(weight.data)
    data[16:] *= np.arange(256) < 16  # the first block has more entries than all others
    changed = replace(weight, data=data, structure="block16x1@2")
    graph = graph.with_tensors({weight.name: changed})
    step = assert_same_bits(graph, 2).steps[0]
    assert step.kernel == "f32-block", step.rejected
    assert "bounds[] = {0, 1, 8}" in step.code.body


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_ranges_are_balanced(parts):
    rng = np.random.default_rng(parts)
    for _ in range(200):
        costs = rng.exponential(size=rng.integers(1, 40)) * rng.integers(0, 2) + 0.1
        bounds = balanced(costs.tolist(), parts)
        assert bounds[0] == 0 and bounds[-1] == len(costs)
        assert all(a < b for a, b in pairwise(bounds))
        assert len(bounds) <= parts + 1
        largest = max(costs[a:b].sum() for a, b in pairwise(bounds))
        assert largest <= costs.sum() / parts + costs.max() + 1e-9
    assert balanced([1.0] * 12, 3) == (0, 4, 8, 12)
    assert balanced([9.0, 1.0, 1.0, 1.0], 2) == (0, 1, 4)


def test_few_rows_share_outputs_and_small_steps_nothing():
    two = HOST.with_threads(2)
    wide = share_layer(two, 1e7, 56, [1.0] * 4, 4 * 64 * 576, 4 * 64 * 56 * 56)
    deep = share_layer(two, 1e7, 7, [1.0] * 32, 4 * 512 * 4608, 4 * 512 * 49)
    assert (wide.axis, wide.bounds) == ("rows", (0, 28, 56))
    assert (deep.axis, deep.bounds) == ("outputs", (0, 16, 32))
    assert share_layer(two, 1e3, 56, [1.0] * 4, 1e3, 1e3) is None
    assert share_layer(HOST, 1e7, 56, [1.0] * 4, 1e3, 1e3) is None


def test_scratch_of_all_shares_lies_in_the_arena(all_shared):
    one, three = (emit(float_net(), HOST.with_threads(n)) for n in (1, 3))
    scratch = {b.name: b.nbytes for b in three.plan.buffers if b.name.startswith("(scratch")}
    for index, step in enumerate(three.steps):
        if step.code.scratch_bytes:
            assert scratch[SCRATCH.format(index)] >= step.code.shares * step.code.scratch_bytes
    assert three.plan.arena_bytes > one.plan.arena_bytes
    assert f"ARENA_BYTES {three.plan.arena_bytes}\n" in three.header


def test_every_step_is_right_and_stays_inside_the_arena(all_shared):
    program = compile(float_net("block16x1@2"), threads=3)  # verifies step by step, poisoned
    assert program.verified and program.runner.overrun() is None
    assert program.machine.threads == 3
    assert len(program.measure(5).per_step_s) == len(program.source.steps)


def test_one_thread_is_the_program_without_a_pool(all_shared):
    source = emit(float_net(), HOST)
    assert source.source == emit(float_net(), HOST.with_threads(2).with_threads(1)).source
    for word in ("pthread", "share", "cofit_open"):
        assert word not in source.source
    assert "-pthread" not in HOST.flags


def test_small_programs_have_no_pool():
    b = Builder("small", (1, 3, 8, 8), np.random.default_rng(0))
    source = emit(b.graph(b.conv("x", 8, 3)), HOST.with_threads(2))
    assert "pthread" not in source.source


def test_many_runs_from_many_threads_end(all_shared):
    program = compile(float_net(), threads=3, verify=False)
    x = np.random.default_rng(1).standard_normal((250, 5, 9, 11), np.float32)
    expected = program.run(x)
    found: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        found[index] = program.run(x)

    callers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert all(found[i].tobytes() == expected.tobytes() for i in range(4))


def test_threads_without_a_core_hold_up_nothing(all_shared):
    """Threads that are created and never run: the caller computes their shares."""
    graph = float_net()
    x = np.random.default_rng(1).standard_normal((2, 5, 9, 11), np.float32)
    expected, _ = outputs(graph, 1, x)
    source = emit(graph, HOST.with_threads(3))
    include = "#include <pthread.h>\n"
    never = "#define pthread_create(thread, kind, work, of) ((void)(work), 0)\n"
    text = source.source.replace(
        include, f"{include}{never}#define pthread_detach(thread) ((void)(thread))\n", 1
    )
    idle = replace(source, source=text)
    runner = HostRunner(idle, build_host([idle], optimise="-O2"))
    found: list[bytes] = []
    caller = threading.Thread(target=lambda: found.append(runner.run(x).tobytes()), daemon=True)
    caller.start()
    caller.join(60)
    assert found == [expected.tobytes()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(all_shared):
    program = compile(float_net(), threads=2, verify=False)
    x = np.random.default_rng(1).standard_normal((2, 5, 9, 11), np.float32)
    expected = program.run(x)  # the pool exists before the fork
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=lambda: send.send_bytes(program.run(x).tobytes()), daemon=True)
    child.start()
    assert receive.poll(30), "the child hangs"
    assert receive.recv_bytes() == expected.tobytes()
    child.join(30)
    assert child.exitcode == 0


def test_a_saved_program_has_its_pool(tmp_path, all_shared):
    program = compile(float_net(), threads=2)
    program.save(tmp_path / "p")
    manifest = read_json(tmp_path / "p" / "manifest.json")
    assert manifest["threads"] == 2 and max(step["shares"] for step in manifest["steps"]) == 2
    assert "-pthread" in (tmp_path / "p" / "Makefile").read_text()
    made = subprocess.run(
        ["make", "-C", str(tmp_path / "p")], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    assert load_program(tmp_path / "p").machine.threads == 2


def test_impossible_threads_are_told():
    with pytest.raises(ConfigError, match="threads=0 is not from 1 to 64"):
        HOST.with_threads(0)
    with pytest.raises(ConfigError, match="cortex-m4 runs one thread, got threads=2"):
        compile(float_net(), "cortex-m4", threads=2)


CALLERS = """
#include "{name}.h"
#include <pthread.h>
static unsigned char arenas[2][{upper}_ARENA_BYTES]
    __attribute__((aligned({upper}_ARENA_ALIGN)));
static void *call(void *arena)
{{
    for (int i = 0; i < 30; ++i) {name}_run(arena);
    return 0;
}}
int main(void)
{{
    pthread_t other;
    if (pthread_create(&other, 0, call, arenas[1]) != 0) return 2;
    call(arenas[0]);
    return pthread_join(other, 0) != 0;
}}
"""


def test_no_data_race(all_shared):
    """Under the compiler's thread sanitizer: two callers at once, three threads each."""
    source = emit(float_net("block16x1@2"), HOST.with_threads(3))
    main = CALLERS.format(name=source.name, upper=source.name.upper())
    files = {"net.c": source.standalone, f"{source.name}.h": source.header, "main.c": main}
    flags = ("-std=c99", "-O1", "-g", *source.machine.flags, "-fsanitize=thread")
    for compiler in ("gcc", "zig"):
        try:
            program = build(files, flags, "callers", compiler)
        except BuildError as error:
            reason = str(error)
            continue
        run = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
        if "unexpected memory mapping" in run.stderr:
            reason = run.stderr
            continue
        assert run.returncode == 0, run.stderr[:2000]
        return
    pytest.skip(f"no thread sanitizer here: {reason}")
