"""The ONNX form of what sequences need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.export.onnx_sheet import Sheet
from cofit.ir import attributes as at
from cofit.ir.types import Graph, Op, Tensor

# torch's order of gates in ONNX's: r z n -> z r n, i f g o -> i o f g
_GATES = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}


def matmul(sheet: Sheet, product: at.Matmul, inputs: Sequence[str], rank: int, output: str) -> None:
    """A transposition, a product and a factor, where there are such."""
    x, y = inputs
    if product.transposed:
        order = (*range(rank - 2), rank - 1, rank - 2)
        y = sheet.node("Transpose", [y], sheet.fresh(f"{output}/columns"), perm=order)
    if product.scale == 1:
        sheet.node("MatMul", [x, y], output)
        return
    bare = sheet.node("MatMul", [x, y], sheet.fresh(f"{output}/product"))
    factor = sheet.constant(f"{output}/factor", np.array(product.scale, np.float32))
    sheet.node("Mul", [bare, factor], output)


def gelu(sheet: Sheet, x: str, by_tanh: bool, output: str) -> None:
    """X / 2 * (1 + erf(x / sqrt 2)), or its form with a tanh; opset 17 has no Gelu."""

    def number(value: float) -> str:
        return sheet.constant(f"{output}/number", np.array(value, np.float32))

    def step(kind: str, *inputs: str) -> str:
        return sheet.node(kind, inputs, sheet.fresh(f"{output}/{kind.lower()}"))

    if by_tanh:
        cube = step("Mul", step("Mul", step("Mul", x, x), x), number(0.044715))
        inner = step("Mul", step("Add", x, cube), number(math.sqrt(2 / math.pi)))
        gate = step("Tanh", inner)
    else:
        gate = step("Erf", step("Mul", x, number(math.sqrt(0.5))))
    half = step("Mul", x, number(0.5))
    sheet.node("Mul", [half, step("Add", gate, number(1.0))], output)


def recurrent(sheet: Sheet, graph: Graph, op: Op, inputs: Sequence[str], output: str) -> None:
    """A GRU or LSTM node, which wants steps before the batch and gates in its own order."""
    w_ih, w_hh, *biases = (_real(graph.tensors[name]) for name in op.inputs[1:5])
    order = _GATES[op.kind]
    both = np.concatenate([_gates(bias, order) for bias in biases])
    operands = [
        sheet.node("Transpose", inputs[:1], sheet.fresh(f"{output}/steps"), perm=(1, 0, 2)),
        sheet.constant(f"{output}/input", _gates(w_ih, order)[None]),
        sheet.constant(f"{output}/state", _gates(w_hh, order)[None]),
        sheet.constant(f"{output}/bias", both[None]),
    ]
    for state in inputs[1:]:  # after the lengths of sequences, which are all the same
        first = sheet.node("Transpose", [state], sheet.fresh(f"{output}/first"), perm=(1, 0, 2))
        operands += ["", first]
    options: dict[str, Any] = {"hidden_size": w_hh.shape[1]}
    if op.kind == "gru":
        options["linear_before_reset"] = 1
    states = sheet.node(op.kind.upper(), operands, sheet.fresh(f"{output}/states"), **options)
    one = sheet.integers(f"{output}/direction", [1])
    flat = sheet.node("Squeeze", [states, one], sheet.fresh(f"{output}/flat"))
    sheet.node("Transpose", [flat], output, perm=(1, 0, 2))


def _real(tensor: Tensor) -> NDArray[Any]:
    data = np.asarray(tensor.data)
    if tensor.quantisation is None:
        return data
    scales = np.array(tensor.quantisation.scale).reshape(-1, *[1] * (data.ndim - 1))
    real: NDArray[Any] = data * scales
    return real


def _gates(values: NDArray[Any], order: Sequence[int]) -> NDArray[np.float32]:
    parts = np.split(values, len(order))
    return np.concatenate([parts[gate] for gate in order]).astype(np.float32)
