"""int8 layer norm and products of two activations: plain C, for every machine."""

from __future__ import annotations

import math

import numpy as np

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.f32_matmul import product_sizes, reject_product
from cofit.codegen.kernels.s8_layer import bounds_fields, requantise_support
from cofit.codegen.kernels.shares import count_of, count_text, declared, moved, share_rows
from cofit.codegen.layout import logical_order
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op, attributes
from cofit.ir.integer import affine, norm_parameters, product_requant

NORM_CYCLES = 2  # of one element


class S8Matmul:
    """scale * x @ y."""

    name = "s8-matmul"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Matrices in the order of images, scales out of range."""
        if (reason := reject_product(graph, op)) is not None:
            return reason
        try:
            product_requant(graph, op)
        except UnsupportedOpError as error:
            return str(error)
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        assert isinstance(op.attributes, attributes.Matmul)
        matrices, rows, inner, columns = product_sizes(graph, op)
        by_rows = op.attributes.transposed
        steps = (1, inner) if by_rows else (columns, 1)
        (_, zero_x), (_, zero_y) = (affine(graph, name) for name in op.inputs)
        multiplier, shift = product_requant(graph, op)
        shares = share_rows(machine, matrices, matrices * rows * inner * columns)
        x, y = moved("in0", shares, rows * inner), moved("in1", shares, inner * columns)
        body = (
            f"static const s8_product_of product = {{\n"
            f"    .rows = {rows}, .inner = {inner}, .columns = {columns},\n"
            f"    .inner_step = {steps[0]}, .column_step = {steps[1]},\n"
            f"    .x_offset = {-zero_x}, .y_offset = {-zero_y},\n"
            f"    .multiplier = {multiplier}, .shift = {shift}, {bounds_fields(graph, op)}}};\n"
            f"s8_matmul(&product, {x}, {y}, {count_text(shares, matrices)}, "
            f"{moved('out', shares, rows * columns)});"
        )
        support = (requantise_support(graph), "s8_matmul.h")
        return KernelCode(
            declared(shares, body), support=support,
            variant="by rows" if by_rows else "by columns", shares=count_of(shares),
        )  # fmt: skip


class S8LayerNorm:
    """layernorm over the last axis."""

    name = "s8-layernorm"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops, images, what cannot be held in int32."""
        if op.kind != "layernorm":
            return f"{op.kind} is not layernorm"
        if not logical_order(graph.tensors[op.output].shape):
            return "its rows lie in the order of an image"
        try:
            norm_parameters(graph, op)
        except UnsupportedOpError as error:
            return str(error)
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        return norm_code(graph, op, machine, "s8_layernorm")


def norm_code(
    graph: Graph, op: Op, machine: Machine, function: str, arguments: str = ""
) -> KernelCode:
    """One call for all rows of a layernorm.

    Args:
        graph: an integer graph.
        op: a layernorm.
        machine: whose threads share it.
        function: the support function, also the name of its file.
        arguments: its last arguments, each after a comma.
    """
    shape = graph.tensors[op.output].shape
    weight, bias = (graph.tensors[name].data for name in op.inputs[1:])
    assert weight is not None and bias is not None
    p = norm_parameters(graph, op)
    rows, size = math.prod(shape[:-1]), shape[-1]
    shares = share_rows(machine, rows, NORM_CYCLES * rows * size)
    body = (
        f"static const s8_norm norm = {{.multiplier = {p.multiplier}, .shift = {p.shift},\n"
        f"    {bounds_fields(graph, op)}, .epsilon = {p.epsilon}u}};\n"
        f"{function}(&norm, {moved('in0', shares, size)}, weight, bias, "
        f"{count_text(shares, rows)}, {size}, {moved('out', shares, size)}{arguments});"
    )
    constants = (
        Constant("weight", weight.astype(np.int16)),
        Constant("bias", bias.astype(np.int32)),
    )
    support = (requantise_support(graph), f"{function}.h")
    return KernelCode(
        declared(shares, body), constants, support, in_place=(0,), variant="12 bits of fraction",
        shares=count_of(shares),
    )  # fmt: skip
