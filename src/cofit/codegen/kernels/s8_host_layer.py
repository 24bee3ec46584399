"""What all int8 convolutions on a CPU with vectors share: layer constants and how threads share.

Whatever vectors compute, the values are those of `cofit.ir.integer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant, Residual
from cofit.codegen.kernels.float_sum import float_sum
from cofit.codegen.kernels.s8_elementwise import sum_fields
from cofit.codegen.kernels.s8_layer import (
    Array,
    Int8,
    accumulator_bound,
    bounds_fields,
    constant,
    fits_30_bits,
    is_host,
    requantise_support,
    weight_values,
)
from cofit.codegen.kernels.shares import (
    BYTES_PER_CYCLE,
    Shares,
    share_layer,
)
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op, Rounding, kept_macs
from cofit.ir.integer import conv_requant

LANES, TILE_ROWS = 8, 16
CACHE_LINE_BYTES = 64
MACS_PER_CYCLE = 32


def no_vectors(machine: Machine) -> str | None:
    """The reason to leave the op to other families, on machines without vectors."""
    return None if is_host(machine) else f"{machine.name} has no vectors of eight int32"


def rounding_name(graph: Graph, op: Op, shifts: NDArray[np.int32]) -> str:
    """The `s8_host_rounding` of accumulators of an op: a fast one where proven exact."""
    assert graph.spec is not None
    if not fits_30_bits(graph, op) or int(shifts.max(initial=-1)) >= 0:
        return "S8_ANY"
    return "S8_TWICE" if graph.spec.rounding is Rounding.DOUBLE else "S8_ONCE"


def layer_rounding(
    graph: Graph, op: Op, multiplier: NDArray[np.int32], shift: NDArray[np.int32]
) -> str:
    """As `rounding_name`, of a conv2d or linear op; in float32 where that gives the same.

    float32 holds multipliers of 24 bits and accumulators below 2^24, and a fused multiplication
    with 1.5 * 2^23 rounds their product once, to the nearest integer. Only ties differ: half to
    even, not half up. With z zero bits at the end of the multiplier, acc * multiplier / 2^31 *
    2^shift can be a tie only for a multiple of 2^(30 - shift - z) as accumulator.
    """
    assert graph.spec is not None
    name = rounding_name(graph, op, shift)
    if name != "S8_ONCE" or graph.spec.rounding is not Rounding.SHORT:
        return name
    bound = accumulator_bound(graph, op).max(initial=0)
    largest = bound * np.ldexp(multiplier.astype(np.float64), shift - 31).max(initial=0)
    zeros = np.log2(multiplier & -multiplier, where=multiplier > 0, out=np.zeros(len(shift)))
    tie = np.exp2(30 - shift - zeros).min(initial=np.inf)
    return "S8_FLOAT" if bound < min(1 << 24, tie) and largest < 1 << 21 else name


def vector_shifts(multiplier: NDArray[np.int32], shift: NDArray[np.int32]) -> NDArray[np.int32]:
    """Shifts in which those of multiplier zero, which means nothing there, are -1."""
    return np.where(multiplier == 0, np.int32(-1), shift).astype(np.int32)


@dataclass(frozen=True)
class HostRows:
    """Rows of a weight in a kernel's own order, padded with zeros to whole vectors.

    Attributes:
        weights: the packed values.
        order: output channel of each row; None for 0, 1, 2, ...
        start: first entry of each list; None for a single one.
        index: places of the entries in a window; None where the kernel has no lists.
    """

    weights: Int8
    index: NDArray[np.int64] | None = None
    order: NDArray[np.uint16] | None = None
    start: NDArray[np.int32] | None = None


def host_layer(
    graph: Graph, op: Op, rows: HostRows, groups: int = 1, multiple: int = LANES,
    shares: Shares | None = None, residual: Residual | None = None, above: int = 0,
) -> tuple[str, tuple[Constant, ...]]:  # fmt: skip
    """C declaration of `layers`, one `s8_host_layer` per group, and the arrays it points to.

    One per share of the outputs instead, where threads share them.

    Args:
        graph: an integer graph.
        op: a conv2d or linear op.
        rows: its weight.
        groups: of the convolution.
        multiple: rows of a group are padded to a multiple of this.
        shares: of blocks of `TILE_ROWS` rows, or of `multiple` where the rows have lists.
        residual: what is added to the outputs.
        above: what the kernel's inputs are greater by than inputs without zero point; biases make
            up for it.
    """
    multiplier, shift = conv_requant(graph, op)
    shift = vector_shifts(multiplier, shift)
    bias, outputs = _lowered_bias(graph, op, above), len(multiplier)
    order = np.arange(outputs) if rows.order is None else rows.order
    each = len(order) // groups

    def padded(values: NDArray[np.int32], fill: int) -> NDArray[np.int32]:
        per_group = values[order].reshape(groups, each)
        whole = np.pad(per_group, ((0, 0), (0, -each % multiple)), constant_values=fill)
        return whole.astype(np.int32)

    parts: dict[str, Array] = {
        "weights": rows.weights.reshape(groups, -1),
        "bias": padded(bias, 0),
        "multiplier": padded(multiplier, 0),
        "shift": padded(shift, -1),
    }
    if rows.order is not None:
        parts["channel"] = rows.order
    if rows.start is not None:
        parts["start"] = rows.start
    if rows.index is not None:
        parts["index"] = rows.index.astype(np.int32)
    constants = tuple(
        replace(constant(name, values), align_bytes=CACHE_LINE_BYTES)
        for name, values in parts.items()
    )
    step = {name: 0 if name == "index" else a.size // groups for name, a in parts.items()}
    sizes = (
        f".pitch = {outputs}, {bounds_fields(graph, op)}, "
        f".rounding = {layer_rounding(graph, op, multiplier, shift)}"
    )
    before = ""
    if residual is not None:
        before, sizes = f"{_residual_text(graph, residual)}\n", f"{sizes}, .residual = &residual"

    def fields(at: Mapping[str, int], rows: int) -> str:
        pointers = (
            f".{array.name} = {array_name(array)}{_plus(at[array.name])}" for array in constants
        )
        return "    {" + ",\n     ".join((*pointers, f".rows = {rows}, {sizes}")) + "}"

    def from_row(row: int) -> dict[str, int]:
        """Elements before a row of the only group; weights under lists lie by entry."""
        lists = rows.start is not None
        weights = 0 if lists else row * (step["weights"] // parts["bias"].size)
        return dict.fromkeys(parts, row) | {
            "weights": weights, "start": row // multiple, "index": 0,
        }  # fmt: skip

    if shares is None or shares.axis == "rows":
        starts = [{name: group * size for name, size in step.items()} for group in range(groups)]
        found = [fields(at, each) for at in starts]
    else:
        height = TILE_ROWS if rows.start is None else multiple
        bounds = [min(bound * height, each) for bound in shares.bounds]
        found = [fields(from_row(a), b - a) for a, b in pairwise(bounds)]
    listed = ",\n".join(found)
    layers = f"static const s8_host_layer layers[{len(found)}] = {{\n{listed}}};"
    return before + layers, constants


def _lowered_bias(graph: Graph, op: Op, above: int) -> NDArray[np.int32]:
    """Biases less what inputs greater by `above` add to the sums, modulo 2^32."""
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None
    weight = weight_values(graph, op).astype(np.int64)
    lowered = bias.astype(np.int64) - above * weight.reshape(len(weight), -1).sum(axis=1)
    return np.asarray(lowered, np.uint32).view(np.int32)


def _residual_text(graph: Graph, residual: Residual) -> str:
    found = float_sum(graph, residual.op, residual.position)
    assert found is not None
    fields = sum_fields(graph, residual.op, residual.position)
    return f"static const s8_residual residual = {{.sum = {fields},\n    .real = {found.fields}}};"


def reject_sum(graph: Graph, residual: Residual) -> str | None:
    """The reason not to add to the int8 outputs of a layer, if there is one."""
    try:
        found = float_sum(graph, residual.op, residual.position)
    except UnsupportedOpError as error:
        return str(error)
    return "float32 does not give the integers of the addition" if found is None else None


def in_place_of(op: Op, residual: Residual | None) -> tuple[int, ...]:
    """Position of the residual, in whose place the outputs of one pass over them may lie."""
    return () if residual is None else (len(op.inputs),)


def target_of(op: Op | None = None, residual: Residual | None = None, at: str = "") -> str:
    """C of the `s8_target` of a step, `at` elements further."""
    shift = f" + {at}" if at else ""
    other = "0" if op is None or residual is None else f"in{len(op.inputs)}{shift}"
    return f"(s8_target){{out{shift}, {other}}}"


def share_blocks(
    graph: Graph, op: Op, machine: Machine, window: Window, costs: Sequence[float],
    macs_per_cycle: float = MACS_PER_CYCLE,
) -> Shares | None:  # fmt: skip
    """How threads share an int8 layer whose blocks of outputs cost so much."""
    macs = kept_macs(graph, op)
    weight_bytes = macs / max(window.out_height * window.out_width, 1)
    return share_layer(
        machine,
        max(macs / macs_per_cycle, weight_bytes / BYTES_PER_CYCLE),
        window.out_height,
        costs if window.groups == 1 else (),
        weight_bytes,
        2 * window.channels * window.height * window.width,
    )


def call_of(shares: Shares | None, call: str, op: Op, residual: Residual | None) -> str:
    """C of a call with `{layer}`, `{to}` and `{whole}` in it.

    `to` is the target of all outputs or those of the share, `whole` always that of all.
    """
    whole = target_of(op, residual)
    if shares is None or shares.axis == "rows":
        return call.format(layer="layers", to=whole, whole=whole)
    first = "(layers[share].bias - layers[0].bias)"
    return call.format(layer="layers + share", to=target_of(op, residual, first), whole=whole)


def _plus(value: int) -> str:
    return f" + {value}" if value else ""


def host_support(graph: Graph, *names: str) -> tuple[str, ...]:
    """Support files of a family that requantises: the graph's rounding before all others."""
    return (requantise_support(graph), *names)
