"""int8 additions as two float32 multiplications, where they give the same integers.

The integer arithmetic of an addition scales three times; vectors do it six times faster as
round(a * x + (b * y + c)) in float32. There are only 65,536 pairs of inputs, so whether that equals
the integers is not argued but tried, on all of them; a few nudges of c move the rare result that
falls on the wrong side of a half.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import number
from cofit.ir import Graph, Op, Rounding
from cofit.ir.integer import AddRequant, Epilogue, add_requant, affine, output_bounds
from cofit.ir.integer import add as add_integers

NUDGES = 64
NUDGE = 2.0**-20
LEAST_FACTOR, MOST_FACTOR = 2.0**-8, 2.0**4
"""Bounds between which products and sums are exact in float64, so that it can stand for float32
with a fused multiplication."""


@dataclass(frozen=True)
class FloatSum:
    """Output = round(a * x + (b * y + c)) before clamping, of stored values x and y."""

    a: float
    b: float
    c: float

    @property
    def fields(self) -> str:
        """C initialiser of an `s8_float_sum`."""
        return "{" + ", ".join(map(number, (self.a, self.b, self.c))) + "}"


def float_sum(graph: Graph, op: Op, x: int = 0) -> FloatSum | None:
    """Factors that give the integers of an add op for all inputs, if some were found.

    Args:
        graph: an integer graph.
        op: an add.
        x: position of the input that is x.
    """
    assert graph.spec is not None
    names = (op.inputs[x], op.inputs[1 - x])
    zeros = tuple(affine(graph, name)[1] for name in (*names, op.output))
    scales = [affine(graph, name)[0] for name in (*names, op.output)]
    return _search(
        ordered(add_requant(graph, op), x), zeros, (scales[0] / scales[2], scales[1] / scales[2]),
        output_bounds(graph, op), graph.spec.rounding,
    )  # fmt: skip


def ordered(requant: AddRequant, x: int) -> AddRequant:
    """Scalings of an addition with the input at position `x` as the first."""
    return replace(requant, first=requant.second, second=requant.first) if x else requant


@functools.lru_cache(maxsize=256)
def _search(
    requant: AddRequant,
    zeros: tuple[int, ...],
    factors: tuple[float, float],
    bounds: tuple[int, int],
    rounding: Rounding,
) -> FloatSum | None:
    a, b = (float(np.float32(factor)) for factor in factors)
    if min(a, b) < LEAST_FACTOR or max(a, b) > MOST_FACTOR:
        return None
    stored = np.arange(-128, 128)
    x, y = stored[:, None].astype(np.int8), stored[None, :].astype(np.int8)
    epilogue = Epilogue(*requant.output, zeros[2], bounds, rounding)
    wanted = add_integers(x, y, requant, epilogue, offsets=(-zeros[0], -zeros[1]))
    c = zeros[2] - a * zeros[0] - b * zeros[1]
    for nudge in itertools.islice(_around_zero(), NUDGES):
        found = FloatSum(a, b, float(np.float32(c + nudge * NUDGE)))
        if np.array_equal(evaluate(found, stored[:, None], stored[None, :], bounds), wanted):
            return found
    return None


def evaluate(
    s: FloatSum, x: NDArray[np.int64], y: NDArray[np.int64], bounds: tuple[int, int]
) -> NDArray[np.int64]:
    """What the C of `s` gives: each multiplication and addition rounded once, to float32."""
    inner = (s.b * y + s.c).astype(np.float32).astype(np.float64)
    outer = (s.a * x + inner).astype(np.float32)
    return np.clip(np.rint(outer).astype(np.int64), *bounds)


def _around_zero() -> itertools.chain[int]:
    """0, 1, -1, 2, -2, ..."""
    pairs = ((n, -n) for n in itertools.count(1))
    return itertools.chain((0,), itertools.chain.from_iterable(pairs))
