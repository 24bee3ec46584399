"""int8 products of activations, layer norm and softmax on a CPU with vectors."""

from __future__ import annotations

import math

import numpy as np

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.f32_matmul import product_sizes
from cofit.codegen.kernels.s8_host_layer import (
    LANES,
    MACS_PER_CYCLE,
    host_support,
    no_vectors,
    rounding_name,
    target_of,
    vector_shifts,
)
from cofit.codegen.kernels.s8_host_plane import Plane, pair_tile
from cofit.codegen.kernels.s8_layer import bounds_fields, constant
from cofit.codegen.kernels.s8_sequences import S8LayerNorm, S8Matmul, norm_code
from cofit.codegen.kernels.s8_softmax import S8Softmax
from cofit.codegen.kernels.shares import count_of, count_text, declared, moved, share_rows
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, attributes
from cofit.ir.integer import (
    affine,
    exponential_table,
    norm_parameters,
    product_requant,
    softmax_parameters,
)


class S8HostMatmul:
    """scale * x @ y: a linear layer for each matrix, whose weights are y packed at run time."""

    name = "s8-host-matmul"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, and what S8Matmul rejects."""
        return no_vectors(machine) or S8Matmul().reject(graph, op, machine)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Rows of x are the pixels, columns of y the outputs; one matrix is one row of pixels."""
        assert isinstance(op.attributes, attributes.Matmul)
        matrices, rows, inner, columns = product_sizes(graph, op)
        (_, zero_x), (_, zero_y) = (affine(graph, name) for name in op.inputs)
        w = Window(inner, matrices, rows, columns, matrices, rows)
        plane = Plane(w, -zero_x, tile=pair_tile(machine))
        entries, padded = -(-inner // 2), -(-columns // LANES) * LANES
        multiplier, shift = (np.array([v], np.int32) for v in product_requant(graph, op))
        shift = vector_shifts(multiplier, shift)
        constants = (
            constant("index", np.arange(0, inner, 2, dtype=np.int32)),
            constant("bias", np.zeros(padded, np.int32)),
            constant("multiplier", np.repeat(multiplier, padded)),
            constant("shift", np.repeat(shift, padded)),
        )
        pointers = ", ".join(f".{array.name} = {array_name(array)}" for array in constants)
        by_rows = int(op.attributes.transposed)
        shares = share_rows(machine, matrices, matrices * rows * inner * columns / MACS_PER_CYCLE)
        loop = plane.loop(
            f"for (int32_t y = y0; y < y1; y++) {{\n"
            f"    s8_pack_product(in1 + y * {inner * columns}, {inner}, {columns}, {-zero_y}, "
            f"packed, {by_rows});\n"
            f"    s8_host_dense(&layer, {entries}, &walk, plane + (y - y0) * {rows * inner}, "
            f"y, y + 1, sums, {target_of()});\n"
            f"}}",
            shares,
        )
        body = (
            f"int16_t *const packed = (int16_t *)(void *)(scratch + {plane.scratch_bytes});\n"
            f"const s8_host_layer layer = {{.weights = (const int8_t *)packed, {pointers},\n"
            f"    .rows = {columns}, .pitch = {columns}, {bounds_fields(graph, op)},\n"
            f"    .rounding = {rounding_name(graph, op, shift)}}};\n"
            f"{plane.walk('S8_ADJACENT', wide=True)}\n{loop}"
        )
        return KernelCode(
            body,
            constants,
            host_support(graph, "s8_host_product.h"),
            plane.scratch_bytes + 4 * entries * padded,
            variant="by rows" if by_rows else "by columns",
            shares=count_of(shares),
        )


class S8HostLayerNorm:
    """layernorm whose scaling is below one half."""

    name = "s8-host-layernorm"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, and what S8LayerNorm rejects."""
        reason = no_vectors(machine) or S8LayerNorm().reject(graph, op, machine)
        if reason is None and _norm_rounding(graph, op) == "S8_ANY":
            return "its scaling is one half or more"
        return reason

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        arguments = f", {_norm_rounding(graph, op)}"
        return norm_code(graph, op, machine, "s8_host_layernorm", arguments)


def _norm_rounding(graph: Graph, op: Op) -> str:
    parameters = norm_parameters(graph, op)
    pair = (np.array([parameters.multiplier]), np.array([parameters.shift], np.int32))
    return rounding_name(graph, op, vector_shifts(*pair))


class S8HostSoftmax:
    """softmax over the last axis: the exponential of a difference of bytes is a table."""

    name = "s8-host-softmax"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, and what S8Softmax rejects."""
        return no_vectors(machine) or S8Softmax().reject(graph, op, machine)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call; scratch holds the exponentials of a row."""
        shape = graph.tensors[op.output].shape
        table = exponential_table(softmax_parameters(graph, op)).astype(np.uint32)
        rows, size = math.prod(shape[:-1]), shape[-1]
        shares = share_rows(machine, rows, rows * size)
        body = (
            f"s8_host_softmax(exponentials, {moved('in0', shares, size)}, "
            f"{count_text(shares, rows)}, {size},\n"
            f"                (uint32_t *)(void *)scratch, {moved('out', shares, size)});"
        )
        return KernelCode(
            declared(shares, body),
            (Constant("exponentials", table),),
            ("s8_host_softmax.h",),
            scratch_bytes=4 * shape[-1],
            in_place=(0,),
            variant="table",
            shares=count_of(shares),
        )
