"""Every operator against the reference outputs of CMSIS-NN, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cofit.ir import integer as ops
from cofit.ir.integer.golden import (
    GoldenCase,
    golden_conv,
    golden_linear,
    golden_pool,
    nchw,
    read_goldens,
)
from cofit.ir.integer.golden_graphs import golden_graph

Pair = tuple[np.ndarray, np.ndarray]

# Dimensions and order of axes, which upstream's headers give as braces and the files do not hold.
TRANSPOSES = {
    "transpose_3dim2": ((5, 4, 20), (1, 2, 0)),
    "transpose_chwn": ((5, 4, 12, 17), (3, 1, 2, 0)),
    "transpose_default": ((4, 3, 3, 22), (3, 2, 1, 0)),
    "transpose_ncwh": ((5, 4, 3, 9), (0, 3, 2, 1)),
    "transpose_nhcw": ((1, 1, 128, 128), (0, 1, 3, 2)),
}
NOT_RUN = {
    "lstm_2": "no LSTM operator",
    "lstm_2_s16": "no LSTM operator",
    "lstm_one_time_step": "no LSTM operator",
    "lstm_one_time_step_s16": "no LSTM operator",
    **dict.fromkeys(TRANSPOSES, "graphs have no transpose; layouts belong to code generation"),
}


def conv(case: GoldenCase) -> Pair:
    g = golden_conv(case)
    a = g.attributes
    actual = ops.conv2d(
        g.x, g.weight, g.bias, g.epilogue, input_offset=g.input_offset,
        stride=a.stride, padding=a.padding, dilation=a.dilation, groups=a.groups,
    )  # fmt: skip
    return actual, g.expected


def transpose_conv(case: GoldenCase) -> Pair:
    c = case.config
    channels, filters, kernel = c["IN_CH"], c["OUT_CH"], (c["FILTER_Y"], c["FILTER_X"])
    weight = case.array("weights").reshape(filters, *kernel, channels).transpose(0, 3, 1, 2)
    x = nchw(case.array("input"), c["INPUT_H"], c["INPUT_W"], channels)
    size = (c["OUTPUT_H"], c["OUTPUT_W"])
    epilogue = ops.Epilogue(
        case.array("output_mult"), case.array("output_shift"), c["OUTPUT_OFFSET"], case.bounds
    )
    actual = ops.transpose_conv2d(
        x, weight, case.optional("biases"), epilogue, input_offset=c["INPUT_OFFSET"],
        stride=(c["STRIDE_Y"], c["STRIDE_X"]), padding=(c["PAD_Y"], c["PAD_X"]), output_size=size,
    )  # fmt: skip
    return actual, nchw(case.expected, *size, filters)


def linear(case: GoldenCase) -> Pair:
    g = golden_linear(case)
    actual = ops.linear(
        g.x, g.weight, g.bias, g.epilogue,
        input_offset=g.input_offset, filter_offset=g.filter_offset,
    )  # fmt: skip
    return actual, g.expected


def batch_matmul(case: GoldenCase) -> Pair:
    c = case.config

    def operand(side: str, transposed: bool) -> np.ndarray:
        shape = [c[f"{side}_{axis}"] for axis in ("BATCH", "HEIGHT", "ROWS", "COLS")]
        values = case.array(f"{side.lower()}_input_tensor").reshape(shape)
        return values.swapaxes(2, 3) if transposed else values

    left, right = operand("LHS", bool(c["ADJ_X"])), operand("RHS", bool(c["ADJ_Y"]))
    epilogue = ops.Epilogue(
        c["OUTPUT_MULTIPLIER"], c["OUTPUT_SHIFT"], c["OUTPUT_OFFSET"], case.bounds,
        wide=left.dtype == np.int16,
    )  # fmt: skip
    actual = ops.batch_matmul(
        left, right, epilogue, left_offset=c["LHS_OFFSET"], right_offset=c["RHS_OFFSET"]
    )
    return actual, case.expected.reshape(actual.shape)


def add(case: GoldenCase) -> Pair:
    c = case.config
    pairs = [(c[f"{n}_MULT"], c[f"{n}_SHIFT"]) for n in ("INPUT1", "INPUT2", "OUTPUT")]
    requant = ops.AddRequant(*pairs, left_shift=c["LEFT_SHIFT"])
    epilogue = ops.Epilogue(*requant.output, c["OUTPUT_OFFSET"], case.bounds)
    offsets = (c["INPUT1_OFFSET"], c["INPUT2_OFFSET"])
    x, y = case.array("input1"), case.array("input2")
    return ops.add(x, y, requant, epilogue, offsets=offsets), case.expected


def mul(case: GoldenCase) -> Pair:
    c = case.config
    epilogue = ops.Epilogue(c["OUTPUT_MULT"], c["OUTPUT_SHIFT"], c["OUTPUT_OFFSET"], case.bounds)
    offsets = (c["INPUT1_OFFSET"], c["INPUT2_OFFSET"])
    return ops.mul(case.array("input1"), case.array("input2"), epilogue, offsets=offsets), (
        case.expected
    )


def extremum(case: GoldenCase) -> Pair:
    c = case.config
    axes = ("BATCH", "HEIGHT", "WIDTH", "CHANNEL")
    x, y = (
        case.array(f"input_tensor_{i}").reshape([c[f"{axis}_{i}"] for axis in axes]) for i in (1, 2)
    )
    actual = getattr(ops, case.kind)(x, y)
    return actual, case.expected.reshape(actual.shape)


def max_pool(case: GoldenCase) -> Pair:
    x, window, expected = golden_pool(case)
    return ops.max_pool(x, **window._asdict(), bounds=case.bounds), expected


def avg_pool(case: GoldenCase) -> Pair:
    x, window, expected = golden_pool(case)
    return ops.avg_pool(x, **window._asdict(), bounds=case.bounds), expected


def softmax(case: GoldenCase) -> Pair:
    c = case.config
    parameters = ops.SoftmaxParameters(c["INPUT_MULT"], c["INPUT_LEFT_SHIFT"], c["DIFF_MIN"])
    x = case.array("input").reshape(-1, c["ROW_SIZE"])
    return ops.softmax(x, parameters), case.expected.reshape(x.shape)


def svdf(case: GoldenCase) -> Pair:
    c = case.config
    features, times = c["FEATURE_BATCHES"], c["TIME_BATCHES"]
    state = case.array("state").reshape(c["INPUT_BATCHES"], features, times)
    steps = case.array("input_sequence").reshape(-1, c["INPUT_BATCHES"], c["INPUT_SIZE"])
    feature_weight = case.array("weights_feature").reshape(features, -1)
    time_weight = case.array("weights_time").reshape(features, times)
    clamp_in = (c["IN_ACTIVATION_MIN"], c["IN_ACTIVATION_MAX"])
    into_state = ops.Epilogue(c["MULTIPLIER_IN"], c["SHIFT_1"], 0, clamp_in)
    into_output = ops.Epilogue(c["MULTIPLIER_OUT"], c["SHIFT_2"], c["OUTPUT_OFFSET"], case.bounds)
    for x in steps:
        y, state = ops.svdf_step(
            x, state, feature_weight, time_weight, case.array("biases"), into_state, into_output,
            input_offset=-c["INPUT_OFFSET"],
        )  # fmt: skip
    return y.reshape(-1), case.expected


def through_graph(case: GoldenCase) -> Pair:
    golden = golden_graph(case)
    actual = ops.run_integer(golden.graph, golden.inputs)["y"]
    return actual.clip(*golden.bounds), golden.expected


RUNS: dict[str, Callable[[GoldenCase], Pair]] = {
    "conv2d": conv, "transpose_conv2d": transpose_conv, "linear": linear, "add": add, "mul": mul,
    "batch_matmul": batch_matmul, "maximum": extremum, "minimum": extremum, "svdf": svdf,
    "maxpool2d": max_pool, "avgpool2d": avg_pool, "softmax": softmax, "pad": through_graph,
}  # fmt: skip


@pytest.fixture(scope="module")
def cases(data_dir: Path) -> dict[str, GoldenCase]:
    return {case.name: case for case in read_goldens(data_dir / "cmsis_nn_golden")}


def test_01_golden_vectors_bit_for_bit(cases: dict[str, GoldenCase]) -> None:
    mismatches = {}
    passed = 0
    for name, case in cases.items():
        if name in NOT_RUN or case.kind == "network":
            continue
        actual, expected = RUNS[case.kind](case)
        assert actual.shape == expected.shape and actual.dtype == expected.dtype, name
        if wrong := int((actual != expected).sum()):
            mismatches[name] = f"{wrong} of {expected.size}"
        passed += 1
    assert not mismatches
    print(passed, len(cases))
