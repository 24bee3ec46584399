"""Every way to compute a layer is right, and what was measured decides which one is run."""

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from layers import Builder

from cofit.codegen import compile, emit, load_program, machine
from cofit.codegen.build import toolchain
from cofit.codegen.chosen import Chosen
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.kernels import shares
from cofit.codegen.tuning import store
from cofit.codegen.tuning import tune as tune_graph
from cofit.codegen.tuning.candidates import MOST, alone, candidates
from cofit.codegen.tuning.timing import ROUNDS, SERIES_S, Reading, race
from cofit.codegen.verify import verify
from cofit.core import ConfigError, FileError, VerificationError
from cofit.ir import Ranges, attributes, quantise
from cofit.structures import parse
from cofit.targets.work import work_of

HOST = machine("host")
BARE = replace(HOST, io="native")
TUNE = "cofit.codegen.tuning.choose"
pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(HOST.vector_floats < 8, reason="this CPU has no vectors of eight floats"),
]


def layer(structure=None, channels=16, outputs=32, size=9, kernel=3, stride=1, fused="relu"):
    """One convolution whose weights have a structure."""
    b = Builder("net", (1, channels, size, size), np.random.default_rng(channels))
    pads = (kernel // 2,) * 4
    y = b.conv("x", outputs, kernel, stride=(stride, stride), padding=pads, fused=fused)
    if structure is not None:
        name = b.ops[-1].inputs[1]
        projected = parse(structure).project(torch.from_numpy(b.tensors[name].data)).numpy()
        b.tensors[name] = replace(b.tensors[name], data=projected, structure=structure)
    return b.graph(y)


def quantised(graph):
    reach = {name: 8.0 for name, tensor in graph.tensors.items() if tensor.data is None}
    return quantise(graph, Ranges({name: -most for name, most in reach.items()}, reach))


def linear():
    b = Builder("net", (1, 40), np.random.default_rng(0))
    return b.graph(b.linear("x", 33))


GRAPHS = {
    "dense": layer(),
    "dense in parts": layer(channels=64, size=8),
    "ragged": layer(outputs=13, size=11),
    "no padding, strided": layer(channels=3, kernel=5, stride=2, size=13, fused="relu6"),
    "linear": linear(),
    "blocks": layer("block16x1@4", channels=32),
    "patterns of four": layer("pattern8g4@4"),
    "patterns": layer("pattern8g1@4", size=11),
    "unstructured": layer("unstructured@4", size=12),
    "7x7": layer(channels=3, kernel=7, stride=2, size=22),
    "int8": quantised(layer(size=12)),
    "int8 7x7": quantised(layer(channels=3, kernel=7, stride=2, size=22)),
    "int8 blocks": quantised(layer("block16x2@4", channels=32)),
}


def sources_of(graph, kernels, on=BARE):
    op = graph.ops[-1]
    return [
        emit(alone(graph, op, f"try{i}"), on, chosen={op.output: Chosen(kernel)})
        for i, kernel in enumerate(kernels)
    ]


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_every_candidate_computes_the_layer_in_its_own_way(graph):
    # with quads there is one way for large int8 kernels
    on = replace(BARE, quads=HOST.quads and graph is not GRAPHS["int8 7x7"])
    kernels = candidates(graph, graph.ops[-1], on)
    assert 2 <= len(kernels) <= MOST
    assert len({repr(kernel) for kernel in kernels}) == len(kernels)
    sources = sources_of(graph, kernels, on)
    codes = [source.steps[0].code for source in sources]
    assert len({(c.body, c.constants[0].values.tobytes()) for c in codes}) == len(kernels)
    plain = emit(alone(graph, graph.ops[-1], "try0"), on)
    assert plain.source == sources[0].source  # the formula's choice is the first
    library = build_host(sources, optimise="-O1")
    for source in sources:
        verify(source, HostRunner(source, library))


@pytest.mark.parametrize("name", ["dense in parts", "blocks", "patterns of four", "int8"])
def test_threads_share_every_candidate(name, monkeypatch):
    monkeypatch.setattr(shares, "LEAST_CYCLES", 0)
    graph, on = GRAPHS[name], BARE.with_threads(2)
    kernels = candidates(graph, graph.ops[-1], on)[::3]
    sources = sources_of(graph, kernels, on)
    library = build_host(sources, optimise="-O1")
    for source in sources:
        verify(source, HostRunner(source, library))


def test_minimal_filtering_of_3x3_takes_fewer_products_and_adds_residuals():
    b = Builder("block", (1, 16, 11, 13), np.random.default_rng(3))
    y = b.conv("x", 16, 3, padding=(1, 1, 1, 1))
    graph = b.graph(b.add(attributes.Add(fused="relu"), "x", y))
    op = graph.ops[0]
    kernels = [k for k in candidates(graph, op, HOST) if k.name == "f32-winograd-3x3"]
    assert [kernel.size for kernel in kernels] == [4, 2]
    for kernel in kernels:
        source = emit(graph, HOST, chosen={op.output: Chosen(kernel)})
        (step,) = [s for s in source.steps if s.op is not None]
        assert step.residual is not None and step.kernel == kernel.name
        tiles = -(-11 // kernel.size) * -(-13 // kernel.size)
        assert work_of(source, step).macs_executed == (kernel.size + 2) ** 2 * tiles * 16 * 16
        verify(source, HostRunner(source, build_host([source])))


def test_the_bound_of_minimal_filtering_finds_a_wrong_weight():
    graph = GRAPHS["dense"]
    op = graph.ops[-1]
    kernel = next(k for k in candidates(graph, op, HOST) if k.name == "f32-winograd-3x3")

    class Wrong(type(kernel)):
        def emit(self, graph, op, machine, residual=None):
            code = super().emit(graph, op, machine, residual)
            values = code.constants[0].values.copy()
            values.flat[7] *= 1.01
            first = replace(code.constants[0], values=values)
            return replace(code, constants=(first, *code.constants[1:]))

    source = emit(graph, HOST, chosen={op.output: Chosen(Wrong())})
    with pytest.raises(VerificationError, match="f32-winograd-3x3 4x4 outputs"):
        verify(source, HostRunner(source, build_host([source])))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of winners, and few candidates."""
    monkeypatch.setattr(store, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr("cofit.codegen.tuning.candidates.MOST", 4)
    return tmp_path


def favour(monkeypatch, index, calls=None):
    """Time as if the candidate of this index were fastest."""

    def timed(runs, clock):
        for run in runs:
            run()
        if calls is not None:
            calls.append(len(runs))
        return [Reading(1e-6 if i == index else 2e-6, 0.01) for i in range(len(runs))]

    monkeypatch.setattr(f"{TUNE}.race", timed)


@pytest.mark.parametrize("index", [1, 3])
def test_the_winner_is_what_runs(index, cache, monkeypatch):
    graph, ran = GRAPHS["dense"], []
    favour(monkeypatch, index)
    step_of = HostRunner.step

    def step(self, number):
        ran.append(self.source.steps[number].code.body)
        step_of(self, number)

    monkeypatch.setattr(HostRunner, "step", step)
    tune_graph(graph, HOST)
    kernels = candidates(graph, graph.ops[-1], HOST)
    bodies = [source.steps[0].code.body for source in sources_of(graph, kernels)]
    assert ran == bodies  # each candidate was run for its own time
    program = compile(graph, tune=True)
    (conv,) = [s for s in program.source.steps if s.op is not None]
    assert conv.code.body == bodies[index]
    assert "tuned: 1.0 us, best of 4, untuned 2.0 us" in program.source.source
    assert compile(graph).source.source == emit(graph, HOST).source  # not without being asked


def test_layers_alike_are_timed_once_and_never_again(cache, monkeypatch):
    b = Builder("deep", (1, 16, 9, 9), np.random.default_rng(0))
    x = "x"
    for _ in range(3):
        x = b.conv(x, 16, 3, padding=(1, 1, 1, 1))
    graph, calls = b.graph(b.conv(x, 16, 1)), []
    favour(monkeypatch, 2, calls)
    found = tune_graph(graph, HOST)
    assert calls == [4, 4] and len(found) == 4
    assert tune_graph(graph, HOST) == found and calls == [4, 4]
    for (module, name), value in {
        ("store", "cpu_name"): lambda: "another CPU",
        ("choose", "toolchain"): lambda name: replace(toolchain(name), version="another compiler"),
        ("choose", "build_flags"): lambda source: ("-O1",),
    }.items():
        with monkeypatch.context() as patch:
            before = len(calls)
            patch.setattr(f"cofit.codegen.tuning.{module}.{name}", value)
            tune_graph(graph, HOST)
            assert len(calls) == before + 2, f"{name} is not in the key"


def test_a_change_of_what_is_tried_is_timed_anew(cache, monkeypatch):
    calls = []
    favour(monkeypatch, 1, calls)
    tune_graph(GRAPHS["dense"], HOST)
    monkeypatch.setattr("cofit.codegen.tuning.candidates.MOST", 3)
    tune_graph(GRAPHS["dense"], HOST)
    assert calls == [4, 3]
    used, text = toolchain(), "layer"
    paths = {store.path_of(used, text, texts) for texts in (["a", "b"], ["a", "c"], ["ab"])}
    assert len(paths) == 3


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"tried": []}', "negative", "others"])
def test_a_damaged_record_is_made_again(damage, cache, monkeypatch):
    calls, graph = [], GRAPHS["dense"]
    favour(monkeypatch, 1, calls)
    found = tune_graph(graph, HOST)
    (path,) = (cache / "tuning").iterdir()
    whole = path.read_text()
    record = json.loads(whole)
    if damage == "negative":
        record["tried"][2]["seconds"] = -1.0
        damage = json.dumps(record)
    elif damage == "others":
        record["tried"][2]["kernel"] = "Unknown()"
        damage = json.dumps(record)
    path.write_text(damage)
    assert tune_graph(graph, HOST) == found
    assert len(calls) == 2 and path.read_text() == whole


def test_a_killed_process_leaves_no_half_record(tmp_path):
    code = (
        "import os, signal, sys, pathlib\n"
        "from cofit.codegen.build import toolchain\n"
        "from cofit.codegen.tuning import store\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "tried = [store.Tried('A()', 1e-6, 0.0)]\n"
        "store.keep(pathlib.Path(sys.argv[1]), toolchain(), 'layer', tried)\n"
    )
    path = tmp_path / "tuning" / "layer.json"
    killed = subprocess.run([sys.executable, "-c", code, str(path)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists() and store.load(path, ["A()"]) is None
    tried = [store.Tried("A()", 1e-6, 0.0)]
    assert store.keep(path, toolchain(), "layer", tried) == store.load(path, ["A()"])


def ticking(*units):
    """A clock on which series take so many times twice their least length, in turn."""
    now, running, turns = 0.0, False, itertools.cycle(units)

    def clock():
        nonlocal now, running
        running = not running
        if not running:
            now += 2 * SERIES_S * next(turns)
        return now

    return clock


def test_a_busy_machine_gives_no_winner(cache):
    graph = GRAPHS["linear"]
    assert tune_graph(graph, HOST, clock=ticking(1, 3, 3, 3, 3, 3, 3)) == {}
    assert not list(cache.rglob("*.json"))
    assert tune_graph(graph, HOST, clock=ticking(1)) == {}  # all alike: the formula's stays
    assert len(list(cache.rglob("*.json"))) == 1


def test_readings_are_series_in_turn_and_say_their_spread():
    order = []
    runs = [lambda: order.append("a"), lambda: order.append("b")]
    first, second = race(runs, ticking(1, 1, *([1, 2] * ROUNDS)))
    assert "".join(order) == "aabb" + ROUNDS * "ab"
    assert (first.seconds, second.seconds) == pytest.approx((2 * SERIES_S, 4 * SERIES_S))
    (found,) = race([lambda: None], ticking(1, *range(1, ROUNDS + 1)))
    assert found.seconds == pytest.approx(2 * SERIES_S)
    assert found.spread == pytest.approx(2)  # the middle one of 1, 2, 3, 4, 5
    race([lambda: order.append("c")], ticking(0.1, *([1] * 2 * ROUNDS)))
    assert order.count("c") > 2 + ROUNDS  # series were too short


def test_a_saved_program_keeps_its_kernels(cache, monkeypatch, tmp_path):
    favour(monkeypatch, 1)
    program = compile(GRAPHS["blocks"], tune=True)
    folder = tmp_path / "program"
    program.save(folder)
    monkeypatch.setattr(f"{TUNE}.race", None)  # nothing is timed
    again = load_program(folder)
    assert again.source.source == program.source.source
    manifest = json.loads((folder / "manifest.json").read_text())
    (entry,) = manifest["tuned"].values()
    entry["times"] = {"seconds": "soon"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FileError, match="tuned"):
        load_program(folder)


def test_only_this_machine_is_timed():
    with pytest.raises(ConfigError, match="cortex-m4 cannot be timed here"):
        compile(GRAPHS["int8"], "cortex-m4", tune=True)
