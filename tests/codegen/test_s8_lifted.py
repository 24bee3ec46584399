"""Cortex-M int8 kernels of one shift: exact, chosen where they fit, and as short as they were."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from benchmarks import cortex_m as benchmark
from benchmarks import mlperf_tiny
from s8_graphs import PORTABLE, Chain, differences, mismatches, weights
from test_s8_structures import projected

from cofit.codegen import compile as compile_program
from cofit.codegen.cortex_m.boards import board, boards_of
from cofit.codegen.cortex_m.runner import CortexMRunner
from cofit.codegen.emit import emit
from cofit.codegen.kernels.s8_lifted import LIFT, lifted, lifted_scale
from cofit.codegen.kernels.s8_scaled import Scale, one_shift, sum_range
from cofit.codegen.machine import cortex_m
from cofit.ir import Graph, Quantisation, Rounding
from cofit.ir import attributes as at
from cofit.ir.integer import affine, conv_requant, output_bounds, requantise

pytestmark = pytest.mark.device
STRUCTURES = (
    "block1x4@2", "block4x4@2", "block2x8@3", "block2x2@2", "corner4g4@4", "pattern8g1@4",
    "block16x1@2", "block1x1@5", "unstructured@3",
)  # fmt: skip


def everything(rng: np.random.Generator, name: str, rounding: Rounding = Rounding.SHORT) -> Chain:
    """Every family in shapes that divide nothing: odd rows, channels, widths, bounds, groups."""
    chain = Chain(rng, (1, 3, 11, 9), rounding, name)
    pads = (1, 1, 1, 1)

    def conv(k: int, kernel: int, attributes: at.Conv2d, structure: str | None = None) -> None:
        channels = chain.here[1] // attributes.groups
        weight = weights(rng, (k, channels, kernel, kernel))
        if structure is not None:
            weight = projected(structure, weight)
        weight[rng.random(k) < 0.1] = 0
        chain.weighted(attributes, weight, structure)

    conv(12, 3, at.Conv2d(padding=pads, fused="relu"))
    conv(12, 3, at.Conv2d(padding=(1, 0, 2, 1), groups=12))
    conv(12, 3, at.Conv2d((1, 2), pads, groups=12, fused="relu6"))
    conv(21, 1, at.Conv2d(fused="relu"))
    conv(16, 2, at.Conv2d(padding=(0, 1, 0, 1)))
    before = chain.last
    conv(16, 1, at.Conv2d(fused="relu"))
    chain.add(at.Add(), before, keep=False)
    conv(24, 3, at.Conv2d(padding=(2, 2, 2, 2), dilation=(2, 2), groups=2))
    for structure in STRUCTURES:
        conv(18 if structure.endswith("4@2") else 16, 3, at.Conv2d(padding=pads), structure)
        if chain.here[1] == 18:
            conv(16, 1, at.Conv2d(fused="relu6"))
    chain.add(at.GlobalMean(keep=False), keep=False)
    chain.weighted(at.Linear(), weights(rng, (13, 16)))
    chain.weighted(at.Linear(fused="relu"), weights(rng, (8, 13)))
    return chain


@pytest.mark.parametrize("seed", range(6))
def test_bytes_equal_the_integer_reference_in_plain_c(seed: int) -> None:
    graph = everything(np.random.default_rng(seed), f"plain{seed}").graph()
    families = {step.kernel for step in emit(graph, PORTABLE).steps}
    assert families >= {"s8-lifted", "s8-planes", "s8-blocks", "s8-sum"}
    assert not mismatches([graph], PORTABLE)


@pytest.mark.parametrize("core", ["m4", "m7"])
@pytest.mark.parametrize("seed", range(2))
def test_bytes_equal_the_integer_reference_on_emulated_cores(core: str, seed: int) -> None:
    machine = cortex_m(core)  # type: ignore[arg-type]
    graph = everything(np.random.default_rng(10 + seed), "core").graph()
    runner = CortexMRunner(emit(graph, machine), board(boards_of(f"cortex-{core}")[0]))
    assert not differences(emit(graph, machine), runner)


def test_extreme_inputs_and_weights() -> None:
    """Sums at the edges of their range, all inputs at one end."""
    for weight in (-127, 127):
        for stored in (-128, 127):
            chain = Chain(np.random.default_rng(0), (1, 16, 4, 4), Rounding.SHORT, "extreme")
            chain.weighted(at.Conv2d(), np.full((4, 16, 3, 3), weight, np.int8))
            graph = chain.graph()
            assert isinstance(lifted_scale(graph, graph.ops[0]), Scale)
            program = compile_program(graph, "cortex-m4", verify=False)
            x = np.full((1, 4, 4, 16), stored, np.int8)
            wanted = mlperf_tiny.run_integer(graph, {"x": x.transpose(0, 3, 1, 2)})["t0"]
            got = np.asarray(program.run_native(x)).transpose(0, 3, 1, 2)
            assert np.array_equal(got, wanted)


def test_lifted_products_are_what_the_formula_says() -> None:
    """W * Z + w1 * X = 256 (w0 x0 + w1 x1) + (129 * 256 w0 - w1) for all bytes but -128 as w0."""
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, (10_000, 2))
    w = np.stack([rng.integers(-127, 128, 10_000), rng.integers(-128, 128, 10_000)], axis=1)
    word = lifted(w.astype(np.int8)).view("<i2").astype(np.int64)[:, 0]
    assert np.array_equal(word & 255, w[:, 1] & 255)  # SXTB16 finds w1
    u = x[:, 0] + 128
    products = word * -(u + 1) + w[:, 1] * (256 * x[:, 1] + u)
    wanted = 256 * (w * x).sum(axis=1) + 129 * 256 * w[:, 0] - w[:, 1]
    assert np.array_equal(products, wanted)


def layer_of_scales(scales: list[float], rounding: Rounding = Rounding.SHORT) -> Graph:
    chain = Chain(np.random.default_rng(5), (1, 8, 4, 4), rounding, "scales")
    chain.weighted(at.Conv2d(fused="relu"), weights(chain.rng, (len(scales), 8, 1, 1)))
    graph = chain.graph()
    weight = replace(graph.tensors["t0.w"], quantisation=Quantisation(tuple(scales)))
    return graph.with_tensors({"t0.w": weight})


@pytest.mark.parametrize("spread", [1, 2**6, 2**9, 2**13])
@pytest.mark.parametrize("lift", [0, LIFT])
def test_one_shift_is_exact_for_every_sum(spread: int, lift: int) -> None:
    """By brute force over all sums that can occur; channels far apart are refused or exact."""
    graph = layer_of_scales([0.004, 0.0037 / spread, 0.0031 / spread])
    op = graph.ops[0]
    scale = one_shift(graph, op, lift)
    if isinstance(scale, str):
        assert spread > 2**7, scale
        return
    multiplier, shift = conv_requant(graph, op)
    low, high = output_bounds(graph, op)
    for k, (least, greatest) in enumerate(zip(*sum_range(graph, op), strict=True)):
        sums = np.arange(least, greatest + 1)
        exact = requantise(sums, multiplier[k], shift[k], Rounding.SHORT)
        exact = np.clip(exact + affine(graph, "t0")[1], low, high)
        start = np.full_like(sums, scale.start[k]) if scale.idle[k] else sums << lift
        ours = ((start * int(scale.multiplier[k]) >> 32) + scale.round) >> scale.shift
        assert np.array_equal(np.clip(ours, low, high), exact)
    assert spread < 2**13 or scale.idle.any()


def test_outputs_that_no_input_changes_are_not_computed() -> None:
    """Their weights take no flash and no instructions; the bytes stay those of the reference."""
    chain = Chain(np.random.default_rng(8), (1, 16, 6, 6), Rounding.SHORT, "idle")
    chain.weighted(at.Conv2d(fused="relu"), weights(chain.rng, (32, 16, 1, 1)))
    graph = chain.graph()
    sources = [emit(graph, PORTABLE)]
    bias, far = graph.tensors["t0.b"], np.arange(32) % 4 != 0
    data = np.where(far, 10**8, bias.data).astype(np.int32)
    graph = graph.with_tensors({"t0.b": replace(bias, data=data)})
    sources.append(emit(graph, PORTABLE))
    assert sources[1].steps[0].code.variant.endswith("8 of 32")
    less = sources[0].constant_bytes - sources[1].constant_bytes
    assert less == 24 * (16 + 8) - 8 * 2 - 32  # weights, epilogue; places, what is there first
    assert not mismatches([graph], PORTABLE)


def test_twice_rounded_and_wide_sums_take_the_other_kernels() -> None:
    graph = layer_of_scales([0.004] * 4, Rounding.DOUBLE)
    assert emit(graph, PORTABLE).steps[0].kernel == "s8-dense"
    chain = Chain(np.random.default_rng(0), (1, 512, 3, 3), Rounding.SHORT, "wide")
    chain.weighted(at.Conv2d(), np.full((4, 512, 3, 3), 127, np.int8))
    assert emit(chain.graph(), PORTABLE).steps[0].kernel == "s8-dense"
    assert not mismatches([chain.graph()], PORTABLE)


REACHED = {
    ("conv 3x3", "dense"): 0.861,
    ("conv 1x1", "dense"): 1.108,
    ("depthwise 3x3", "dense"): 2.679,
    ("linear", "dense"): 0.985,
    ("conv 3x3", "block2x4@8"): 0.208,
    ("conv 3x3", "block4x4@8"): 0.208,
    ("conv 3x3", "block1x4@8"): 0.273,
    ("conv 3x3", "block16x4@8"): 0.208,
    ("conv 3x3", "block2x2@8"): 0.310,
    ("conv 3x3", "block16x1@8"): 0.405,
    ("conv 3x3", "unstructured@8"): 0.491,
    ("conv 3x3", "corner4g8@8"): 0.316,
    ("conv 3x3", "pattern8g4@8"): 0.446,
}
"""Instructions per dense MAC, as `python -m benchmarks.cortex_m` counts them."""


@functools.cache
def counted() -> dict[tuple[str, str], benchmark.Row]:
    rows = [benchmark.measure(name, graph) for name, graph in benchmark.layers()]
    return {(row.layer, row.structure): row for row in rows}


@pytest.mark.parametrize("layer", REACHED, ids=" ".join)
def test_instructions_per_product_stay_what_was_reached(layer: tuple[str, str]) -> None:
    row = counted()[layer]
    assert 0.5 < row.per_kept_mac  # SMLAD does two at most
    assert row.per_dense_mac <= 1.03 * REACHED[layer]
    ratio = row.cmsis_nn_per_dense_mac / row.per_dense_mac
    words = layer[1].startswith(("block1x4", "block2", "block4", "block16x4", "corner"))
    assert ratio >= (6 if words else 3.8 if layer[1] != "dense" else 2.1)
