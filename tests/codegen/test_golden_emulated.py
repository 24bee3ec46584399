"""CMSIS-NN's golden vectors through compiled C: this machine and emulated cores, few builds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fuzz.batch import HOST, PORTABLE, run_together

from cofit.codegen.layout import to_logical, to_memory
from cofit.codegen.machine import Machine, machine
from cofit.core import UnsupportedOpError
from cofit.ir.integer.golden import read_goldens
from cofit.ir.integer.golden_graphs import GoldenGraph, golden_graph

pytestmark = pytest.mark.device
MACHINES = (HOST, PORTABLE, machine("cortex-m4"), machine("cortex-m7"))


def one_input(golden: GoldenGraph) -> GoldenGraph:
    """The second operand of an addition as a constant: programs have one input."""
    if len(golden.inputs) == 1:
        return golden
    graph, (first, second) = golden.graph, golden.graph.inputs
    held = replace(graph.tensors[second], data=golden.inputs[second])
    graph = replace(graph.with_tensors({second: held}), inputs=(first,))
    return replace(golden, graph=graph, inputs={first: golden.inputs[first]})


@pytest.fixture(scope="module")
def goldens(data_dir: Path) -> list[GoldenGraph]:
    found = []
    for case in read_goldens(data_dir / "cmsis_nn_golden"):
        try:
            found.append(one_input(golden_graph(case)))
        except UnsupportedOpError:  # which these are: tests/ir/test_cmsis_nn_golden.py
            continue
    return found


@pytest.mark.parametrize("chosen", MACHINES, ids=lambda m: m.name)
def test_01_golden_vectors_through_c(goldens: list[GoldenGraph], chosen: Machine) -> None:
    assert len(goldens) == 65
    wrong = []
    runners = run_together([golden.graph for golden in goldens], chosen)
    for golden, runner in zip(goldens, runners, strict=True):
        (x,) = golden.inputs.values()
        shape = golden.graph.tensors[golden.graph.outputs[0]].shape
        got = to_logical(np.asarray(runner.run(to_memory(x))), shape)
        if not np.array_equal(np.clip(got, *golden.bounds), golden.expected):
            wrong.append(golden.graph.name)
    assert not wrong
