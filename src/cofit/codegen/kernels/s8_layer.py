"""What all int8 convolutions share: columns of input, epilogue constants, loops over pixels."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant
from cofit.codegen.kernels.shares import Shares, count_text, moved, range_of, share_rows
from cofit.codegen.kernels.window import Window, window
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op, Rounding, kept_macs
from cofit.ir.integer import (
    add_requant,
    affine,
    concat_requant,
    conv_requant,
    mean_requant,
    mul_requant,
    norm_bound,
    norm_parameters,
    output_bounds,
    product_bound,
    product_requant,
    recurrent_bounds,
    recurrent_parameters,
    state_requant,
)

Array = NDArray[np.generic]
Int8 = NDArray[np.int8]
SHUFFLE = (0, 2, 1, 3)  # order in which SXTB16 and SXTB16 of the rotated word give neighbours


def requantise_support(graph: Graph) -> str:
    """Support file of the graph's rounding; must precede all that requantise."""
    assert graph.spec is not None
    name = "double" if graph.spec.rounding is Rounding.DOUBLE else "single"
    return f"s8_requantise_{name}{'' if _fits_30_bits(graph) else '_wide'}.h"


@functools.lru_cache(maxsize=64)
def _fits_30_bits(graph: Graph) -> bool:
    """Whether every accumulator stays below 2^30, so that one multiplication scales it."""
    return all(fits_30_bits(graph, op) for op in graph.ops)


def fits_30_bits(graph: Graph, op: Op) -> bool:
    """Whether the accumulators of one op stay below 2^30, shifted left as its scaling asks."""
    if op.kind in ("conv2d", "linear"):
        bound = accumulator_bound(graph, op)
        _, shift = conv_requant(graph, op)
    elif op.kind == "globalmean":
        bound = np.array([255 * math.prod(graph.tensors[op.inputs[0]].shape[2:])])
        shift = np.array([mean_requant(graph, op)[1]])
    elif op.kind == "mul":
        bound, shift = np.array([255 * 255]), np.array([mul_requant(graph, op)[1]])
    elif op.kind == "add":
        requant = add_requant(graph, op)
        pairs = (requant.first, requant.second, requant.output)
        bound, shift = np.array([255 << 20] * 3), np.array([pair[1] for pair in pairs])
    elif op.kind == "concat":
        shifts = [pair[1] for pair in concat_requant(graph, op) if pair is not None]
        bound, shift = np.array([255]), np.array(shifts or [0])
    elif op.kind == "matmul":
        bound, shift = (
            np.array([product_bound(graph, op)]),
            np.array([product_requant(graph, op)[1]]),
        )
    elif op.kind == "layernorm":
        bound = np.array([norm_bound(graph, op)])
        shift = np.array([norm_parameters(graph, op).shift])
    elif op.kind in ("gru", "lstm"):
        parameters = recurrent_parameters(graph, op)
        bound = np.concatenate([*recurrent_bounds(graph, op), [1 << 15]])
        last = state_requant(graph, op)[1]
        shift = np.concatenate([parameters.inner[1], parameters.outer[1], [last]])
    else:
        return True
    return bool((bound << np.maximum(shift, 0)).max(initial=0) < 1 << 30)


def accumulator_bound(graph: Graph, op: Op) -> NDArray[np.int64]:
    """(K,) that the accumulators of a conv2d or linear op never exceed, whatever the input."""
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None
    sums = np.abs(weight_values(graph, op).astype(np.int64)).sum(axis=(1, 2, 3))
    bound: NDArray[np.int64] = 255 * sums + np.abs(bias.astype(np.int64))
    return bound


def constant(name: str, values: Array) -> Constant:
    """A const array, one zero if empty: C has no arrays without elements."""
    return Constant(name, values if values.size else np.zeros(1, values.dtype))


def bounds_fields(graph: Graph, op: Op) -> str:
    """C initialisers of zero_point, low and high of the op's output."""
    low, high = output_bounds(graph, op)
    return f".zero_point = {affine(graph, op.output)[1]}, .low = {low}, .high = {high}"


def weight_values(graph: Graph, op: Op) -> Int8:
    """Stored weights of a conv2d or linear op, as (K, C, R, S)."""
    weight = graph.tensors[op.inputs[1]]
    assert weight.data is not None
    k, c, r, s = (*weight.shape, 1, 1)[:4]
    return weight.data.astype(np.int8).reshape(k, c, r, s)


def reject_weighted(graph: Graph, op: Op) -> str | None:
    """None if the op is a conv2d or linear whose integers are in range."""
    if op.kind not in ("conv2d", "linear"):
        return f"{op.kind} has no weights"
    try:
        conv_requant(graph, op)
    except UnsupportedOpError as error:
        return str(error)
    return None


