"""fp32 addition, multiplication and activations; the compiler vectorises these loops itself."""

from __future__ import annotations

import numpy as np

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.shares import count_of, declared, range_of, share_rows
from cofit.codegen.layout import memory_shape, to_memory
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, Tensor, attributes

FUNCTIONS = {
    "relu": "v > 0.0f ? v : 0.0f",
    "relu6": "v < 0.0f ? 0.0f : v > 6.0f ? 6.0f : v",
    "hardswish": "v * (v < -3.0f ? 0.0f : v > 3.0f ? 6.0f : v + 3.0f) / 6.0f",
    "hardsigmoid": "(v < -3.0f ? 0.0f : v > 3.0f ? 6.0f : v + 3.0f) / 6.0f",
    "sigmoid": "f32_sigmoid(v)",
    "tanh": "f32_tanh(v)",
    "gelu": "f32_gelu(v)",
    "gelu_tanh": "f32_gelu_tanh(v)",
}

EXPONENTIAL = ("sigmoid", "tanh", "gelu", "gelu_tanh")
ELEMENTS_PER_CYCLE = 2  # three streams of floats from the L2 and beyond
CYCLES = (0.5, 3.0)  # of one element: arithmetic, exponentials
RUN = 256  # elements at a time, in an array of which the compiler knows that nothing shares it


class F32Activation:
    """Element-wise functions, a run of elements at a time."""

    name = "f32-activation"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops; exponentials of floats where they would not be vectors."""
        if not isinstance(op.attributes, attributes.Activation):
            return f"{op.kind} is not an activation"
        if machine.freestanding and op.attributes.function in EXPONENTIAL:
            return (
                f"float {op.attributes.function} needs libm, which {machine.name} does not have; "
                "quantise the network (int8 uses a table)"
            )
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Read, compute, write: `out` may be `in0`. Shares are whole runs."""
        assert isinstance(op.attributes, attributes.Activation)
        function, size = op.attributes.function, graph.tensors[op.output].size
        slow = function in EXPONENTIAL
        shares = share_rows(machine, -(-size // RUN), size * CYCLES[slow])
        # the last run of the last share ends by `count`
        span = f"int i = begin * {RUN}; i < end * {RUN}" if shares else f"int i = 0; i < {size}"
        body = f"""\
for ({span}; i += {RUN}) {{
    const int count = {size} - i < {RUN} ? {size} - i : {RUN};
    float run[{RUN}];
    for (int j = 0; j < count; ++j) run[j] = in0[i + j];
    for (int j = 0; j < count; ++j) {{
        const float v = run[j];
        run[j] = {FUNCTIONS[function]};
    }}
    for (int j = 0; j < count; ++j) out[i + j] = run[j];
}}"""
        needs = ("f32_functions.h",) if slow else ()
        return KernelCode(
            declared(shares, body), support=needs, in_place=(0,), variant=function,
            shares=count_of(shares),
        )  # fmt: skip


class F32Binary:
    """Addition and multiplication, the second operand broadcast where its size is one."""

    name = "f32-binary"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Any add or mul."""
        return None if op.kind in ("add", "mul") else f"{op.kind} is not add or mul"

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One loop per axis of the output in memory order, equal axes joined."""
        assert isinstance(op.attributes, attributes.Add | attributes.Mul)
        x, y = (graph.tensors[name] for name in op.inputs)
        fused = op.attributes.fused
        constants: tuple[Constant, ...] = ()
        names = ["in0", "in1"]
        for index, tensor in enumerate((x, y)):
            if tensor.data is not None:
                names[index] = f"constant{index}"
                padded = np.reshape(tensor.data, broadcast_shape(tensor, x))
                constants = (*constants, Constant(names[index], to_memory(padded)))
        operator = "+" if op.kind == "add" else "*"
        axes = joined_axes(memory_shape(x.shape), memory_shape(broadcast_shape(y, x)))
        lines, left, right = [], [], []
        size = graph.tensors[op.output].size
        shares = share_rows(machine, axes[0][0], size / ELEMENTS_PER_CYCLE)
        for level, (size, pitch_x, pitch_y) in enumerate(axes):
            first, last = ("0", str(size)) if level else range_of(shares, "rows", size)
            lines.append(f"for (int i{level} = {first}; i{level} < {last}; ++i{level})")
            left.append(f"i{level} * {pitch_x}")
            if pitch_y:
                right.append(f"i{level} * {pitch_y}")
        at_x, at_y = " + ".join(left), " + ".join(right) or "0"
        value = f"{names[0]}[{at_x}] {operator} {names[1]}[{at_y}]"
        lines.append("{")
        lines.append(f"    const float v = {value};")
        lines.append(f"    out[{at_x}] = {FUNCTIONS.get(fused, 'v')};")
        lines.append("}")
        full = tuple(
            i
            for i, t in enumerate((x, y))
            if t.data is None and t.size == graph.tensors[op.output].size
        )
        return KernelCode(
            declared(shares, "\n".join(lines)), constants, in_place=full, variant=op.kind,
            shares=count_of(shares),
        )  # fmt: skip


def broadcast_shape(y: Tensor, x: Tensor) -> tuple[int, ...]:
    """The shape of y with leading ones, of the rank of x."""
    return (1,) * (len(x.shape) - len(y.shape)) + y.shape


def joined_axes(x: tuple[int, ...], y: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(size, pitch in x, pitch in y) of the joined axes; y's pitch is 0 if broadcast."""
    axes: list[tuple[int, int, int]] = []
    pitch_x, pitch_y = 1, 1
    for size, other in zip(reversed(x), reversed(y), strict=True):
        step_y = pitch_y if other != 1 else 0
        if size != 1:
            if axes and (
                (axes[0][2] == 0 and step_y == 0)
                or (axes[0][2] != 0 and step_y == axes[0][0] * axes[0][2])
            ):
                axes[0] = (axes[0][0] * size, axes[0][1], axes[0][2])
            else:
                axes.insert(0, (size, pitch_x, step_y))
        pitch_x *= size
        pitch_y *= other
    return axes or [(1, 1, 0)]
