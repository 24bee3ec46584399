"""Random graphs: Python's integers, host C and Cortex-M C agree bit for bit; floats in bound.

100 of 200 fixed graphs by default. COFIT_FUZZ=N tests N random ones, larger, on more machines; a
failure prints the COFIT_FUZZ_SEED that draws the same graphs again.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
from collections import Counter
from pathlib import Path

import pytest
from batch import HOST, PORTABLE, faults, run_together
from hypothesis import HealthCheck, Phase, given, seed, settings
from sanitise import sanitised

from cofit.codegen.emit import emit
from cofit.codegen.machine import Machine, machine
from cofit.ir import Graph, describe, load_graph, save_graph
from cofit.ir.attributes import KINDS
from graphs import Case, cases

# random graphs are of images; these have tests of their own in tests/codegen
SEQUENCES = frozenset({"matmul", "transpose", "layernorm", "embedding", "gru", "lstm"})

pytestmark = pytest.mark.device
RANDOM = "COFIT_FUZZ" in os.environ
EXAMPLES = int(os.environ.get("COFIT_FUZZ", "200"))
SIZE = min(50, EXAMPLES)
MOST_OPS = 12 if RANDOM else 5
GROUPS = range(EXAMPLES // SIZE)
CHECKED = GROUPS if RANDOM else GROUPS[::2]
"""Groups that are compiled and run."""
SEED = int(os.environ.get("COFIT_FUZZ_SEED", secrets.randbits(32) if RANDOM else 0))


@functools.cache
def group_of_cases(group: int) -> tuple[Case, ...]:
    """SIZE graphs with distinct names."""
    found: list[Case] = []

    @seed(SEED + group)
    @settings(
        max_examples=SIZE, database=None, deadline=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases(MOST_OPS))
    def collect(case: Case) -> None:
        found.append(case.named(f"g{len(found)}"))

    collect()
    assert len(found) == SIZE
    return tuple(found)


def assert_faultless(group: int, graphs: list[Graph], chosen: Machine) -> None:
    reports = []
    runners = run_together(graphs, chosen)
    for runner, graph, case in zip(runners, graphs, group_of_cases(group), strict=True):
        if wrong := faults(runner, runner.source, case.x):
            reports.append("\n".join([*wrong, describe(graph)]))
    rerun = f"COFIT_FUZZ={EXAMPLES} COFIT_FUZZ_SEED={SEED}, group {group} on {chosen.name}"
    assert not reports, "\n\n".join([f"{len(reports)} graphs are wrong; {rerun}", *reports])


def integer_graphs(group: int) -> list[Graph]:
    return [case.integer for case in group_of_cases(group)]


@pytest.mark.parametrize("group", CHECKED)
def test_integer_graphs_on_this_machine(group: int) -> None:
    assert_faultless(group, integer_graphs(group), machine("host"))
    if RANDOM:
        assert_faultless(group, integer_graphs(group), PORTABLE)


@pytest.mark.parametrize("group", CHECKED)
def test_integer_graphs_on_emulated_cores(group: int) -> None:
    assert_faultless(group, integer_graphs(group), machine("cortex-m4"))
    if group % 4 == 0:
        assert_faultless(group, integer_graphs(group), machine("cortex-m7"))


@pytest.mark.parametrize("group", CHECKED)
def test_float_graphs_are_within_the_bound(group: int) -> None:
    graphs = [case.floating for case in group_of_cases(group)]
    assert_faultless(group, graphs, machine("host"))


@pytest.mark.parametrize("chosen", [PORTABLE, HOST], ids=lambda m: m.name)
@pytest.mark.parametrize("group", GROUPS if RANDOM else range(1))
def test_integer_graphs_under_sanitisers(group: int, chosen: Machine) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; it has the address sanitiser that zig lacks")
    some = group_of_cases(group)[: 50 if RANDOM else 20]
    said = sanitised([emit(c.integer, chosen) for c in some], [c.x for c in some], "gcc")
    assert said is None, f"COFIT_FUZZ={EXAMPLES} COFIT_FUZZ_SEED={SEED}, group {group}: {said}"


def test_a_saved_graph_gives_the_same_program(tmp_path: Path) -> None:
    for case in group_of_cases(0)[::5]:
        for graph in (case.integer, case.floating):
            save_graph(graph, tmp_path / graph.name)
            again = emit(load_graph(tmp_path / graph.name), HOST)
            assert again.source == emit(graph, HOST).source


def test_every_kind_and_kernel_is_reached() -> None:
    """The graphs are no good if they leave kernels out."""
    kinds: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    for group in GROUPS:
        for case in group_of_cases(group):
            kinds.update(op.kind for op in case.integer.ops)
            for graph, chosen in ((case.integer, PORTABLE), (case.integer, HOST),
                                  (case.floating, HOST)):  # fmt: skip
                kernels.update(step.kernel for step in emit(graph, chosen).steps)
    assert set(kinds) == set(KINDS) - SEQUENCES and min(kinds.values()) >= EXAMPLES // 40
    assert {
        "f32-block", "f32-pattern", "f32-planes", "f32-depthwise", "f32-dense",
        "f32-binary", "f32-activation", "f32-pool", "f32-softmax", "move", "s8-depthwise",
        "s8-host-block", "s8-sparse", "s8-host-dense", "s8-dense", "s8-binary", "s8-activation",
        "s8-pool", "s8-softmax", "s8-concat",
    } <= set(kernels)  # fmt: skip
