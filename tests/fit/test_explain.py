"""What is said of a program: its zeros, what binds, what would be faster, and that it adds up."""

from dataclasses import replace

import pytest

from cofit.codegen import Program, compile
from cofit.core import Basis
from cofit.fit import Explanation, explain_program
from cofit.fit.explanation import Alone, Instructions, Layer, LevelRow, Limits
from cofit.fit.reasons import notes_of, reasons
from cofit.ir import attributes
from cofit.targets import OpSignature, one_op_graph

CONV = attributes.Conv2d(padding=(1, 1, 1, 1), fused="relu")


def program(
    structure: str | None, precision: str, on: str, bare: bool = False, channels: int = 16
) -> Program:
    """One convolution; `bare`: its zeros stay, its structure is forgotten."""
    weight = (channels, channels, 3, 3)
    signature = OpSignature(CONV, ((1, channels, 8, 8),), weight, structure, precision)
    graph = one_op_graph(signature, "one")
    if bare:
        graph = graph.with_tensors({"w": replace(graph.tensors["w"], structure=None)})
    return compile(graph, on, verify=False)


def check_sums(found: Explanation) -> None:
    assert sum(layer.latency_s for layer in found.layers) == pytest.approx(found.latency_s)
    assert sum(layer.share for layer in found.layers) == pytest.approx(1.0)
    assert sum(layer.limit_s for layer in found.layers) == pytest.approx(found.limit_s)
    assert sum(layer.macs_executed for layer in found.layers) == found.macs_executed
    for layer in found.layers:
        assert layer.overhead_s >= 0.0
        assert 0.0 <= layer.reached <= 1.0
        if layer.limit_s < layer.latency_s:
            assert layer.limit_s + layer.overhead_s == pytest.approx(layer.latency_s)
            assert layer.reached == pytest.approx(layer.limit_s / layer.latency_s)
    assert Explanation.model_validate_json(found.model_dump_json()) == found


@pytest.fixture(scope="module")
def ignored() -> Explanation:
    """Zeros in blocks, compiled as dense, on this machine."""
    return explain_program(program("block8x1@4", "float32", "host", bare=True))


def layer_of(found: Explanation) -> Layer:
    return next(layer for layer in found.layers if layer.op == "y")


def test_zeros_compiled_as_dense_are_told_their_structure(ignored: Explanation) -> None:
    check_sums(ignored)
    layer = layer_of(ignored)
    assert layer.zeros == "block8x1@4" and layer.structure is None
    assert layer.density == 0.25
    assert layer.macs_kept * 4 == layer.macs_dense
    assert any("75% of its weights are zero" in sentence for sentence in layer.why)
    assert any("without a structure (they satisfy block8x1@4)" in s for s in layer.why)
    exact = [advice for advice in layer.advice if advice.exact]
    assert [advice.structure for advice in exact] == ["block8x1@4"]
    assert "--structure block8x1@4" in exact[0].text
    assert exact[0].gain_s == pytest.approx(layer.latency_s - exact[0].latency_s)
    assert exact[0].gain_s > 0
    assert exact[0].basis is Basis.MEASURED
    assert layer.alone is not None and layer.alone.kernel.startswith("f32-dense")


def test_zeros_compiled_with_their_structure_are_not() -> None:
    found = explain_program(program("block4x4@4", "int8", "cortex-m4"))
    check_sums(found)
    layer = layer_of(found)
    assert layer.structure == "block4x4@4" and layer.zeros is None
    assert not any(advice.exact for advice in layer.advice)
    assert any(sentence.startswith("pruned 4.") for sentence in layer.why)


def test_a_dense_program_is_told_of_no_zeros() -> None:
    layer = layer_of(explain_program(program(None, "int8", "cortex-m4")))
    assert layer.zeros is None and layer.density > 0.95
    assert not any(advice.exact for advice in layer.advice)
    assert not any("zero" in sentence or "pruned" in sentence for sentence in layer.why)
    assert {advice.precision for advice in layer.advice} == {"int8"}
    assert all(advice.rate > 1 or advice.bits == 4 for advice in layer.advice)


def test_an_emulated_program_is_explained_by_its_counts() -> None:
    built = program("block2x4@4", "int8", "cortex-m4", bare=True)
    found = explain_program(built)
    check_sums(found)
    measured = built.measure()
    assert (found.basis, found.target) == (Basis.EMULATED, "cortex-m4:stm32f446")
    assert found.latency_s == pytest.approx(measured.latency_s)
    layer, counted = layer_of(found), layer_of(found).instructions
    assert counted is not None
    total = counted.multiply + counted.memory + counted.arithmetic + counted.branch
    assert total == measured.instructions["y"]
    assert 2 * counted.multiply >= layer.macs_executed  # SMLAD adds two products
    assert layer.compute_s == pytest.approx(layer.macs_executed / 2 / 180e6)
    assert layer.limit_s < layer.latency_s
    exact = [advice for advice in layer.advice if advice.exact]
    assert len(exact) == 1 and exact[0].structure == "block2x4@4"
    assert exact[0].basis is Basis.EMULATED
    # the promise holds: compiled so, the program takes that time
    kept = program("block2x4@4", "int8", "cortex-m4").measure().per_step_s["y"]
    assert exact[0].latency_s == pytest.approx(kept, rel=0.1)
    assert found.layers[-1].op == "(runtime)"
    assert found.limits.clock is None and found.spread is None


