"""A multiply-accumulate as a mapped netlist, and what streams of operands cost in it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError, VerificationError
from cofit.rtl.cells import Table, default_table
from cofit.rtl.design import source
from cofit.rtl.energy import edge_j
from cofit.rtl.netlist import Netlist, synthesise
from cofit.rtl.simulation import Simulator

SUM_BITS = 24
FILL, DRAIN = 3, 3
"""Cycles until operands have passed all registers."""

Integers = NDArray[np.integer]


@functools.cache
def mac() -> Netlist:
    """The mapped multiply-accumulate: 8 x 8 bits, sums of 24.

    Raises:
        MissingDependencyError: Yosys is not installed.
    """
    return synthesise(source("mac"), "", "mac")


@dataclass(frozen=True, eq=False)
class Streamed:
    """What streams did to the netlist, means per transition and vector.

    Attributes:
        logic_j: energy of edges, operand and sum registers included; no clock, no leakage.
        gate_toggles: of combinational nets.
        sums: (T, V) last outputs of the unit, of each operand.
    """

    logic_j: float
    gate_toggles: float
    sums: NDArray[np.int64]


def stream_mac(
    weights: Integers, x: Integers, sums: Integers, table: Table | None = None
) -> Streamed:
    """Pass operands through the netlist, one after another, many streams side by side.

    The first operands are in place before anything is counted.

    Args:
        weights: (T, V) int8 values.
        x: (T, V) likewise.
        sums: (T, V) that come in with them.
        table: of cells.

    Raises:
        ConfigError: there are no two operands to pass from one to the other, or shapes differ.
        VerificationError: the netlist computes something else than sum + weight * x.
    """
    if not weights.shape == x.shape == sums.shape or len(weights) < 2:
        raise ConfigError(
            f"operands of shapes {weights.shape}, {x.shape}, {sums.shape}; give (T, V) for each, "
            "T at least 2"
        )
    netlist, steps = mac(), len(weights)
    simulator = Simulator(netlist, weights.shape[1])
    emitted = []

    def step(at: int, cycles: int = 1) -> None:
        simulator.set({"weight": weights[at], "x": x[at], "sum": sums[at]})
        for _ in range(cycles):
            simulator.step()
            emitted.append(simulator.read("y"))

    step(0, FILL)
    simulator.count()
    for at in range(1, steps):
        step(at)
    step(steps - 1, DRAIN)
    found = np.stack(emitted[1 : 1 + FILL - 1 + steps])[-steps:]
    half = 1 << (SUM_BITS - 1)  # sums wrap around
    if not np.array_equal(found, (sums + weights.astype(np.int64) * x + half) % (2 * half) - half):
        raise VerificationError("the netlist of the multiply-accumulate computes something else")
    per = (steps - 1) * weights.shape[1]
    edges = edge_j(netlist, default_table() if table is None else table)
    gates = simulator.toggles[netlist.gates[:, 4]].sum()
    return Streamed(float(simulator.toggles @ edges) / per, float(gates) / per, found)
