"""Signed sums with one multiply per block row: exact, on plain C and on the emulated core."""

import numpy as np
import pytest
import torch
from s8_graphs import HOST, PORTABLE, Chain, differences, mismatches, weights

from cofit.codegen.cortex_m.boards import board, boards_of
from cofit.codegen.cortex_m.runner import CortexMRunner
from cofit.codegen.emit import emit
from cofit.codegen.machine import cortex_m
from cofit.ir import Rounding
from cofit.ir import attributes as at
from cofit.structures import parse

pytestmark = pytest.mark.device
LAYERS = [  # structure, output channels, kernel
    ("unify1x4@1", 16, (3, 3)), ("unify1x8u0.5@1.5", 24, (1, 1)), ("unify4x4@2", 18, (3, 3)),
    ("unify2x6u0.3@1", 7, (1, 1)), ("unify16x4u0.8@3", 20, (2, 1)),
]  # fmt: skip


def graph_of_unified_layers(rounding):
    rng = np.random.default_rng(3)
    chain = Chain(rng, (1, 12, 7, 5), rounding, "unify")
    for text, k, kernel in LAYERS:
        _, c, _, _ = chain.here
        if c % parse(text).in_:
            chain.weighted(at.Conv2d(), weights(rng, (24, c, 1, 1), 127), None, 8)
            c = 24
        weight = weights(rng, (k, c, *kernel), 127)
        nearest = parse(text).project(torch.tensor(weight, dtype=torch.float32))
        pads = (kernel[0] - 1, 0, 0, kernel[1] - 1)
        chain.weighted(at.Conv2d((1, 1), pads), nearest.numpy().astype(np.int8), text, 8)
    return chain.graph()


@pytest.mark.parametrize("rounding", Rounding)
def test_08_signed_sums_equal_the_dense_integer_kernel(rounding):
    graph = graph_of_unified_layers(rounding)
    steps = [s for s in emit(graph, PORTABLE).steps if s.kernel.startswith("s8-unify")]
    assert len(steps) == len(LAYERS)
    assert not mismatches([graph], PORTABLE)


def test_08_emulated_core_gives_the_same_bytes():
    source = emit(graph_of_unified_layers(Rounding.SINGLE), cortex_m("m4"))
    assert sum(s.kernel.startswith("s8-unify") for s in source.steps) == len(LAYERS)
    runner = CortexMRunner(source, board(boards_of("cortex-m4")[0]))
    assert not differences(source, runner)


def test_the_program_holds_signs_and_values_only():
    graph = graph_of_unified_layers(Rounding.SINGLE)
    for step in emit(graph, PORTABLE).steps:
        if not step.kernel.startswith("s8-unify"):
            continue
        weight = graph.weight(step.op)
        encoding = parse(weight.structure).encode(weight.data)
        sizes = {c.name: c.values.nbytes for c in step.code.constants}
        stored = sum(encoding.arrays[n].nbytes for n in ("magnitudes", "values"))
        assert sizes["weights"] == stored and sizes["signs"] == encoding.arrays["signs"].nbytes


def test_vectors_compute_densely_and_say_why():
    for step in emit(graph_of_unified_layers(Rounding.SINGLE), HOST).steps:
        assert not step.kernel.startswith("s8-unify")
        if step.op is not None and step.op.kind == "conv2d":
            assert any("vectors are faster" in str(reason) for reason in step.rejected)