LIMITS = Limits(
    basis=Basis.MEASURED,
    machine="",
    macs_per_s=1e9,
    macs_spread=0.0,
    instruction="fma",
    levels=(LevelRow(name="L1", capacity_bytes=1, bytes_per_s=1e9, spread=0.0),),
    step_s=1e-8,
    clock=1.0,
)
PRUNED = Layer(
    op="y", kind="conv2d", kernel="s8-host-block block16x2@2", structure="block16x2@2",
    density=0.5, weight_shape=(16, 16, 3, 3), latency_s=1e-5, share=1.0, macs_dense=2000,
    macs_kept=1000, macs_executed=1010, weight_bytes=1000, index_bytes=200, overhead_s=0.0,
    reached=0.9, binds="compute",
    alone=Alone(
        latency_s=1e-5, kernel="s8-host-block block16x2@2", dense_s=1.1e-5,
        dense_kernel="s8-host-dense-winograd 2x2 outputs",
    ),
)  # fmt: skip


def said(layer: Layer, limits: Limits = LIMITS) -> str:
    return "\n".join(reasons(layer, limits))


def changed(**values: object) -> Layer:
    return PRUNED.model_copy(update=values)


def test_why_pruning_wins_less_than_its_rate() -> None:
    assert "pruned 2.0x, and alone 1.1x as fast as dense" in said(PRUNED)
    assert "2.25x fewer multiplications itself (Winograd)" in said(PRUNED)
    assert "lists of kept weights add 200 B to 1.00 KB" in said(PRUNED)
    plain = Alone(latency_s=1e-5, kernel="a", dense_s=2e-5, dense_kernel="s8-host-dense dense")
    assert "Winograd" not in said(changed(alone=plain, index_bytes=10))
    assert "lists" not in said(changed(alone=plain, index_bytes=10))
    unpruned = changed(macs_kept=2000, macs_executed=2000, structure=None, density=1.0)
    assert "pruned" not in said(unpruned) and "zero" not in said(unpruned)


def test_a_structure_that_no_kernel_skips_is_named() -> None:
    text = said(changed(structure="nm2:4", kernel="f32-dense 16 outputs", macs_executed=2000))
    assert "no kernel here skips the zeros of nm2:4" in text
    minimal = changed(
        structure="nm2:4", kernel="s8-host-dense-winograd 2x2 outputs", macs_executed=889
    )
    assert "no kernel here skips the zeros of nm2:4" in said(minimal)


def test_what_binds_is_said() -> None:
    assert "compute binds: 1,010 multiply-adds at the peak of fma take 90%" in said(PRUNED)
    cache = changed(binds="L1", traffic_bytes={"L1": 4000})
    assert "L1 binds: loading 4.00 KB into the register tile" in said(cache)
    assert "overhead binds" in said(changed(binds="overhead", reached=0.2))


def test_weights_beyond_the_second_level_are_streamed() -> None:
    second = LevelRow(name="L2", capacity_bytes=500, bytes_per_s=1e9, spread=0.0)
    limits = LIMITS.model_copy(update={"levels": (*LIMITS.levels, second)})
    assert "its 1.00 KB of weights do not fit L2" in said(changed(binds="overhead"), limits)
    assert "do not fit" not in said(PRUNED, limits)  # compute binds
    assert "do not fit" not in said(changed(binds="overhead", weight_bytes=500), limits)


def test_other_arithmetic_is_named() -> None:
    softmax = changed(kind="softmax", binds="overhead", macs_executed=0, macs_kept=0)
    assert "its bytes need" in said(softmax) and "exponentials" in said(softmax)


def test_small_layers_are_told_what_a_call_costs() -> None:
    assert "an empty step takes 10 ns" in said(changed(latency_s=4e-8))
    assert "empty step" not in said(PRUNED)


def test_instructions_are_counted_per_multiply_add() -> None:
    counted = Instructions(multiply=505, memory=303, arithmetic=404, branch=101)
    text = said(changed(instructions=counted))
    assert "1.30 instructions per multiply-add where SMLAD allows 0.50: 0.50 multiply" in text


def test_nothing_faster_is_said_only_if_it_was_tried() -> None:
    assert "none of 9 other" in said(changed(considered=9))
    assert "none of" not in said(PRUNED)


def test_a_slow_clock_is_noted() -> None:
    assert notes_of(LIMITS, 0.01) == ()
    (slow,) = notes_of(LIMITS.model_copy(update={"clock": 0.5}), 0.01)
    assert "50%" in slow
    (integer,) = notes_of(LIMITS.model_copy(update={"over_fp32": 1.6}), None)
    assert "1.6x those of fp32" in integer
    (noisy,) = notes_of(LIMITS, 0.5)
    assert "spread by 50%" in noisy
