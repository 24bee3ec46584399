"""fp32 layer norm over the last axis; needs a square root."""

from __future__ import annotations

import numpy as np

from cofit.codegen.c_text import number
from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.shares import count_of, declared, range_of, share_rows
from cofit.codegen.layout import logical_order
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, attributes

CYCLES = 1  # of one element


class F32LayerNorm:
    """(x - mean) / sqrt(var + eps) * weight + bias, the variance from differences."""

    name = "f32-layernorm"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Images, and machines without a libm."""
        if op.kind != "layernorm":
            return f"{op.kind} is not layernorm"
        if not logical_order(graph.tensors[op.output].shape):
            return "its rows lie in the order of an image"
        if machine.freestanding:
            return f"float layernorm needs libm, which {machine.name} does not have; quantise it"
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Three passes per row; sums in eight parts, which vectors hold."""
        assert isinstance(op.attributes, attributes.LayerNorm)
        size = graph.tensors[op.output].shape[-1]
        rows = graph.tensors[op.output].size // size
        whole = size // 8 * 8
        shares = share_rows(machine, rows, CYCLES * rows * size)
        first, last = range_of(shares, "rows", rows)
        body = f"""\
for (int row = {first}; row < {last}; ++row) {{
    const float *x = in0 + row * {size};
    float *y = out + row * {size};
    float sums[8] = {{0.0f}}, squares[8] = {{0.0f}};
    for (int i = 0; i < {whole}; i += 8)
        for (int j = 0; j < 8; ++j) sums[j] += x[i + j];
    for (int i = {whole}; i < {size}; ++i) sums[i - {whole}] += x[i];
    float mean = 0.0f, variance = 0.0f;
    for (int j = 0; j < 8; ++j) mean += sums[j];
    mean *= {number(1 / size)};
    for (int i = 0; i < {whole}; i += 8)
        for (int j = 0; j < 8; ++j) squares[j] += (x[i + j] - mean) * (x[i + j] - mean);
    for (int i = {whole}; i < {size}; ++i) squares[i - {whole}] += (x[i] - mean) * (x[i] - mean);
    for (int j = 0; j < 8; ++j) variance += squares[j];
    const float inverse = 1.0f / sqrtf(variance * {number(1 / size)} + {number(op.attributes.eps)});
    for (int i = 0; i < {size}; ++i) y[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
}}"""
        constants = tuple(
            Constant(name, np.asarray(graph.tensors[tensor].data, np.float32))
            for name, tensor in zip(("weight", "bias"), op.inputs[1:], strict=True)
        )
        return KernelCode(
            declared(shares, body), constants, ("libm.h",), in_place=(0,), variant="two passes",
            shares=count_of(shares),
        )  # fmt: skip
