"""Every operator against the reference outputs of CMSIS-NN, bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cofit.core import DataError, UnsupportedOpError
from cofit.ir import integer as ops
from cofit.ir.integer.golden import (
    GoldenCase,
    golden_conv,
    golden_linear,
    golden_pool,
    nchw,
    pack_int4,
    read_golden,
    read_goldens,
    unpack_int4,
)
from cofit.ir.integer.golden_graphs import golden_graph
from cofit.ir.types import Rounding

Pair = tuple[np.ndarray, np.ndarray]
INT8 = (-128, 127)

NO_LSTM = "no LSTM operator"
NO_TRANSPOSE = "graphs have no transpose (layouts belong to code generation), files have no axes"
NOT_RUN = {
    "lstm_2": NO_LSTM,
    "lstm_2_s16": NO_LSTM,
    "lstm_one_time_step": NO_LSTM,
    "lstm_one_time_step_s16": NO_LSTM,
    "transpose_3dim2": NO_TRANSPOSE,
    "transpose_chwn": NO_TRANSPOSE,
    "transpose_default": NO_TRANSPOSE,
    "transpose_ncwh": NO_TRANSPOSE,
    "transpose_nhcw": NO_TRANSPOSE,
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


def network(case: GoldenCase) -> Pair:
    """DS-CNN: a convolution, four depthwise and pointwise pairs, mean, linear, softmax."""
    c, x = case.config, case.array("input")
    kinds = ["conv_2d", *["depthwise_conv_2d", "conv_2d"] * 4]
    for number, kind in enumerate(kinds, start=1):
        prefix, held = f"{kind.upper()}_{number}_", f"layer_{number}_{kind}"
        config = {key.removeprefix(prefix): v for key, v in c.items() if key.startswith(prefix)}
        if kind == "depthwise_conv_2d":
            config["CH_MULT"] = 1
        arrays = {name: case.array(f"{held}_{name}") for name in ("output_mult", "output_shift")}
        arrays |= {"weights": case.array(f"{held}_weights"), "biases": case.array(f"{held}_bias")}
        arrays |= {"input": x, "output": np.zeros(config["DST_SIZE"], np.int8)}
        y, _ = conv(GoldenCase(held, arrays, config))
        x = y.transpose(0, 2, 3, 1).reshape(-1)
    pooled = ops.avg_pool(y, kernel=(25, 5), stride=(1, 1), padding=(0, 0, 0, 0), bounds=INT8)
    prefix = "FULLY_CONNECTED_12_OUTPUT"
    epilogue = ops.Epilogue(
        c[f"{prefix}_MULTIPLIER"], c[f"{prefix}_SHIFT"], c[f"{prefix}_OFFSET"], INT8
    )
    weight = case.array("layer_12_fully_connected_weights").reshape(12, 64)
    logits = ops.linear(
        pooled.reshape(1, 64), weight, case.array("layer_12_fully_connected_bias"), epilogue,
        input_offset=c["FULLY_CONNECTED_12_INPUT_OFFSET"],
    )  # fmt: skip
    names = ("SOFTMAX_13_MULT", "SOFTMAX_13_SHIFT", "SOFTMAX_13_DIFF_MIN")
    parameters = ops.SoftmaxParameters(*(c[name] for name in names))
    return ops.softmax(logits, parameters).reshape(-1), case.expected


def through_graph(case: GoldenCase) -> Pair:
    golden = golden_graph(case)
    actual = ops.run_integer(golden.graph, golden.inputs)["y"]
    return actual.clip(*golden.bounds), golden.expected


RUNS: dict[str, Callable[[GoldenCase], Pair]] = {
    "conv2d": conv, "transpose_conv2d": transpose_conv, "linear": linear, "add": add, "mul": mul,
    "batch_matmul": batch_matmul, "maximum": extremum, "minimum": extremum, "svdf": svdf,
    "maxpool2d": max_pool, "avgpool2d": avg_pool, "softmax": softmax, "pad": through_graph,
    "network": network,
}  # fmt: skip


@pytest.fixture(scope="module")
def cases(data_dir: Path) -> dict[str, GoldenCase]:
    return {case.name: case for case in read_goldens(data_dir / "cmsis_nn_golden")}


def test_01_golden_vectors_bit_for_bit(cases: dict[str, GoldenCase]) -> None:
    passed, mismatches = set(), {}
    for name, case in cases.items():
        if name in NOT_RUN:
            continue
        actual, expected = RUNS[case.kind](case)
        assert actual.shape == expected.shape and actual.dtype == expected.dtype, name
        if wrong := int((actual != expected).sum()):
            mismatches[name] = f"{wrong} of {expected.size}"
        else:
            passed.add(name)
    assert not mismatches
    assert passed | set(NOT_RUN) == set(cases) and not passed & set(NOT_RUN)
    assert len(passed) == 124


def test_01_single_rounding_differs_where_upstream_says(cases: dict[str, GoldenCase]) -> None:
    g = golden_conv(cases["conv_2x2_dilation"])
    single = replace(g.epilogue, rounding=Rounding.SINGLE)
    actual = ops.conv2d(
        g.x, g.weight, g.bias, single, input_offset=g.input_offset, dilation=(2, 2)
    ).astype(int)
    assert np.abs(actual - g.expected).sum() == 1 and actual.size == 72


def test_01_one_op_graphs_give_the_golden_outputs(cases: dict[str, GoldenCase]) -> None:
    covered, refused = [], []
    for name, case in cases.items():
        try:
            actual, expected = through_graph(case)
        except UnsupportedOpError as error:
            assert repr(name) in str(error)
            refused.append(name)
            continue
        assert actual.shape == expected.shape and (actual == expected).all(), name
        covered.append(case.kind)
    assert set(covered) == {
        "conv2d", "linear", "maxpool2d", "avgpool2d", "add", "softmax", "pad"
    }  # fmt: skip
    assert len(covered) == 65
    # int8 cases that a graph cannot say, and why
    plain = [n for n in refused if cases[n].kind in set(covered) and not is_int16(cases[n])]
    assert plain == ["fully_connected_int4_6", "fully_connected_w_zp"]


def test_golden_graph_multipliers_are_those_of_the_case(cases: dict[str, GoldenCase]) -> None:
    graph = golden_graph(cases["conv_2"]).graph
    multipliers, shifts = ops.conv_requant(graph, graph.ops[0])
    assert (multipliers == cases["conv_2"].array("output_mult")).all()
    assert (shifts == cases["conv_2"].array("output_shift")).all()


def test_int4_packing_round_trip() -> None:
    values = np.arange(-8, 8, dtype=np.int8)[:15]
    packed = pack_int4(values)
    assert packed.nbytes == 8
    assert (unpack_int4(packed, 15) == values).all()
    assert unpack_int4(np.array([0x2F], np.uint8).astype(np.int8), 2).tolist() == [-1, 2]


def test_a_file_that_is_no_case_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="broken"):
        read_golden(path)
    np.savez(path, config=np.array({"a": 1}, dtype=object))
    with pytest.raises(DataError, match="broken"):
        read_golden(path)


def is_int16(case: GoldenCase) -> bool:
    return case.expected.dtype == np.int16
