"""What all int8 convolutions on a CPU with vectors share: layer constants, the int16 plane, bands.

The input is widened to int16 without its zero point, once per layer, a band of padded rows at a
time. Whatever vectors compute, the values are those of `cofit.ir.integer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant
from cofit.codegen.kernels.s8_layer import (
    Array,
    Int8,
    bounds_fields,
    constant,
    fits_30_bits,
    is_host,
    requantise_support,
    window_text,
)
from cofit.codegen.kernels.tile import split
from cofit.codegen.kernels.window import BAND_BYTES_HOST, Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, Rounding
from cofit.ir.integer import affine, conv_requant

LANES, TILE_ROWS, TILE_PIXELS = 8, 16, 6
SLACK = 16  # elements before and behind a plane that a kernel may read and multiply by zero


def no_vectors(machine: Machine) -> str | None:
    """The reason to leave the op to other families, on machines without vectors."""
    return None if is_host(machine) else f"{machine.name} has no vectors of eight int32"


def rounding_name(graph: Graph, op: Op, shifts: NDArray[np.int32]) -> str:
    """The `s8_host_rounding` of accumulators of an op: a fast one where proven exact."""
    assert graph.spec is not None
    if not fits_30_bits(graph, op) or int(shifts.max(initial=-1)) >= 0:
        return "S8_ANY"
    return "S8_ONCE" if graph.spec.rounding is Rounding.SINGLE else "S8_TWICE"


def vector_shifts(multiplier: NDArray[np.int32], shift: NDArray[np.int32]) -> NDArray[np.int32]:
    """Shifts in which those of multiplier zero, which means nothing there, are -1."""
    return np.where(multiplier == 0, np.int32(-1), shift).astype(np.int32)


@dataclass(frozen=True)
class HostRows:
    """Rows of a weight in a kernel's own order, padded with zeros to whole vectors.

    Attributes:
        weights: the packed values.
        order: output channel of each row; None for 0, 1, 2, ...
        start: first entry of each list; None without lists.
        index: places of the entries in a window; None without lists.
    """

    weights: Int8
    order: NDArray[np.uint16] | None = None
    start: NDArray[np.int32] | None = None
    index: NDArray[np.int32] | None = None


def host_layer(
    graph: Graph, op: Op, rows: HostRows, groups: int = 1, multiple: int = LANES
) -> tuple[str, tuple[Constant, ...]]:
    """C declaration of `layers`, one `s8_host_layer` per group, and the arrays it points to.

    Args:
        graph: an integer graph.
        op: a conv2d or linear op.
        rows: its weight.
        groups: of the convolution.
        multiple: rows of a group are padded to a multiple of this.
    """
    multiplier, shift = conv_requant(graph, op)
    shift = vector_shifts(multiplier, shift)
    bias, outputs = graph.tensors[op.inputs[2]].data, len(multiplier)
    assert bias is not None
    order = np.arange(outputs) if rows.order is None else rows.order
    each = len(order) // groups

    def padded(values: NDArray[np.int32], fill: int) -> NDArray[np.int32]:
        per_group = values[order].reshape(groups, each)
        whole = np.pad(per_group, ((0, 0), (0, -each % multiple)), constant_values=fill)
        return whole.astype(np.int32)

    parts: dict[str, Array] = {
        "weights": rows.weights.reshape(groups, -1),
        "bias": padded(bias.astype(np.int32), 0),
        "multiplier": padded(multiplier, 0),
        "shift": padded(shift, -1),
    }
    extra = {"channel": rows.order, "start": rows.start, "index": rows.index}
    parts.update({name: values for name, values in extra.items() if values is not None})
    constants = tuple(constant(name, values) for name, values in parts.items())
    sizes = (
        f".rows = {each}, .pitch = {outputs}, .rounding = {rounding_name(graph, op, shift)}, "
        f"{bounds_fields(graph, op)}"
    )

    def fields(group: int) -> str:
        pointers = (
            f".{array.name} = {array_name(array)} + {group * array.values.size // groups}"
            for array in constants
        )
        return "    {" + ",\n     ".join((*pointers, sizes)) + "}"

    listed = ",\n".join(fields(group) for group in range(groups))
    return f"static const s8_host_layer layers[{groups}] = {{\n{listed}}};", constants


@dataclass(frozen=True)
class Plane:
    """The widened input of a convolution: bands of padded rows in scratch.

    Attributes:
        window: the sliding window.
        offset: minus the zero point of the input.
    """

    window: Window
    offset: int

    @property
    def rows(self) -> int:
        """Output rows of a band."""
        w = self.window
        fit = (BAND_BYTES_HOST // (2 * max(w.row, 1)) - w.reach[0]) // w.stride[0] + 1
        return max(1, min(w.out_height, fit))

    @property
    def scratch_bytes(self) -> int:
        """2 bytes per element of a band, and the slack."""
        w = self.window
        height = (self.rows - 1) * w.stride[0] + w.reach[0]
        return 2 * (height * w.row + 2 * SLACK)

    @property
    def tiles(self) -> tuple[int, int]:
        """(pixels, larger): so many tiles of so many pixels in a row, the others one smaller."""
        first, *_ = split(self.window.out_width, TILE_PIXELS)
        return first

    @property
    def walk(self) -> str:
        """C declaration of the `s8_walk` named `walk`."""
        w = self.window
        return (
            f"static const s8_walk walk = {{.row = {w.stride[0] * w.row}, .pixel = {w.pixel}, "
            f".columns = {w.out_width}, .larger = {self.tiles[1]}}};"
        )

    def loop(self, body: str) -> str:
        """C over all bands; `body` finds outputs [y0, y1) of `plane`."""
        w = self.window
        lines = [
            window_text(w, self.offset, w.channels),
            f"int16_t *const plane = (int16_t *)(void *)scratch + {SLACK};",
            f"for (int32_t y0 = 0; y0 < {w.out_height}; y0 += {self.rows}) {{",
            f"    const int32_t end = y0 + {self.rows};",
            f"    const int32_t y1 = end < {w.out_height} ? end : {w.out_height};",
            f"    s8_plane(&window, in0, y0, y1, {w.padding[3]}, plane);",
            *(f"    {line}" for line in body.splitlines()),
            "}",
        ]
        return "\n".join(lines)


def plane_of(graph: Graph, op: Op) -> Plane:
    """Plane of a conv2d or linear op."""
    return Plane(_folded(window(graph, op)), -affine(graph, op.inputs[0])[1])


def _folded(w: Window) -> Window:
    """A single row too long for a band as several equal ones, where nothing tells rows apart."""
    pixels = w.width
    longest = BAND_BYTES_HOST // (2 * w.channels)
    if w.height > 1 or w.flat() is not w or pixels <= longest:
        return w
    if w.kernel != (1, 1) or w.stride != (1, 1) or any(w.padding):
        return w
    width = max((d for d in range(1, longest + 1) if pixels % d == 0), default=1)
    if width < TILE_PIXELS:
        return w
    rows = pixels // width
    return replace(w, height=rows, width=width, out_height=rows, out_width=width)


def host_support(graph: Graph, *names: str) -> tuple[str, ...]:
    """Support files of a family that requantises: the graph's rounding before all others."""
    return (requantise_support(graph), *names)


def runs_text(w: Window, pairs: int) -> str:
    """C declaration of the `s8_run_list` of a dense window, named `runs`."""
    across = 1 if merged(w) else w.kernel[1]
    down_step = w.dilation[0] * w.row
    return (
        f"static const s8_run_list runs = {{.down = {w.kernel[0]}, .down_step = {down_step}, "
        f".across = {across}, .across_step = {w.dilation[1] * w.channels}, .pairs = {pairs}}};"
    )


def merged(w: Window) -> bool:
    """Whether the elements of a window's row are neighbours."""
    return w.groups == 1 and (w.dilation[1] == 1 or w.kernel[1] == 1)


def run_length(w: Window) -> int:
    """Neighbouring elements in a run of a window."""
    return w.channels * w.kernel[1] if merged(w) else math.prod((w.channels // w.groups,))
