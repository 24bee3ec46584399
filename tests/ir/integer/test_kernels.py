"""Kernels against loops over single elements in Python integers."""

import itertools

import numpy as np
import pytest
import torch

from cofit.core import numpy_generator
from cofit.ir.integer import Epilogue, avg_pool, batch_matmul, conv2d, linear, max_pool, requantise
from cofit.ir.integer.accumulate import conv_sums, exact_dtype, matrix_sums
from cofit.ir.types import Rounding

# channels, filters, groups, kernel, stride, padding, dilation, size
SHAPES = [
    (1, 1, 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), (5, 4)),
    (3, 5, 1, (3, 2), (2, 1), (0, 1, 1, 0), (1, 1), (7, 6)),
    (4, 6, 2, (1, 3), (1, 2), (0, 0, 2, 1), (1, 2), (3, 9)),
    (5, 5, 5, (3, 3), (2, 2), (0, 1, 0, 1), (1, 1), (6, 7)),
    (3, 6, 3, (2, 2), (1, 1), (1, 0, 0, 1), (2, 1), (5, 5)),
    (7, 2, 1, (1, 1), (3, 3), (0, 0, 0, 0), (1, 1), (7, 4)),
]


def naive_conv(x, weight, bias, offset, stride, padding, dilation, groups) -> np.ndarray:
    batch, _, height, width = x.shape
    filters, per_group, rows, columns = weight.shape
    top, bottom, left, right = padding
    out_h = (height + top + bottom - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    out_w = (width + left + right - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    y = np.zeros((batch, filters, out_h, out_w), object)
    for n, k, i, j in np.ndindex(y.shape):
        first = k // (filters // groups) * per_group
        acc = int(bias[k])
        for c, r, s in itertools.product(range(per_group), range(rows), range(columns)):
            h, w = i * stride[0] + r * dilation[0] - top, j * stride[1] + s * dilation[1] - left
            if 0 <= h < height and 0 <= w < width:
                acc += (int(x[n, first + c, h, w]) + offset) * int(weight[k, c, r, s])
        y[n, k, i, j] = acc
    return y


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rounding", Rounding)
def test_conv_equals_loops(shape, rounding: Rounding) -> None:
    channels, filters, groups, kernel, stride, padding, dilation, size = shape
    generator = numpy_generator(0, "conv", str(shape))
    x = generator.integers(-128, 128, (2, channels, *size), np.int8)
    weight = generator.integers(-127, 128, (filters, channels // groups, *kernel), np.int8)
    bias = generator.integers(-5000, 5000, filters, np.int32)
    multiplier = generator.integers(1 << 30, 1 << 31, filters)
    shift = generator.integers(-10, -6, filters)
    acc = naive_conv(x, weight, bias, 17, stride, padding, dilation, groups)
    y = conv2d(
        x, weight, bias, Epilogue(multiplier, shift, -3, (-100, 90), rounding),
        input_offset=17, stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    per_channel = (multiplier.reshape(-1, 1, 1), shift.reshape(-1, 1, 1))
    wanted = (requantise(acc.astype(np.int64), *per_channel, rounding) - 3).clip(-100, 90)
    assert y.dtype == np.int8
    assert (y == wanted).all()
    assert len(np.unique(y)) > 5  # not all clamped


def test_linear_and_matmul_equal_loops() -> None:
    generator = numpy_generator(0, "linear")
    x = generator.integers(-128, 128, (3, 4, 7), np.int8)
    weight = generator.integers(-127, 128, (5, 7), np.int8)
    bias = generator.integers(-900, 900, 5, np.int32)
    one = Epilogue(1 << 30, 1, 0, (-32768, 32767))  # factor 1
    y = linear(x.astype(np.int16), weight, bias, one, input_offset=-4, filter_offset=2)
    for n, t, k in np.ndindex(3, 4, 5):
        terms = [(int(a) - 4) * (int(b) + 2) for a, b in zip(x[n, t], weight[k], strict=True)]
        assert matrix_sums(x, weight, input_offset=-4)[n, t, k] == sum(
            (int(a) - 4) * int(b) for a, b in zip(x[n, t], weight[k], strict=True)
        )
        assert y[n, t, k] == min(max(sum(terms) + int(bias[k]), -32768), 32767)
    right = generator.integers(-128, 128, (3, 7, 2), np.int8).astype(np.int16)
    z = batch_matmul(x.astype(np.int16), right, one, left_offset=1, right_offset=-1)
    wanted = (x.astype(object) + 1) @ (right.astype(object) - 1)
    assert (z == wanted.clip(-32768, 32767)).all()


def test_sums_are_exact_beyond_float32() -> None:
    generator = numpy_generator(0, "large")
    x = generator.integers(-128, 128, (1, 600, 5, 5), np.int8)
    weight = generator.integers(100, 128, (2, 600, 3, 3), np.int8)
    assert exact_dtype(x, weight, 128) is np.float64
    wanted = torch.nn.functional.conv2d(
        torch.from_numpy(x).long() + 128, torch.from_numpy(weight).long()
    )
    assert int(wanted.max()) > 1 << 24
    assert (conv_sums(x, weight, input_offset=128) == wanted.numpy()).all()


def test_float32_is_used_only_up_to_the_proven_bound() -> None:
    x = np.zeros((1, 1, 1, 1), np.int8)
    # |x + 0| <= 128: 128 * 131072 = 2^24 exactly
    most = np.full((1, 1024, 1, 1), 127, np.int8)
    most[0, :8] = [[[120]]]
    assert 128 * int(np.abs(most.astype(int)).sum()) < 1 << 24
    assert exact_dtype(x, most, 0) is np.float32
    more = np.full((1, 1040, 1, 1), 127, np.int8)
    assert 128 * int(np.abs(more.astype(int)).sum()) > 1 << 24
    assert exact_dtype(x, more, 0) is np.float64


@pytest.mark.parametrize("images", [1, 16, 33])
def test_convolution_algorithms_of_torch_stay_exact(images: int) -> None:
    # batch sizes at which torch picks different libraries; 3x3 stride 1 tempts Winograd
    generator = numpy_generator(0, "algorithms")
    x = generator.integers(-128, 128, (images, 16, 12, 12), np.int8)
    weight = generator.integers(-127, 128, (16, 16, 3, 3), np.int8)
    wanted = torch.nn.functional.conv2d(
        torch.from_numpy(x).long() + 128, torch.from_numpy(weight).long(), padding=1
    )
    assert (conv_sums(x, weight, input_offset=128, padding=(1, 1, 1, 1)) == wanted.numpy()).all()


@pytest.mark.parametrize("fill", [None, -7])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 0, 0, 1)])
def test_pools_equal_loops(fill: int | None, padding: tuple[int, int, int, int]) -> None:
    x = numpy_generator(0, "pool").integers(-128, 128, (2, 3, 6, 7), np.int8)
    kernel, stride = (2, 3), (2, 2)
    window = {"kernel": kernel, "stride": stride, "padding": padding}
    means = avg_pool(x, **window, bounds=(-90, 90), fill=fill)
    maxima = max_pool(x, **window, bounds=(-128, 100))
    for n, c, i, j in np.ndindex(means.shape):
        rows = range(i * 2 - padding[0], i * 2 - padding[0] + 2)
        columns = range(j * 2 - padding[2], j * 2 - padding[2] + 3)
        inside = [int(x[n, c, h, w]) for h in rows for w in columns if 0 <= h < 6 and 0 <= w < 7]
        taken = inside if fill is None else inside + [fill] * (6 - len(inside))
        magnitude = (2 * abs(sum(taken)) + len(taken)) // (2 * len(taken))
        mean = magnitude if sum(taken) >= 0 else -magnitude
        assert means[n, c, i, j] == min(max(mean, -90), 90)
        assert maxima[n, c, i, j] == min(max(inside), 100)
