"""fp32 GRU and LSTM over a sequence: all input products first, then step by step.

The products by W_ih of all steps are one matrix product in the tiles of a linear op; a step is a
matrix-vector product by W_hh in the same tiles, and the gates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.f32_conv import accumulate_dense, pack_outputs
from cofit.codegen.kernels.tile import choose_tile, pixel_loops, pretty, vector_type
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op

_SIGMOID = "f32_sigmoid({})"
# `a`: W_ih x + b_ih of the step, `b`: W_hh h + b_hh, `cell`: the LSTM's memory
_GRU = f"""\
const float r = {_SIGMOID.format("a[j] + b[j]")};
const float z = {_SIGMOID.format("a[j + {H}] + b[j + {H}]")};
const float n = f32_tanh(a[j + {{2H}}] + r * b[j + {{2H}}]);
state[j] = (1.0f - z) * n + z * h[j];"""
_LSTM = f"""\
const float i = {_SIGMOID.format("a[j] + b[j]")};
const float f = {_SIGMOID.format("a[j + {H}] + b[j + {H}]")};
const float g = f32_tanh(a[j + {{2H}}] + b[j + {{2H}}]);
const float o = {_SIGMOID.format("a[j + {3H}] + b[j + {3H}]")};
cell[j] = f * cell[j] + i * g;
state[j] = o * f32_tanh(cell[j]);"""


class F32Recurrent:
    """Every gru and lstm op on a machine with a libm."""

    name = "f32-recurrent"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops, and machines without a libm."""
        if op.kind not in ("gru", "lstm"):
            return f"{op.kind} is not recurrent"
        if machine.freestanding:
            return f"float {op.kind} needs libm, which {machine.name} does not have"
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Scratch holds the input products of all steps, those of a step, and zeros."""
        steps, features = graph.tensors[op.inputs[0]].shape[1:]
        w_ih, w_hh, b_ih, b_hh = (_values(graph, name) for name in op.inputs[1:])
        hidden, gates = w_hh.shape[1], len(w_hh)
        inner, constants = _dense(machine, "ih", w_ih, b_ih, steps, "in0", "inner")
        outer, more = _dense(machine, "hh", w_hh, b_hh, 1, "h", "b")
        update = _GRU if op.kind == "gru" else _LSTM
        for count in (1, 2, 3):
            name = "{H}" if count == 1 else f"{{{count}H}}"
            update = update.replace(name, str(count * hidden))
        cell = op.kind == "lstm"
        body = "\n".join([
            vector_type(machine.vector_floats, "none"),
            "float *const inner = (float *)(void *)scratch;",
            f"float *const b = inner + {steps * gates};",
            f"float *const zeros = b + {gates};",
            f"float *const cell = zeros + {hidden};" if cell else "",
            f"__builtin_memset(zeros, 0, {hidden * (1 + cell)} * sizeof(float));",
            inner,
            f"for (int t = 0; t < {steps}; ++t) {{",
            f"const float *const a = inner + t * {gates};",
            f"const float *const h = t > 0 ? out + (t - 1) * {hidden} : zeros;",
            f"float *const state = out + t * {hidden};",
            outer,
            f"for (int j = 0; j < {hidden}; ++j) {{",
            update,
            "}",
            "}",
        ])  # fmt: skip
        floats = (steps + 1) * gates + (1 + cell) * hidden
        return KernelCode(
            pretty("\n".join(line for line in body.splitlines() if line)),
            (*constants, *more),
            ("f32_functions.h",),
            scratch_bytes=4 * floats,
            variant=f"{steps} steps of {features} to {hidden}",
        )


def _values(graph: Graph, name: str) -> NDArray[Any]:
    return np.asarray(graph.tensors[name].data, np.float32)


def _dense(
    machine: Machine,
    name: str,
    weight: NDArray[Any],
    bias: NDArray[Any],
    rows: int,
    source: str,
    target: str,
) -> tuple[str, tuple[Constant, ...]]:
    """C of `target` = `source` @ weight^T + bias for so many rows, and what it reads."""
    outputs, inputs = weight.shape
    win = Window(inputs, 1, rows, outputs, 1, rows)
    tile = choose_tile(machine, outputs, rows, inputs)
    blocks = -(-outputs // tile.outputs)
    packed = pack_outputs(weight, 1, blocks, tile)
    start = pack_outputs(bias[:, None], 1, blocks, tile)
    code = "\n".join([
        "{",
        "const int y = 0, y0 = 0;",
        f"const float *const x = {source};",
        f"for (int block = 0; block < {blocks}; ++block) {{",
        f"const int k = block * {tile.outputs};",
        f"const float *const weights = w_{name} + block * {packed.size // blocks};",
        pixel_loops(
            win, tile, lambda n: accumulate_dense(win, tile, n),
            f"b_{name} + block * {tile.outputs}", target=target,
        ),
        "}",
        "}",
    ])  # fmt: skip
    align = 4 * tile.lanes
    return code, (Constant(f"w_{name}", packed, align), Constant(f"b_{name}", start, align))
