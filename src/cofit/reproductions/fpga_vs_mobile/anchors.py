"""Five measured networks, an FPGA calibrated on three of them, and what their energy column is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cofit.core import ConfigError
from cofit.targets.platforms import LayerWork, Parameters, estimate

ARCHITECTURES = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
    "|avg_pool_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|avg_pool_3x3~0|avg_pool_3x3~1|avg_pool_3x3~2|",
)  # fmt: skip
"""Cells no. 0 to 2 of NAS-Bench-201."""

FBNET_STAGES = (
    (16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1),
)  # fmt: skip
"""Channels, blocks and stride of FBNet's stages behind a stem of 16 channels and stride 2."""

FBNET_HEAD = 1504


@dataclass(frozen=True)
class Anchor:
    """A row of HW-NAS-Bench (MIT): its README and the outputs stored in example.ipynb.

    Attributes:
        name: of the network and its input.
        fpga_ms, fpga_mj: of the FPGA column.
        phone_ms: of a Pixel 3.
    """

    name: str
    fpga_ms: float
    fpga_mj: float
    phone_ms: float

    @property
    def fpga_w(self) -> float:
        """Energy over latency."""
        return self.fpga_mj / self.fpga_ms


ANCHORS = (
    Anchor("NB201 no. 0, 32x32", 2.57296, 18.01072, 3.61),
    Anchor("NB201 no. 1, 32x32", 5.315, 37.21, 17.2),
    Anchor("NB201 no. 2, 32x32", 5.287, 37.01, 15.7),
    Anchor("NB201 no. 1, 16x16", 1.878, 13.15, 6.59),
    Anchor("FBNet, first choice everywhere, 224x224", 29.4219, 205.9533, 27.5),
)
CALIBRATED_ON = 3
PHONE_W = 3.0
"""Assumed: no phone of the table has an energy column."""


def works_of_anchor(number: int) -> tuple[LayerWork, ...]:
    """The layers of a row, in int8."""
    if number == 4:
        return fbnet()
    architecture = ARCHITECTURES[(0, 1, 2, 1)[number]]
    return nas_bench_201(architecture, 16 if number == 3 else 32)


def nas_bench_201(architecture: str, side: int) -> tuple[LayerWork, ...]:
    """The layers of a NAS-Bench-201 network: three stages of five cells.

    Means over 3x3 windows are depthwise layers: the array adds what it would else multiply.

    Args:
        architecture: of the cell, as the benchmark writes it.
        side: of the input image.

    Raises:
        ConfigError: an unknown operation in a cell.
    """
    works = [_conv("stem", 3, 16, 3, side)]
    channels = 16
    for stage in range(3):
        if stage:
            channels, side = 2 * channels, side // 2
            half = channels // 2
            works += [
                _conv(f"reduce {stage}a", half, channels, 3, side),
                _conv(f"reduce {stage}b", channels, channels, 3, side),
                _conv(f"reduce {stage} shortcut", half, channels, 1, side),
            ]
        for cell in range(5):
            for place, edge in enumerate(architecture.replace("+", "").split("|")):
                operation = edge.partition("~")[0]
                if operation in ("nor_conv_3x3", "nor_conv_1x1"):
                    kernel = int(operation[-1])
                    works.append(
                        _conv(f"cell {stage}.{cell}.{place}", channels, channels, kernel, side)
                    )
                elif operation == "avg_pool_3x3":
                    works.append(_depthwise(f"cell {stage}.{cell}.{place}", channels, side))
                elif operation not in ("", "none", "skip_connect"):
                    raise ConfigError(f"unknown operation {operation!r} in {architecture!r}")
    return (*works, LayerWork("head", "dense", 10, channels, 1, 1, 1, channels, 10, "int8"))


def fbnet() -> tuple[LayerWork, ...]:
    """FBNet at 224x224 with the first choice in every block: kernel 3, expansion 1."""
    side, channels = 112, 16
    works = [_conv("stem", 3, channels, 3, side)]
    for stage, (out, blocks, stride) in enumerate(FBNET_STAGES):
        for block in range(blocks):
            name = f"block {stage}.{block}"
            works.append(_conv(f"{name} expand", channels, channels, 1, side))
            side //= stride if block == 0 else 1
            works.append(_depthwise(f"{name} depthwise", channels, side))
            works.append(_conv(f"{name} project", channels, out, 1, side))
            channels = out
    works.append(_conv("head", channels, FBNET_HEAD, 1, side))
    classes = LayerWork("classes", "dense", 1000, FBNET_HEAD, 1, 1, 1, FBNET_HEAD, 1000, "int8")
    return (*works, classes)


def calibrated(found: Parameters, rows: Sequence[int]) -> Parameters:
    """An FPGA whose clock and bandwidth are fitted to measured rows, neither above its nominal.

    A fixed schedule needs no time to start a layer. The least squares of relative errors are
    sought on a grid of 5 % steps; the least slowdown of the clock wins where several serve. The
    board takes the power that the first row states.
    """
    unlimited = found.having(board__launch=0.0, board__bandwidth=1e18)
    steps = 1.05 ** np.arange(120)
    errors = np.zeros((len(steps), len(steps)))  # slowdown of the clock, of the link
    for row in rows:
        works = works_of_anchor(row)
        layers = estimate(unlimited, works).layers
        compute = np.array([layer.latency_s[0] for layer in layers])
        link = np.array([w.weight_bytes + w.activation_bytes for w in works])
        link = link / found["board.bandwidth"]
        seconds = np.stack(
            [np.maximum(compute * slow, steps[:, None] * link).sum(1) for slow in steps]
        )
        errors += (1e3 * seconds / ANCHORS[row].fpga_ms - 1) ** 2
    slower, narrower = np.unravel_index(int(errors.argmin()), errors.shape)
    return found.having(
        fabric__clock=found["fabric.clock"] / steps[slower],
        board__bandwidth=found["board.bandwidth"] / steps[narrower],
        board__launch=0.0,
        board__board_power=ANCHORS[rows[0]].fpga_w,
    )


def predicted_ms(found: Parameters, row: int) -> float:
    """Latency of a row on a platform."""
    return 1e3 * float(estimate(found, works_of_anchor(row)).latency_s[0])


def statement(predictions: Sequence[float], rows: Sequence[int], factor: float = 2.0) -> str:
    """Whether predictions of rows are within a factor, in words."""
    ratios = [p / ANCHORS[row].fpga_ms for p, row in zip(predictions, rows, strict=True)]
    worst = max(max(ratio, 1 / ratio) for ratio in ratios)
    verb = "are" if worst <= factor else "are not"
    numbers = ", ".join(str(row + 1) for row in rows)
    return (
        f"FPGA latencies of rows {numbers} {verb} predicted within a factor {factor:g} "
        f"(worst {worst:.2f})"
    )


def _depthwise(name: str, channels: int, side: int) -> LayerWork:
    size = channels * side * side
    return LayerWork(name, "depthwise", channels, 1, 9, side, side, size, size, "int8")


def _conv(name: str, channels: int, filters: int, kernel: int, side: int) -> LayerWork:
    return LayerWork(
        name, "conv1x1" if kernel == 1 else "conv3x3", filters, channels, kernel * kernel, side,
        side, channels * side * side, filters * side * side, "int8",
    )  # fmt: skip
