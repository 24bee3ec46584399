"""int8 ops without weights on a CPU with vectors: the values of `s8_elementwise` and `s8_pool`."""

from __future__ import annotations

import math

import numpy as np

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.float_sum import float_sum
from cofit.codegen.kernels.s8_elementwise import (
    S8Activation,
    S8Binary,
    S8Concat,
    binary_code,
    by_byte,
    lookup_code,
)
from cofit.codegen.kernels.s8_host_layer import no_vectors, rounding_name
from cofit.codegen.kernels.s8_layer import Int8
from cofit.codegen.kernels.s8_pool import S8Pool, pool_code
from cofit.codegen.layout import memory_shape
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, attributes
from cofit.ir.integer import (
    add_requant,
    affine,
    concat_requant,
    mul_requant,
    output_bounds,
    requantise,
)

HALF = (1 << 30, 0)  # the multiplier and shift of one half
MAX_AREA = 1 << 15  # windows whose sums and counts are exact in float32


class S8HostBinary:
    """add and mul whose factors are below one half, that of an addend at most one half."""

    name = "s8-host-binary"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, and what S8Binary rejects."""
        reason = no_vectors(machine) or S8Binary().reject(graph, op, machine)
        if reason is None and _rounding(graph, op) == "S8_ANY":
            return "a factor of its scaling is one half or more"
        return reason

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call per run."""
        arguments = f", {_rounding(graph, op)}"
        floats = float_sum(graph, op) if op.kind == "add" else None
        if floats is not None:
            return binary_code(
                graph, op, machine, "s8_host_sum", f", &(const s8_float_sum){floats.fields}"
            )
        if op.kind == "add":
            requant = add_requant(graph, op)
            halves = (int(pair == HALF) for pair in (requant.first, requant.second))
            arguments = ", " + ", ".join(map(str, halves)) + arguments
        return binary_code(graph, op, machine, f"s8_host_{op.kind}", arguments)


def _rounding(graph: Graph, op: Op) -> str:
    if op.kind == "mul":
        pairs = [mul_requant(graph, op)]
    else:
        requant = add_requant(graph, op)
        addends = [pair for pair in (requant.first, requant.second) if pair != HALF]
        pairs = [*addends, requant.output]
    return rounding_name(graph, op, np.array([shift for _, shift in pairs], np.int32))


class S8HostActivation:
    """Element-wise functions as tables of 256 bytes."""

    name = "s8-host-activation"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, other ops."""
        return no_vectors(machine) or S8Activation().reject(graph, op, machine)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        return lookup_code(graph, op, machine, "s8_host_lookup")


class S8HostConcat:
    """Concatenation that rescales: each scaling of a byte is a table."""

    name = "s8-host-concat"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, and what S8Concat rejects."""
        return no_vectors(machine) or S8Concat().reject(graph, op, machine)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Per input, runs of its elements from its pitch to the output's."""
        assert isinstance(op.attributes, attributes.Concat)
        out = memory_shape(graph.tensors[op.output].shape)
        axis = memory_shape(tuple(range(len(out)))).index(op.attributes.axis)
        rows, pitch = math.prod(out[:axis]), math.prod(out[axis:])
        lines, constants, start = [], [], 0
        for i, (name, pair) in enumerate(zip(op.inputs, concat_requant(graph, op), strict=True)):
            size = math.prod(memory_shape(graph.tensors[name].shape)[axis:])
            if pair is None:
                lines.append(f"s8_copy(in{i}, {size}, out + {start}, {pitch}, {size}, {rows});")
            else:
                constants.append(
                    Constant(f"table{i}", by_byte(_scaling_table(graph, op, name, pair)))
                )
                lines.append(f"for (int32_t r = 0; r < {rows}; r++)")
                lines.append(
                    f"    s8_host_lookup(table{i}, in{i} + r * {size}, {size}, "
                    f"out + {start} + r * {pitch});"
                )
            start += size
        support = ("s8_copy.h", "s8_host_lookup.h")
        return KernelCode("\n".join(lines), tuple(constants), support, variant="tables")


def _scaling_table(graph: Graph, op: Op, source: str, pair: tuple[int, int]) -> Int8:
    assert graph.spec is not None
    values = np.arange(-128, 128) - affine(graph, source)[1]
    scaled = requantise(values, *pair, graph.spec.rounding) + affine(graph, op.output)[1]
    return np.clip(scaled, *output_bounds(graph, op)).astype(np.int8)


class S8HostPool:
    """maxpool2d, avgpool2d and globalmean, channels side by side."""

    name = "s8-host-pool"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, windows beyond float32, and what S8Pool rejects."""
        reason = no_vectors(machine) or S8Pool().reject(graph, op, machine)
        if reason is None and isinstance(op.attributes, attributes.AvgPool2d):
            area = math.prod(op.attributes.kernel)
            return f"its window of {area} is above {MAX_AREA}" if area > MAX_AREA else None
        return reason

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        return pool_code(graph, op, machine, "s8_host")
