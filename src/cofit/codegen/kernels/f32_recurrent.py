"""fp32 GRU and LSTM over a sequence: all input products first, then step by step.

The products by W_ih of all steps are one matrix product in the tiles of a linear op; a step is a
matrix-vector product by W_hh in the same tiles, and the gates. Either weight may have a structure:
its products then go by lists of kept columns, and rows that are gone stay at their bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.block_lists import Lists, block_lists, stripe_lists
from cofit.codegen.kernels.encoded import too_dense, weight_encoding
from cofit.codegen.kernels.f32_block import list_code
from cofit.codegen.kernels.f32_conv import accumulate_dense, pack_outputs
from cofit.codegen.kernels.plane_lists import single_lists
from cofit.codegen.kernels.tile import choose_tile, pixel_loops, pretty, vector_type
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, Tensor

FORMATS = ("ocb", "bspc", "csr", "nm")
DENSITY_LIMIT = 0.8  # above it, dense code is as fast


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
        w_ih, w_hh, b_ih, b_hh = (graph.tensors[name] for name in op.inputs[1:5])
        gates, hidden = w_hh.shape
        inner = _product(machine, "ih", w_ih, b_ih, steps, "in0", "inner")
        outer = _product(machine, "hh", w_hh, b_hh, 1, "h", "outer")
        cell = op.kind == "lstm"
        first = "zeros" if len(op.inputs) == 5 else "in5"
        body = "\n".join([
            "float *const inner = (float *)(void *)scratch;",
            f"float *const outer = inner + {steps * gates};",
            f"float *const zeros = outer + {gates};",
            f"float *const cell = zeros + {hidden};" if cell else "",
            f"__builtin_memset(zeros, 0, {hidden * (1 + cell)} * sizeof(float));",
            inner.before,
            inner.code,
            f"for (int t = 0; t < {steps}; ++t) {{",
            f"const float *const a = inner + t * {gates};",
            f"const float *const h = t > 0 ? out + (t - 1) * {hidden} : {first};",
            f"float *const state = out + t * {hidden};",
            outer.before,
            outer.code,
            f"f32_lstm(a, outer, cell, state, {hidden});"
            if cell
            else f"f32_gru(a, outer, h, state, {hidden});",
            "}",
        ])  # fmt: skip
        floats = (steps + 1) * gates + (1 + cell) * hidden
        forms = [f"{p.name} {p.form}" for p in (inner, outer) if p.form]
        return KernelCode(
            pretty("\n".join(line for line in body.splitlines() if line)),
            (*inner.constants, *outer.constants),
            ("f32_recurrent.h",),
            scratch_bytes=4 * floats,
            variant=", ".join((f"{steps} steps of {features} to {hidden}", *forms)),
        )


@dataclass(frozen=True, eq=False)
class _Product:
    """C of `target` = `source` @ weight^T + bias, and what it reads.

    Attributes:
        name: "ih" or "hh".
        form: structure of the weight, "" where it is dense.
        before: what is done first, whatever the source.
        code: the product; every name of its own is inside a block.
        constants: of both.
    """

    name: str
    form: str
    before: str
    code: str
    constants: tuple[Constant, ...]


def _product(
    machine: Machine, name: str, weight: Tensor, bias: Tensor, rows: int, source: str, target: str
) -> _Product:
    """By the weight's lists if it has a structure that saves enough, else dense."""
    outputs, inputs = weight.shape
    win = Window(inputs, 1, rows, outputs, 1, rows)
    start = np.asarray(bias.data, np.float32)
    lists = _lists(weight, machine)
    if lists is None:
        values = np.asarray(weight.data, np.float32)
        return _dense(machine, name, win, values, start, source, target)
    form, before = str(weight.structure), ""
    constants: tuple[Constant, ...] = ()
    if lists.leaves_idle(outputs):
        constants = (Constant(f"rest_{name}", start),)
        before = (
            f"for (int i = 0; i < {rows}; ++i)\n"
            f"    __builtin_memcpy({target} + i * {outputs}, rest_{name}, {4 * outputs});"
        )
    length = lists.channel.size // lists.blocks
    tile = choose_tile(machine, lists.out, rows, length, block=lists.out)
    products = list_code(win, tile, lists, start, f"_{name}", target)
    code = "\n".join([
        "{",
        vector_type(tile.lanes, "none"),
        "const int y = 0, y0 = 0;",
        f"const float *const x = {source};",
        f"for (int b = 0; b < {products.tiles}; ++b) {{",
        products.prepare,
        products.loops,
        "}",
        "}",
    ])  # fmt: skip
    return _Product(name, form, before, code, (*constants, *products.constants))


def _lists(weight: Tensor, machine: Machine) -> Lists | None:
    encoding = weight_encoding(weight, FORMATS)
    if isinstance(encoding, str) or too_dense(encoding, DENSITY_LIMIT):
        return None
    if not encoding.arrays["values"].size:
        return None  # lists of nothing are no C
    match encoding.format:
        case "ocb":
            return block_lists(encoding)
        case "bspc":
            return stripe_lists(encoding, machine.vector_floats)
        case _:
            return single_lists(encoding)


def _dense(
    machine: Machine,
    name: str,
    win: Window,
    weight: NDArray[Any],
    bias: NDArray[Any],
    source: str,
    target: str,
) -> _Product:
    tile = choose_tile(machine, win.outputs, win.width, win.channels)
    blocks = -(-win.outputs // tile.outputs)
    packed = pack_outputs(weight, 1, blocks, tile)
    start = pack_outputs(bias[:, None], 1, blocks, tile)
    code = "\n".join([
        "{",
        vector_type(tile.lanes, "none"),
        "const int y = 0, y0 = 0;",
        f"const float *const x = {source};",
        f"for (int block = 0; block < {blocks}; ++block) {{",
        f"const int k = block * {tile.outputs};",
        f"const float *const weights = weight_{name} + block * {packed.size // blocks};",
        pixel_loops(
            win, tile, lambda n: accumulate_dense(win, tile, n),
            f"bias_{name} + block * {tile.outputs}", target=target,
        ),
        "}",
        "}",
    ])  # fmt: skip
    align = 4 * tile.lanes
    constants = (
        Constant(f"weight_{name}", packed, align),
        Constant(f"bias_{name}", start, align),
    )
    return _Product(name, "", "", code, constants)