def reject_scalar(graph: Graph, op: Op, machine: Machine) -> str | None:
    """As `reject_weighted`, of kernels for machines without vectors."""
    return reject_weighted(graph, op) or ("vectors are faster" if is_host(machine) else None)


@dataclass(frozen=True)
class Rows:
    """Rows of a weight in a kernel's own order.

    Attributes:
        weights: the packed values.
        order: output channel of each row; None for 0, 1, 2, ...
        count: per group, as the kernel's support code says.
        index: per entry, as the kernel's support code says.
    """

    weights: Int8
    order: NDArray[np.uint16] | None = None
    count: NDArray[np.uint16] | None = None
    index: NDArray[np.uint16] | None = None


def layer_constants(
    graph: Graph, op: Op, rows: Rows, groups: int = 1
) -> tuple[str, tuple[Constant, ...]]:
    """C declaration of `layers`, one `s8_layer` per group, and the arrays it points to."""
    multiplier, shift = conv_requant(graph, op)
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None
    k, c, r, s = weight_values(graph, op).shape
    order = np.arange(k) if rows.order is None else rows.order
    parts: dict[str, Array] = {
        "weights": rows.weights,
        "bias": bias.astype(np.int32)[order],
        "multiplier": multiplier.astype(np.int32)[order],
        "shift": shift.astype(np.int8)[order],
    }
    extra = {"channel": rows.order, "count": rows.count, "index": rows.index}
    parts.update({name: values for name, values in extra.items() if values is not None})
    constants = tuple(constant(name, values) for name, values in parts.items())
    per_group = len(order) // groups
    step = {"weights": rows.weights.size // groups}
    sizes = f".rows = {per_group}, .columns = {c * r * s}, {bounds_fields(graph, op)}"

    def fields(group: int) -> str:
        pointers = (
            f".{array.name} = {array_name(array)}{_plus(group * step.get(array.name, per_group))}"
            for array in constants
        )
        return "    {" + ",\n     ".join((*pointers, sizes)) + "}"

    listed = ",\n".join(fields(group) for group in range(groups))
    return f"static const s8_layer layers[{groups}] = {{\n{listed}}};", constants


@dataclass(frozen=True)
class Columns:
    """How the input of a convolution becomes int16 columns in scratch.

    Attributes:
        window: the sliding window, pixels joined where nothing tells rows apart.
        offset: minus the zero point of the input.
        planar: order (c, r, s) instead of (r, s, c).
        reach: elements past the end of a column that a kernel may read.
        tile: pixels at a time.
    """

    window: Window
    offset: int
    planar: bool = False
    reach: int = 0
    tile: int = 2

    element: ClassVar[str] = "int16_t"
    layer: ClassVar[str] = "s8_layer"

    @property
    def length(self) -> int:
        """Elements of a column."""
        w = self.window
        return w.kernel[0] * w.kernel[1] * (w.channels // w.groups)

    @property
    def stride(self) -> int:
        """Elements from one column to the next: all begin at multiples of 8 bytes."""
        return -(-(self.length + self.reach) // 4) * 4

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.window.out_height * self.window.out_width

    @property
    def together(self) -> int:
        """Pixels per step: the tile, or one where there are fewer."""
        return self.tile if self.pixels >= self.tile else 1

    @property
    def scratch_bytes(self) -> int:
        """2 bytes per element: 2 * align4(R*S*C) * 2 for two pixels."""
        return self.together * self.stride * 2

    @property
    def contiguous(self) -> bool:
        """Whether a column is a run of the input."""
        w = self.window
        whole = w.kernel == (1, 1) and w.stride == (1, 1) and not any(w.padding)
        return whole and w.groups == 1

    @property
    def support(self) -> tuple[str, ...]:
        """Support files of the loop."""
        if self.contiguous:
            return ("s8_widen.h",)
        return ("s8_column_planar.h" if self.planar else "s8_column.h",)

    def shares(self, graph: Graph, op: Op, machine: Machine) -> Shares | None:
        """How threads share the pixels: in whole steps, the last two of which may overlap."""
        found = share_rows(machine, self.pixels // self.together, kept_macs(graph, op))
        if found is None:
            return None
        first = (bound * self.together for bound in found.bounds[:-1])
        return replace(found, bounds=(*first, self.pixels))

    def idle(self, shares: Shares | None) -> str:
        """C that sets all outputs to those of a constant `idle`."""
        outputs = self.window.outputs
        return (
            f"s8_copy(idle, 0, {moved('out', shares, outputs)}, {outputs}, {outputs}, "
            f"{count_text(shares, self.pixels)});"
        )

    def loop(self, call: str, shares: Shares | None) -> str:
        """C over all pixels and groups; `call` computes the outputs of one step.

        In `call`: `layer`, columns `x` (`x + i * stride`), output `y` (`y + i * pitch`).
        """
        w, tile, groups = self.window, self.together, self.window.groups
        first, end = range_of(shares, "rows", self.pixels)
        last = self.pixels - tile
        # the last step overlaps the one before it where the tile does not divide the pixels
        at = "pixel" if self.pixels % tile == 0 else f"(pixel < {last} ? pixel : {last})"
        lines = [
            *self._declarations(),
            f"{self.element} *const x = ({self.element} *)(void *)scratch;",
            f"for (int32_t pixel = {first}; pixel < {end}; pixel += {tile}) {{",
            f"    const int32_t at = {at};",
        ]
        if groups == 1:
            lines.append(f"    const {self.layer} *const layer = layers;")
            lines.append(f"    int8_t *const y = out + at * {w.outputs};")
            lines.extend(f"    {line}" for line in (*self._fill("in0"), call))
        else:
            lines.append(f"    for (int32_t g = 0; g < {groups}; g++) {{")
            lines.append(f"        const {self.layer} *const layer = layers + g;")
            lines.append(
                f"        int8_t *const y = out + at * {w.outputs} + g * {w.outputs // groups};"
            )
            source = f"in0 + g * {w.channels // groups}"
            lines.extend(f"        {line}" for line in (*self._fill(source), call))
            lines.append("    }")
        return "\n".join([*lines, "}"])

    def _declarations(self) -> Sequence[str]:
        if self.contiguous:
            return ()
        return (window_text(self.window, self.offset, self.window.channels // self.window.groups),)

    def _fill(self, source: str) -> Sequence[str]:
        if not self.contiguous:
            function = "s8_column_planar" if self.planar else "s8_column"
            return [
                f"{function}(&window, {source}, at{_plus(i)}, x{_plus(i * self.stride)});"
                for i in range(self.together)
            ]
        n = self.length
        if self.stride == n:
            return [f"s8_widen({source} + at * {n}, {n * self.together}, {self.offset}, x);"]
        return [
            f"s8_widen({source} + (at{_plus(i)}) * {n}, {n}, {self.offset}, "
            f"x{_plus(i * self.stride)});"
            for i in range(self.together)
        ]


def columns_of(
    graph: Graph, op: Op, *, planar: bool = False, reach: int = 0, tile: int = 2
) -> Columns:
    """Columns of a conv2d or linear op."""
    offset = -affine(graph, op.inputs[0])[1]
    return Columns(window(graph, op), offset, planar, reach, tile)


def pair_call(columns: Columns, function: str, arguments: Sequence[str] = ()) -> str:
    """Call of `function`_1 or `function`_2 inside `Columns.loop`."""
    head = ", ".join(("layer", *arguments, "x"))
    if columns.together == 1:
        return f"{function}_1({head}, y);"
    return f"{function}_2({head}, x + {columns.stride}, y, y + {columns.window.outputs});"


def window_text(w: Window, offset: int, channels: int) -> str:
    """C declaration of an `s8_window` named `window` that takes `channels` at a time."""
    fields: Mapping[str, int] = {
        "height": w.height, "width": w.width, "pitch": w.channels,
        "channels": channels, "rows": w.kernel[0], "columns": w.kernel[1],
        "stride_y": w.stride[0], "stride_x": w.stride[1], "dilation_y": w.dilation[0],
        "dilation_x": w.dilation[1], "top": w.padding[0], "left": w.padding[2],
        "out_height": w.out_height, "out_width": w.out_width, "offset": offset,
    }  # fmt: skip
    items = ", ".join(f".{name} = {value}" for name, value in fields.items())
    return f"static const s8_window window = {{{items}}};"


def rows_text(w: Window, offset: int, channels: int, shares: Shares | None) -> tuple[str, str, str]:
    """As `window_text`, of the output rows of a share; C of its address and of the first output."""
    text = window_text(w, offset, channels)
    if shares is None:
        return text, "&window", "out"
    own = (
        "s8_window rows = window;\n"
        f"rows.top -= begin * {w.stride[0]};\nrows.out_height = end - begin;"
    )
    return f"{text}\n{own}", "&rows", moved("out", shares, w.out_width * w.outputs)


def is_host(machine: Machine) -> bool:
    """Whether the machine has vectors of eight int32."""
    return machine.vector_floats >= 8


def _plus(value: int) -> str:
    return f" + {value}" if value else ""
