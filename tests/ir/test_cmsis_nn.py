"""Numbered acceptance checks of the integer semantics (1 is in test_cmsis_nn_golden.py)."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from cofit.core import ModelError, UnsupportedOpError, numpy_generator
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor, run_integer
from cofit.ir import attributes as at
from cofit.ir.integer import (
    Epilogue,
    conv2d,
    conv_requant,
    mean_requant,
    quantise_multiplier,
    requantise,
)

# The case "basic" of CMSIS-NN's unit tests (Apache-2.0), which the subset of files leaves out.
BASIC_INPUT = """
    73 -88 -95 57 106 13 34 -103 86 12 107 37 -4 -22 16 -87 4 -11 -21 52
    41 -122 90 124 -62 -23 103 66 68 94 -93 89 -4 68 -89 -66 3 4 -108 63"""
BASIC_WEIGHT = "-72 32 -107 -50 81 -114 -7 -127"
BASIC_OUTPUT = "-11 37 68 -53 -8 -47 -1 -6 29 -86 -34 27 -40 34 -71 4 -72 21 -14 -35"


def numbers(text: str) -> np.ndarray:
    return np.array(text.split(), np.int8)


def test_02_basic_known_outputs() -> None:
    y = conv2d(
        numbers(BASIC_INPUT).reshape(1, 1, 8, 5),
        numbers(BASIC_WEIGHT).reshape(1, 1, 4, 2),
        np.array([6388]),
        Epilogue(1625013239, -8, 127, (-128, 127)),
        input_offset=128,
    )
    assert y.shape == (1, 1, 5, 4)
    assert (y.reshape(-1) == numbers(BASIC_OUTPUT)).all()


DOUBLE = QuantSpec(Rounding.DOUBLE)


def half_up(value: Fraction) -> int:
    return (value + Fraction(1, 2)).__floor__()


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def exact(acc: int, multiplier: int, shift: int, rounding: Rounding) -> int:
    """The stated rounding on rationals."""
    if rounding is not Rounding.DOUBLE:
        # two floors in a row, then one half-up: floor(floor(v) + 1) / 2)
        value = Fraction(acc * multiplier) * Fraction(2) ** (shift - 30)
        return half_up(Fraction(value.__floor__(), 2))
    high = half_up(Fraction(acc * 2 ** max(shift, 0) * multiplier, 2**31))
    return half_away(Fraction(high, 2 ** max(-shift, 0)))


def accumulators(count: int, seed: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random (acc, multiplier, shift), acc over every magnitude that its shift allows."""
    generator = numpy_generator(3, seed)
    shift = generator.integers(-31, 31, count)
    multiplier = generator.integers(1 << 30, 1 << 31, count)
    multiplier[generator.random(count) < 0.05] = 1 << 30  # where ties live
    limit = (1 << 31) >> np.maximum(shift, 0)
    magnitude = np.exp2(generator.uniform(0, 31, count)).astype(np.int64)
    acc = np.minimum(magnitude, limit - 1) * generator.choice([-1, 1], count)
    extreme = generator.random(count) < 0.02
    acc[extreme] = np.where(generator.random(count) < 0.5, -limit, limit - 1)[extreme]
    return acc, multiplier, shift


