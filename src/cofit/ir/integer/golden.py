"""Test vectors of CMSIS-NN (npz, one a case): reading them into the layouts of cofit.

Each file holds the C arrays of a test case under their own names and its integer `#define`s as
JSON in `config`. Names lose the prefix of the case here. Weights of int4 cases are packed two a
byte, low half first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cofit.core import DataError
from cofit.ir import attributes as at
from cofit.ir.integer.accumulate import Ints
from cofit.ir.integer.epilogue import Bounds, Epilogue

# Upstream keeps two generations of arrays in the folders of its int4 convolutions. The npz hold the
# older one whole, but the `#define`s of the newer. What differs: offsets and geometry are what
# reproduces the older outputs, bounds are those of the int8 case of the same name.
_PLAIN = {"INPUT_OFFSET": 0}
_OLDER_CONFIG: dict[str, dict[str, int]] = {
    "conv_1_x_n_1_int4": _PLAIN | {"OUT_ACTIVATION_MIN": -127},
    "conv_1_x_n_2_int4": {"OUT_ACTIVATION_MIN": -111},
    "conv_1_x_n_3_int4": _PLAIN | {"OUT_ACTIVATION_MIN": -111},
    "conv_2_int4": _PLAIN | {"OUT_ACTIVATION_MIN": -101},
    "conv_2x2_dilation_5x5_input_int4": _PLAIN
    | {"OUT_ACTIVATION_MIN": -61, "OUT_ACTIVATION_MAX": 107},
    "conv_2x2_dilation_int4": _PLAIN | {"OUT_ACTIVATION_MIN": -61, "OUT_ACTIVATION_MAX": 107},
    "conv_2x3_dilation_int4": _PLAIN
    | {"OUT_ACTIVATION_MIN": -61, "OUT_ACTIVATION_MAX": 107, "DILATION_X": 2, "DILATION_Y": 2}
    | {"PAD_X": 2, "PAD_Y": 2},
    "conv_3x3_dilation_5x5_input_int4": {"OUT_ACTIVATION_MIN": -61, "OUT_ACTIVATION_MAX": 107}
    | {"INPUT_W": 9, "INPUT_H": 11, "OUTPUT_W": 9, "OUTPUT_H": 11}
    | {"DILATION_X": 2, "DILATION_Y": 2, "PAD_X": 2, "PAD_Y": 2},
    "conv_4_int4": _PLAIN | {"OUT_ACTIVATION_MIN": -109},
    "conv_dilation_golden_int4": _PLAIN,
    "conv_out_activation_int4": _PLAIN | {"OUT_ACTIVATION_MAX": 107},
    "kernel1x1_int4_3": _PLAIN | {"OUT_ACTIVATION_MIN": -126},
    "kernel1x1_stride_x_int4": _PLAIN | {"OUT_ACTIVATION_MIN": -126},
    "kernel1x1_stride_x_y_1_int4": {"OUT_ACTIVATION_MIN": -126},
    "stride2pad1_int4": _PLAIN,
}
_PREFIXES = {
    "add": "add", "mul": "mul", "maximum": "maximum", "minimum": "minimum",
    "avgpooling": "avgpool2d", "maxpool": "maxpool2d", "softmax": "softmax", "pad": "pad",
    "fully_connected": "linear", "fc": "linear", "batch_matmul": "batch_matmul",
    "transpose_conv": "transpose_conv2d", "reverse_transpose_conv": "transpose_conv2d",
    "transpose": "transpose", "svdf": "svdf", "lstm": "lstm", "ds_cnn": "network",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class GoldenCase:
    """One test case: `arrays` (flat) and `config`, names without the case's prefix."""

    name: str
    arrays: Mapping[str, Ints]
    config: Mapping[str, int]

    @property
    def kind(self) -> str:
        """Kind of operator; "conv2d" for every name that says nothing else."""
        matching = [prefix for prefix in _PREFIXES if self.name.startswith(prefix)]
        return _PREFIXES[max(matching, key=len)] if matching else "conv2d"

    def array(self, *names: str) -> Ints:
        """The first array present among `names`."""
        found = self.optional(*names)
        if found is None:
            raise DataError(f"golden case {self.name!r} has none of the arrays {names}")
        return found

    def optional(self, *names: str) -> Ints | None:
        """The first array present among `names`, or None."""
        return next((self.arrays[name] for name in names if name in self.arrays), None)

    @property
    def expected(self) -> Ints:
        """Reference output, flat, in the layout of the case."""
        return self.array("output_ref", "output")

    @property
    def bounds(self) -> Bounds:
        """Clamp of the output."""
        prefix = "OUT_" if "OUT_ACTIVATION_MIN" in self.config else ""
        return (
            self.config[f"{prefix}ACTIVATION_MIN"],
            self.config[f"{prefix}ACTIVATION_MAX"],
        )


@dataclass(frozen=True, eq=False)
class GoldenConv:
    """A convolution case in the layouts of cofit: activations NCHW, weights KCRS."""

    x: Ints
    weight: Ints
    bias: Ints | None
    attributes: at.Conv2d
    input_offset: int
    epilogue: Epilogue
    expected: Ints


@dataclass(frozen=True, eq=False)
class GoldenLinear:
    """A fully connected case: x (N, C), weight (K, C)."""

    x: Ints
    weight: Ints
    bias: Ints | None
    input_offset: int
    filter_offset: int
    epilogue: Epilogue
    expected: Ints


