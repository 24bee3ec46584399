"""fp32 products of two activations: the second factor is packed, then the tiles are those of conv.

The rows of the first factor are the pixels of a 1x1 convolution whose weights are packed anew for
every matrix.
"""

from __future__ import annotations

import math

import numpy as np

from cofit.codegen.c_text import number
from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.f32_conv import accumulate_dense
from cofit.codegen.kernels.shares import count_of, declared, range_of, share_layer
from cofit.codegen.kernels.tile import choose_tile, pixel_loops, pretty, vector_type
from cofit.codegen.kernels.window import Window
from cofit.codegen.layout import logical_order
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, attributes


class F32Matmul:
    """scale * x @ y, matrix by matrix."""

    name = "f32-matmul"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Matrices that lie in the order of images."""
        return reject_product(graph, op)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Pack into scratch, multiply tile by tile."""
        assert isinstance(op.attributes, attributes.Matmul)
        matrices, rows, inner, columns = product_sizes(graph, op)
        win = Window(inner, matrices, rows, columns, matrices, rows)
        tile = choose_tile(machine, columns, rows, inner)
        blocks = -(-columns // tile.outputs)
        at = f"n * {inner} + c" if op.attributes.transposed else f"c * {columns} + n"
        scale = "" if op.attributes.scale == 1 else f" * {number(op.attributes.scale)}"
        value = f"from[{at}]{scale}"
        if columns % tile.outputs:
            value = f"n < {columns} ? {value} : 0.0f"
        cycles = matrices * rows * inner * columns / (2 * machine.vector_floats)
        shares = share_layer(machine, cycles, matrices, [1.0] * blocks, 0, 0)
        first_matrix, last_matrix = range_of(shares, "rows", matrices)
        first, last = range_of(shares, "outputs", blocks)
        each_block = f"for (int b = {first}; b < {last}; ++b)"
        body = "\n".join([
            vector_type(tile.lanes, "none"),
            "const int y0 = 0;",
            "const float *const x = in0;",
            "float *const packed = (float *)(void *)scratch;",
            f"for (int y = {first_matrix}; y < {last_matrix}; ++y) {{",
            f"const float *const from = in1 + y * {inner * columns};",
            each_block,
            f"for (int c = 0; c < {inner}; ++c)",
            f"for (int j = 0; j < {tile.outputs}; ++j) {{",
            f"const int n = b * {tile.outputs} + j;",
            f"packed[(b * {inner} + c) * {tile.outputs} + j] = {value};",
            "}",
            f"{each_block} {{",
            f"const int k = b * {tile.outputs};",
            f"const float *const weights = packed + b * {inner * tile.outputs};",
            pixel_loops(win, tile, lambda n: accumulate_dense(win, tile, n), "zeros"),
            "}",
            "}",
        ])  # fmt: skip
        return KernelCode(
            declared(shares, pretty(body)),
            (Constant("zeros", np.zeros(tile.outputs, np.float32), 4 * tile.lanes),),
            scratch_bytes=4 * blocks * tile.outputs * inner,
            variant=f"{tile.outputs} outputs x {tile.pixels} rows",
            shares=count_of(shares),
        )


def product_sizes(graph: Graph, op: Op) -> tuple[int, int, int, int]:
    """(matrices, rows, inner, columns) of a matmul."""
    x, out = graph.tensors[op.inputs[0]].shape, graph.tensors[op.output].shape
    return math.prod(x[:-2]), x[-2], x[-1], out[-1]


def reject_product(graph: Graph, op: Op) -> str | None:
    """None for a matmul of matrices that lie row by row."""
    if op.kind != "matmul":
        return f"{op.kind} is no product of two activations"
    for name in (*op.inputs, op.output):
        if graph.tensors[name].data is not None:
            return f"{name!r} is a constant; a linear op has its own kernels"
        if not logical_order(graph.tensors[name].shape):
            return f"{name!r} lies in the order of an image"
    return None