def exact_million(acc: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Double rounding on Python integers of unlimited size, by division with remainder only."""
    result = []
    for a, m, s in zip(acc.tolist(), multiplier.tolist(), shift.tolist(), strict=True):
        high = (2 * a * m * (1 << s if s > 0 else 1) + (1 << 31)) // (1 << 32)
        divisor = 1 << (-s if s < 0 else 0)
        quotient = (2 * abs(high) + divisor) // (2 * divisor)
        result.append(quotient if high >= 0 else -quotient)
    return np.array(result)


def single_million(acc: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    result = []
    for a, m, s in zip(acc.tolist(), multiplier.tolist(), shift.tolist(), strict=True):
        result.append(((a * m) // (1 << (30 - s)) + 1) // 2)
    return np.array(result)


def test_03_requantise_exact_on_a_million() -> None:
    values = accumulators(1_000_000, "million")
    assert (requantise(*values, Rounding.DOUBLE) == exact_million(*values)).all()
    assert (requantise(*values, Rounding.SINGLE) == single_million(*values)).all()


@pytest.mark.parametrize("rounding", Rounding)
def test_03_requantise_against_rationals(rounding: Rounding) -> None:
    acc, multiplier, shift = accumulators(20_000, "rationals")
    wanted = [
        exact(a, m, s, rounding)
        for a, m, s in zip(acc.tolist(), multiplier.tolist(), shift.tolist(), strict=True)
    ]
    assert requantise(acc, multiplier, shift, rounding).tolist() == wanted


def test_03_requantise_ties_and_extremes() -> None:
    half = 1 << 30  # multiplier of one half
    acc = np.array([1, -1, 3, -3, 5, -5])
    # acc / 2 in one step: the doubling product rounds ties up, the shift rounds them away from zero
    assert requantise(acc, half, 0, Rounding.DOUBLE).tolist() == [1, 0, 2, -1, 3, -2]
    assert requantise(acc, half, 0, Rounding.SINGLE).tolist() == [1, 0, 2, -1, 3, -2]
    # acc / 4 with ties at 2 mod 4: only the two-step rule takes -2 to -1
    acc = np.array([2, -2, 6, -6])
    assert requantise(acc, half, -1, Rounding.DOUBLE).tolist() == [1, -1, 2, -2]
    assert requantise(acc, half, -1, Rounding.SINGLE).tolist() == [1, 0, 2, -1]
    low, high = -(1 << 31), (1 << 31) - 1
    largest = (1 << 31) - 1
    for rounding in Rounding:
        for value in (low, high):
            for shift in (-31, -1, 0):
                wanted = exact(value, largest, shift, rounding)
                assert int(requantise(value, largest, shift, rounding)) == wanted


def test_03_multipliers_reproduce_their_factor() -> None:
    for real in np.exp2(numpy_generator(3, "reals").uniform(-31, 29, 2000)).tolist():
        multiplier, shift = quantise_multiplier(real)
        assert 1 << 30 <= multiplier < 1 << 31
        assert abs(multiplier * 2.0 ** (shift - 31) / real - 1) <= 2.0**-31
    assert quantise_multiplier(1 - 2.0**-40) == (1 << 30, 1)
    assert quantise_multiplier(2.0**-40) == (0, 0)


def one_conv(
    scale_w: float = 2.0**-8,
    zero_x: int = 0,
    bias: int = 0,
    weight: np.ndarray | None = None,
    scale_y: float = 1.0,
) -> Graph:
    held = np.ones((2, 3, 1, 1), np.int8) if weight is None else weight
    scales = Quantisation((scale_w,) * len(held))
    tensors = [
        Tensor("x", (1, held.shape[1], 4, 4), DType.I8, Quantisation((1.0,), zero_x)),
        Tensor("w", held.shape, DType.I8, scales, held),
        Tensor("b", held.shape[:1], DType.I32, scales, np.full(len(held), bias, np.int32)),
        Tensor("stem", (1, len(held), 4, 4), DType.I8, Quantisation((scale_y,))),
    ]
    op = Op("stem", at.Conv2d(), ("x", "w", "b"))
    return Graph.build("g", ("x",), ("stem",), (op,), {t.name: t for t in tensors}, DOUBLE)


def run(graph: Graph) -> np.ndarray:
    shape = graph.tensors["x"].shape
    return run_integer(graph, {"x": np.zeros(shape, np.int8)})[graph.outputs[0]]


def test_08_errors_name_the_layer() -> None:
    run(one_conv())
    with pytest.raises(UnsupportedOpError, match=r"'stem'.*left shift of 41"):
        conv_requant(one_conv(scale_w=2.0**40), one_conv().ops[0])
    for graph in (one_conv(scale_w=2.0**40), one_conv(scale_w=float("nan"))):
        with pytest.raises(UnsupportedOpError, match="'stem'"):
            run(graph)
    with pytest.raises(UnsupportedOpError, match=r"'x' has the zero point 200.*\[-128, 127\]"):
        run(one_conv(zero_x=200))
    with pytest.raises(UnsupportedOpError, match=r"'stem'.*accumulator could reach"):
        run(one_conv(bias=2**31 - 1))


def test_08_accumulators_are_proven_from_the_real_weights() -> None:
    # |x - zx| <= 128 for zx = 0: sum|w| * 128 + |bias| is the bound, to the unit
    weight = np.full((1, 1000, 1, 1), 127, np.int8)
    most = (1 << 31) - 1 - 128 * 127_000
    run(one_conv(weight=weight, bias=most))
    with pytest.raises(UnsupportedOpError, match="'stem'"):
        run(one_conv(weight=weight, bias=most + 1))
    # what the zero point is added to must leave room for it
    still = np.zeros((1, 3, 1, 1), np.int8)
    run(one_conv(weight=still, scale_w=1 - 2.0**-31, bias=(1 << 31) - 200))
    with pytest.raises(UnsupportedOpError, match="'stem'"):
        run(one_conv(weight=still, scale_w=1 - 2.0**-31, bias=(1 << 31) - 100))
    # the same weights with zeros have room for a larger bias
    weight[:, 500:] = 0
    run(one_conv(weight=weight, bias=most + 128 * 127 * 500))
    # a left shift takes room: a factor of 4 is held as 1/2 * 2^3
    run(one_conv(scale_w=4.0, bias=(1 << 28) - 1 - 3 * 128))
    with pytest.raises(UnsupportedOpError, match="'stem'"):
        run(one_conv(scale_w=4.0, bias=(1 << 28) - 3 * 128))


def test_08_weights_must_be_symmetric_constants() -> None:
    graph = one_conv()
    skewed = replace(graph.tensors["w"], quantisation=Quantisation((1.0, 1.0), 3))
    with pytest.raises(UnsupportedOpError, match=r"'stem'.*zero point 0"):
        run(graph.with_tensors({"w": skewed}))
    variable = {**graph.tensors, "w": replace(graph.tensors["w"], data=None)}
    with pytest.raises(ModelError, match="'stem'"):
        Graph.build("g", ("x", "w"), ("stem",), graph.ops, variable, DOUBLE)


def test_08_moved_values_must_keep_their_quantisation() -> None:
    tensors = [
        Tensor("x", (1, 2, 4, 4), DType.I8, Quantisation((1.0,))),
        Tensor("flat", (1, 32), DType.I8, Quantisation((0.5,))),
    ]
    op = Op("flat", at.Reshape((1, 32)), ("x",))
    graph = Graph.build("g", ("x",), ("flat",), (op,), {t.name: t for t in tensors}, DOUBLE)
    with pytest.raises(UnsupportedOpError, match="'flat'"):
        run(graph)


def test_08_mean_over_a_plane_too_large() -> None:
    shape = (1, 1, 4096, 4096)
    tensors = [
        Tensor("x", shape, DType.I8, Quantisation((1.0,))),
        Tensor("mean", (1, 1, 1, 1), DType.I8, Quantisation((1.0,))),
    ]
    op = Op("mean", at.GlobalMean(), ("x",))
    graph = Graph.build("g", ("x",), ("mean",), (op,), {t.name: t for t in tensors}, DOUBLE)
    with pytest.raises(UnsupportedOpError, match="'mean'"):
        mean_requant(graph, op)
