"""GRU and LSTM in integers: int8 weights per row, gates and states of 16 bits.

Sums by W_ih (int8 inputs) and W_hh (states) are scaled to Q3.12, in [-8, 8). Sigmoid and tanh are
tables of 1025 values in Q0.15 at steps of 1/64, with linear interpolation. The state h is Q0.15 and
stays so from step to step; only what leaves the op is int8. `>>` rounds down after half is added.

    a = sat(R(b_ih + sum (x - zx) * w_ih, sx*sw*2^12)), b = sat(R(b_hh + sum h * w_hh, sw/2^3))
    gru:  r = s(sat(a_r + b_r)), z = s(sat(a_z + b_z)), n = t(sat(a_n + (r * b_n >> 15)))
          h = ((2^15 - z) * n + z * h) >> 15
    lstm: c = sat((s(f) * c >> 15) + (s(i) * t(g) >> 18)), c in Q3.12
          h = s(o) * t(c) >> 15
    y = clamp(R(h, 1 / (2^15 * sy)) + zy)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cofit.ir.integer.accumulate import Ints
from cofit.ir.integer.epilogue import Epilogue
from cofit.ir.integer.requantise import Int64, requantise
from cofit.ir.types import Rounding

GATE_BITS, STATE_BITS = 12, 15  # of fraction
INTERPOLATED_BITS = 6
ENTRIES = (1 << (16 - INTERPOLATED_BITS)) + 1

Rows = tuple[NDArray[np.int32], NDArray[np.int32]]
"""(multipliers, shifts), one per row of a weight."""


@dataclass(frozen=True)
class RecurrentParameters:
    """Scalings of the input's and the state's products, by row of their weights."""

    inner: Rows
    outer: Rows


@functools.cache
def gate_table(function: Literal["sigmoid", "tanh"]) -> NDArray[np.int16]:
    """Q0.15 values at -8, -8 + 1/64, ..., 8: int16 (1025,)."""
    x = np.linspace(-8.0, 8.0, ENTRIES)
    y = np.tanh(x) if function == "tanh" else 1 / (1 + np.exp(-x))
    top = (1 << STATE_BITS) - 1
    table: NDArray[np.int16] = np.clip(np.rint(y * (top + 1)), -top, top).astype(np.int16)
    return table


def gate(table: NDArray[np.int16], values: Int64) -> Int64:
    """The tabled function of Q3.12 values, in Q0.15."""
    shifted = values + (1 << 15)
    index, rest = shifted >> INTERPOLATED_BITS, shifted & ((1 << INTERPOLATED_BITS) - 1)
    low, high = table[index].astype(np.int64), table[index + 1].astype(np.int64)
    found: Int64 = low + _halves_up((high - low) * rest, INTERPOLATED_BITS)
    return found


def recurrent(
    kind: Literal["gru", "lstm"],
    args: list[Ints],
    parameters: RecurrentParameters,
    epilogue: Epilogue,
    *,
    input_offset: int,
) -> Ints:
    """Hidden states int8 (N, T, H) of x int8 (N, T, C) and the op's four constants."""
    x, w_ih, w_hh, b_ih, b_hh = (each.astype(np.int64) for each in args)
    rounding = epilogue.rounding
    inner = _scaled((x + input_offset) @ w_ih.T + b_ih, parameters.inner, rounding)
    h = np.zeros((len(x), w_hh.shape[1]), np.int64)
    c = np.zeros_like(h)
    states = []
    for t in range(x.shape[1]):
        outer = _scaled(h @ w_hh.T + b_hh, parameters.outer, rounding)
        if kind == "gru":
            h = _gru(inner[:, t], outer, h)
        else:
            h, c = _lstm(inner[:, t], outer, c)
        states.append(h)
    return epilogue(np.stack(states, 1), np.int8)


def _gru(inner: Int64, outer: Int64, h: Int64) -> Int64:
    sigmoid, tanh = gate_table("sigmoid"), gate_table("tanh")
    (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(inner, 3, -1), np.split(outer, 3, -1)
    r, z = gate(sigmoid, _saturated(a_r + b_r)), gate(sigmoid, _saturated(a_z + b_z))
    n = gate(tanh, _saturated(a_n + _halves_up(r * b_n, STATE_BITS)))
    return _halves_up(((1 << STATE_BITS) - z) * n + z * h, STATE_BITS)


def _lstm(inner: Int64, outer: Int64, c: Int64) -> tuple[Int64, Int64]:
    sigmoid, tanh = gate_table("sigmoid"), gate_table("tanh")
    i, f, g, o = np.split(_saturated(inner + outer), 4, -1)
    new = _halves_up(gate(sigmoid, i) * gate(tanh, g), 2 * STATE_BITS - GATE_BITS)
    c = _saturated(_halves_up(gate(sigmoid, f) * c, STATE_BITS) + new)
    return _halves_up(gate(sigmoid, o) * gate(tanh, c), STATE_BITS), c


def _scaled(acc: Int64, rows: Rows, rounding: Rounding) -> Int64:
    return _saturated(requantise(acc, rows[0], rows[1], rounding))


def _halves_up(values: Int64, bits: int) -> Int64:
    return (values + (1 << (bits - 1))) >> bits


def _saturated(values: Int64) -> Int64:
    return np.clip(values, -(1 << 15), (1 << 15) - 1)