class Window(NamedTuple):
    """Where a pooling case looks."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: at.Pads


def read_golden(path: Path) -> GoldenCase:
    """Read one npz; never unpickles.

    Raises:
        DataError: the file is not a golden case.
    """
    name = path.stem
    try:
        with np.load(path, allow_pickle=False) as archive:
            config = json.loads(str(archive["config"]))
            arrays = {key: archive[key] for key in archive.files if key != "config"}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{str(path)!r} is not a golden case: {error}") from error
    plain = {_without(key, name.upper()): int(value) for key, value in config.items()}
    return GoldenCase(
        name,
        {_without(key, name): values for key, values in arrays.items()},
        plain | _OLDER_CONFIG.get(name, {}),
    )


def read_goldens(folder: Path) -> list[GoldenCase]:
    """All cases of a folder, by name."""
    return [read_golden(path) for path in sorted(folder.glob("*.npz"))]


def unpack_int4(packed: NDArray[np.int8], count: int) -> NDArray[np.int8]:
    """Signed 4-bit values held two a byte, low half first, as int8 (count,)."""
    low = (packed << 4) >> 4
    return np.stack([low, packed >> 4], axis=1).reshape(-1)[:count]


def pack_int4(values: NDArray[np.int8]) -> NDArray[np.int8]:
    """Inverse of `unpack_int4`; an odd count leaves the last high half zero."""
    flat = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8))
    packed: NDArray[np.int8] = (flat[0::2] & 0x0F) | (flat[1::2] << 4)
    return packed


def nchw(flat: Ints, height: int, width: int, channels: int) -> Ints:
    """A flat NHWC array as (N, C, H, W)."""
    return np.ascontiguousarray(flat.reshape(-1, height, width, channels).transpose(0, 3, 1, 2))


def golden_conv(case: GoldenCase) -> GoldenConv:
    """A dense, grouped or depthwise convolution case, int8 or int16."""
    c = case.config
    channels, filters, kernel = c["IN_CH"], c["OUT_CH"], (c["FILTER_Y"], c["FILTER_X"])
    groups = channels if "CH_MULT" in c else channels // c.get("FILTER_CH", channels)
    weight = _weights(case, filters * channels // groups * kernel[0] * kernel[1])
    if "CH_MULT" in c:  # (1, R, S, K)
        weight = weight.reshape(*kernel, filters, 1).transpose(2, 3, 0, 1)
    else:  # (K, R, S, C / groups)
        weight = weight.reshape(filters, *kernel, channels // groups).transpose(0, 3, 1, 2)
    size = (c["INPUT_H"], c["INPUT_W"])
    x = nchw(case.array("input"), *size, channels)
    width = c["OUTPUT_W"]
    height = c.get("OUTPUT_H", case.expected.size // (len(x) * width * filters))
    stride, dilation = (c["STRIDE_Y"], c["STRIDE_X"]), (c["DILATION_Y"], c["DILATION_X"])
    reach = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
    pads = _pads((c["PAD_Y"], c["PAD_X"]), size, (height, width), reach, stride)
    bias = case.optional("biases", "bias", "input_bias")
    return GoldenConv(
        x,
        np.ascontiguousarray(weight),
        bias,
        at.Conv2d(stride, pads, dilation, groups),
        c["INPUT_OFFSET"],
        Epilogue(
            case.array("output_mult", "output_multiplier"),
            case.array("output_shift"),
            c["OUTPUT_OFFSET"],
            case.bounds,
            wide=bias is not None and bias.dtype == np.int64,
        ),
        nchw(case.expected, height, width, filters),
    )


def golden_linear(case: GoldenCase) -> GoldenLinear:
    """A fully connected case, int8 or int16."""
    c = case.config
    depth, filters = c["ACCUMULATION_DEPTH"], c["OUT_CH"]
    bias = case.optional("biases", "bias", "input_bias")
    per_tensor = "OUTPUT_MULTIPLIER" in c
    return GoldenLinear(
        case.array("input").reshape(-1, depth),
        _weights(case, filters * depth).reshape(filters, depth),
        bias,
        c["INPUT_OFFSET"],
        c.get("FILTER_OFFSET", 0),
        Epilogue(
            c["OUTPUT_MULTIPLIER"]
            if per_tensor
            else case.array("output_mult", "output_multiplier"),
            c["OUTPUT_SHIFT"] if per_tensor else case.array("output_shift"),
            c["OUTPUT_OFFSET"],
            case.bounds,
            wide=bias is not None and bias.dtype == np.int64,
        ),
        case.expected.reshape(-1, filters),
    )


def golden_pool(case: GoldenCase) -> tuple[Ints, Window, Ints]:
    """Input, window and expected output of a pooling case, int8 or int16."""
    c = case.config
    size, out = (c["INPUT_H"], c["INPUT_W"]), (c["OUTPUT_H"], c["OUTPUT_W"])
    kernel, stride = (c["FILTER_H"], c["FILTER_W"]), (c["STRIDE_H"], c["STRIDE_W"])
    pads = _pads((c["PADDING_H"], c["PADDING_W"]), size, out, kernel, stride)
    return (
        nchw(case.array("input_tensor"), *size, c["INPUT_C"]),
        Window(kernel, stride, pads),
        nchw(case.expected, *out, c["OUTPUT_C"]),
    )


def _pads(
    before: tuple[int, int],
    size: tuple[int, int],
    out: tuple[int, int],
    reach: tuple[int, int],
    stride: tuple[int, int],
) -> at.Pads:
    """Top, bottom, left, right: what the stated output size needs after the stated padding."""
    after = [max((out[i] - 1) * stride[i] + reach[i] - size[i] - before[i], 0) for i in range(2)]
    return before[0], after[0], before[1], after[1]


def _weights(case: GoldenCase, count: int) -> Ints:
    held = case.array("weights", "input_weights")
    return held if held.size == count else unpack_int4(held, count)


def _without(name: str, prefix: str) -> str:
    return name.removeprefix(f"{prefix}_")
