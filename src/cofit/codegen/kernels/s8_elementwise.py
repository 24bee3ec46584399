"""int8 addition, multiplication, activation tables, and concatenation that rescales."""

from __future__ import annotations

import math

import numpy as np

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.f32_elementwise import broadcast_shape, joined_axes
from cofit.codegen.kernels.float_sum import ordered
from cofit.codegen.kernels.s8_layer import Int8, bounds_fields, requantise_support
from cofit.codegen.kernels.shares import (
    count_of,
    count_text,
    declared,
    moved,
    range_of,
    share_rows,
)
from cofit.codegen.layout import memory_shape, to_memory
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op, Rounding, attributes
from cofit.ir.integer import (
    activation_table,
    add_requant,
    affine,
    concat_requant,
    mul_requant,
    output_bounds,
)

BYTES_PER_CYCLE = 4  # of outputs, where there are vectors


class S8Sum:
    """add of two whole activations, of which one counts half, by one SMMLA for each scaling."""

    name = "s8-sum"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Broadcasts, bounds, roundings of their own."""
        if op.kind != "add":
            return f"{op.kind} is not add"
        x, y = (graph.tensors[name] for name in op.inputs)
        if x.shape != y.shape or x.data is not None or y.data is not None:
            return "its inputs are not two activations of one shape"
        try:
            found = _halved_sum(graph, op)
        except UnsupportedOpError as error:
            return str(error)
        return found if isinstance(found, str) else None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        found = _halved_sum(graph, op)
        assert not isinstance(found, str)
        values, (x, y) = found
        fields = ", ".join(f".{name} = {value}" for name, value in values.items())
        return KernelCode(
            f"static const s8_scaled_sum parameters = {{{fields}}};\n"
            f"s8_add_scaled(&parameters, in{x}, in{y}, {graph.tensors[op.output].size}, out);",
            support=("s8_add_scaled.h",),
            in_place=(0, 1),
            variant="half",
        )


def _halved_sum(graph: Graph, op: Op) -> tuple[dict[str, int], tuple[int, int]] | str:
    """Parameters of `s8_add_scaled`, and the inputs in the order it takes them."""
    assert graph.spec is not None
    if graph.spec.rounding is Rounding.DOUBLE:
        return "its sums are rounded twice"
    if output_bounds(graph, op) != (-128, 127):
        return "its outputs are bounded"
    requant = add_requant(graph, op)
    assert requant.left_shift == 20  # y then moves left by 19 bits
    scales, half = (requant.first, requant.second), (1 << 30, 0)
    x, y = (0, 1) if scales[1] == half else (1, 0)
    (x_multiplier, x_shift), (multiplier, shift) = scales[x], requant.output
    before, after = 2 - x_shift, -1 - shift
    if scales[y] != half or not (before <= 30 and 1 <= after <= 22):
        return "its scales are too far apart"
    zero_x, zero_y = (affine(graph, op.inputs[i])[1] for i in (x, y))
    values = {
        "x_offset": -zero_x << 23, "x_multiplier": x_multiplier,
        "x_round": 1 << (before - 1), "x_shift": before, "y_offset": -zero_y << 19,
        "multiplier": multiplier, "shift": after,
        "round": (1 << (after - 1)) + (affine(graph, op.output)[1] << after),
    }  # fmt: skip
    return values, (x, y)


class S8Binary:
    """add and mul; the second operand may be a constant and may broadcast."""

    name = "s8-binary"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops, and scales out of range."""
        if op.kind not in ("add", "mul"):
            return f"{op.kind} is not add or mul"
        try:
            _ = add_requant(graph, op) if op.kind == "add" else mul_requant(graph, op)
        except UnsupportedOpError as error:
            return str(error)
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call per run."""
        return binary_code(graph, op, machine, f"s8_{op.kind}")


def binary_code(
    graph: Graph, op: Op, machine: Machine, function: str, arguments: str = ""
) -> KernelCode:
    """One call for each run of the output in which the second operand moves evenly.

    Args:
        graph: an integer graph.
        op: an add or mul.
        machine: whose threads share it.
        function: the support function, also the name of its file.
        arguments: its last arguments, each after a comma.
    """
    x, y = (graph.tensors[name] for name in op.inputs)
    constants, names = [], ["in0", "in1"]
    for index, tensor in enumerate((x, y)):
        if tensor.data is not None:
            names[index] = f"constant{index}"
            padded = tensor.data.astype(np.int8).reshape(broadcast_shape(tensor, x))
            constants.append(Constant(names[index], to_memory(padded)))
    axes = joined_axes(memory_shape(x.shape), memory_shape(broadcast_shape(y, x)))
    run, _, step = axes.pop()
    assert step in (0, 1)
    lines = [_binary_parameters(graph, op)]
    left, right, count = [""], [""], str(run)
    shares = share_rows(machine, axes[0][0] if axes else run, x.size / BYTES_PER_CYCLE)
    if shares is not None and not axes:
        left, right, count = [" + begin"], [f" + begin * {step}"], "end - begin"
    for level, (size, pitch_x, pitch_y) in enumerate(axes):
        first, last = ("0", str(size)) if level else range_of(shares, "rows", size)
        lines.append(f"for (int32_t i{level} = {first}; i{level} < {last}; i{level}++)")
        left.append(f" + i{level} * {pitch_x}")
        right.append(f" + i{level} * {pitch_y}" if pitch_y else "")
    at_x, at_y = "".join(left), "".join(right)
    lines.append(
        f"{'    ' if axes else ''}{function}(&parameters, {names[0]}{at_x}, "
        f"{names[1]}{at_y}, {step}, {count}, out{at_x}{arguments});"
    )
    full = tuple(i for i, t in enumerate((x, y)) if t.data is None and t.size == x.size)
    support = (requantise_support(graph), f"{function}.h")
    body = declared(shares, "\n".join(lines))
    return KernelCode(body, tuple(constants), support, 0, full, op.kind, count_of(shares))


def _binary_parameters(graph: Graph, op: Op) -> str:
    if op.kind == "mul":
        (_, zero_x), (_, zero_y) = (affine(graph, name) for name in op.inputs)
        multiplier, shift = mul_requant(graph, op)
        return (
            f"static const s8_product parameters = {{.x_offset = {-zero_x}, .y_offset = {-zero_y}, "
            f".multiplier = {multiplier}, .shift = {shift},\n    {bounds_fields(graph, op)}}};"
        )
    return f"static const s8_sum parameters = {sum_fields(graph, op)};"


def sum_fields(graph: Graph, op: Op, x: int = 0) -> str:
    """C initialiser of the `s8_sum` of an add whose input at position `x` is its x."""
    zero_x, zero_y = (affine(graph, op.inputs[place])[1] for place in (x, 1 - x))
    requant = ordered(add_requant(graph, op), x)
    assert requant.left_shift == 20  # as s8_add has it
    (mx, sx), (my, sy), (m, s) = requant.first, requant.second, requant.output
    return (
        f"{{\n    .x_offset = {-zero_x}, .x_multiplier = {mx}, .x_shift = {sx},\n"
        f"    .y_offset = {-zero_y}, .y_multiplier = {my}, .y_shift = {sy},\n"
        f"    .multiplier = {m}, .shift = {s}, {bounds_fields(graph, op)}}}"
    )


class S8Activation:
    """Element-wise functions as tables of 256 bytes."""

    name = "s8-activation"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops."""
        return None if op.kind == "activation" else f"{op.kind} is not an activation"

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One look-up per element."""
        return lookup_code(graph, op, machine, "s8_lookup")


def lookup_code(graph: Graph, op: Op, machine: Machine, function: str) -> KernelCode:
    """One call of the support function, from the file of its name, for an activation."""
    assert isinstance(op.attributes, attributes.Activation)
    size = graph.tensors[op.output].size
    shares = share_rows(machine, size, size / BYTES_PER_CYCLE)
    call = (
        f"{function}(table, {moved('in0', shares, 1)}, {count_text(shares, size)}, "
        f"{moved('out', shares, 1)});"
    )
    return KernelCode(
        declared(shares, call),
        (Constant("table", by_byte(activation_table(graph, op))),),
        (f"{function}.h",),
        in_place=(0,),
        variant=op.attributes.function,
        shares=count_of(shares),
    )


def by_byte(table: Int8) -> Int8:
    """A table of -128..127 in the order of the byte read as unsigned."""
    return np.roll(table, 128)


class S8Concat:
    """Concatenation of inputs of which some need another scale or zero point."""

    name = "s8-concat"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops, constant inputs, scales out of range."""
        if op.kind != "concat":
            return f"{op.kind} is not concat"
        if any(graph.tensors[name].data is not None for name in op.inputs):
            return "an input is a constant"
        try:
            concat_requant(graph, op)
        except UnsupportedOpError as error:
            return str(error)
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Per input, runs of its elements from its pitch to the output's."""
        assert isinstance(op.attributes, attributes.Concat)
        out = memory_shape(graph.tensors[op.output].shape)
        axis = memory_shape(tuple(range(len(out)))).index(op.attributes.axis)
        rows, pitch = math.prod(out[:axis]), math.prod(out[axis:])
        lines, start, support = [], 0, {requantise_support(graph): None}
        for i, (name, pair) in enumerate(zip(op.inputs, concat_requant(graph, op), strict=True)):
            size = math.prod(memory_shape(graph.tensors[name].shape)[axis:])
            where = f"in{i}, {size}, out + {start}, {pitch}, {size}, {rows}"
            if pair is None:
                lines.append(f"s8_copy({where});")
                support["s8_copy.h"] = None
            else:
                lines.append(scaling_text(graph, op, f"scaling{i}", name, pair))
                lines.append(f"s8_rescale(&scaling{i}, {where});")
                support["s8_rescale.h"] = None
            start += size
        return KernelCode("\n".join(lines), support=tuple(support), variant="rescaled")


def scaling_text(graph: Graph, op: Op, name: str, source: str, pair: tuple[int, int]) -> str:
    """C declaration of the `s8_scaling` from tensor `source` to the op's output."""
    return (
        f"static const s8_scaling {name} = {{.offset = {-affine(graph, source)[1]}, "
        f".multiplier = {pair[0]}, .shift = {pair[1]},\n    {bounds_fields(graph, op)}}};"
    )
