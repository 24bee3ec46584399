"""Convolutions: dense, grouped, depthwise (groups = C), and transposed."""

from __future__ import annotations

import numpy as np

from cofit.ir.attributes import Pads
from cofit.ir.integer.accumulate import Ints, conv_sums
from cofit.ir.integer.epilogue import Epilogue


def conv2d(
    x: Ints,
    weight: Ints,
    bias: Ints | None,
    epilogue: Epilogue,
    *,
    input_offset: int,
    stride: tuple[int, int] = (1, 1),
    padding: Pads = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Ints:
    """Convolution of int8 or int16 activations with int8 weights.

    Args:
        x: (N, C, H, W).
        weight: (K, C/groups, R, S); symmetric, per-channel scales are in the epilogue.
        bias: (K,) or None.
        epilogue: requantisation with one multiplier or K.
        input_offset: minus the zero point of x.
        stride: rows, columns.
        padding: top, bottom, left, right; padding stands for the real number zero.
        dilation: rows, columns.
        groups: number of channel groups.

    Returns:
        (N, K, H', W') of x's dtype.
    """
    acc = conv_sums(
        x, weight, input_offset=input_offset, stride=stride, padding=padding, dilation=dilation,
        groups=groups,
    )  # fmt: skip
    if bias is not None:
        acc += bias.astype(np.int64).reshape(1, -1, 1, 1)
    return epilogue(acc, x.dtype, channel_axis=1)


def transpose_conv2d(
    x: Ints,
    weight: Ints,
    bias: Ints | None,
    epilogue: Epilogue,
    *,
    input_offset: int,
    stride: tuple[int, int],
    padding: tuple[int, int],
    output_size: tuple[int, int],
) -> Ints:
    """Transposed convolution: every input element adds its weighted kernel to the output.

    Args:
        x: (N, C, H, W) int8.
        weight: (K, C, R, S).
        bias: (K,) or None.
        epilogue: requantisation with one multiplier or K.
        input_offset: minus the zero point of x.
        stride: rows, columns between the kernels of neighbouring inputs.
        padding: rows cut from the top, columns cut from the left of the full output.
        output_size: rows, columns kept after the cut.

    Returns:
        (N, K, *output_size) of x's dtype.
    """
    batch, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    spread = np.zeros(
        (batch, channels, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1), np.int16
    )
    spread[:, :, :: stride[0], :: stride[1]] = x.astype(np.int16) + np.int16(input_offset)
    bottom = max(padding[0] + output_size[0] - spread.shape[2], 0)
    right = max(padding[1] + output_size[1] - spread.shape[3], 0)
    flipped = np.ascontiguousarray(weight[:, :, ::-1, ::-1])
    acc = conv_sums(spread, flipped, input_offset=0, padding=(rows - 1, bottom, columns - 1, right))
    acc = acc[:, :, padding[0] :, padding[1] :][:, :, : output_size[0], : output_size[1]]
    if bias is not None:
        acc = acc + bias.astype(np.int64).reshape(1, -1, 1, 1)
    return epilogue(acc, x.dtype, channel_axis=1)
