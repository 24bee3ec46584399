"""A trained network in integers, on the mapped netlists of both engines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.models.bayesian import Posterior
from cofit.rtl import (
    Energy,
    Engine,
    Layer,
    Netlist,
    Simulator,
    compute,
    drawn,
    energy,
    load,
    reset,
    source,
    sums,
    synthesise,
)
from cofit.rtl.model import Integers

Bytes = NDArray[np.int8]


GENERATED = 2000
"""Numbers over which a generator's energy is averaged."""


@dataclass(frozen=True, eq=False)
class Quantised:
    """A layer's weights in bytes of one scale, and the right shift of its outputs.

    Attributes:
        mu, sigma: (M, N).
        scale: what a unit of them is.
        shift: from units of mu * x to the next layer's bytes, after the ReLU.
    """

    mu: Bytes
    sigma: Bytes
    scale: float
    shift: int


def quantise(layers: Sequence[Posterior], x: Bytes) -> list[Quantised]:
    """Layers in bytes; shifts are set so that the mean network does not clip on calibration data.

    Args:
        layers: linear, without biases.
        x: calibration inputs (B, N).
    """
    found = []
    for layer in layers:
        mu, sigma = layer.mu.double().numpy(), layer.sigma.double().numpy()
        scale = max(float(np.abs(mu).max()), float(sigma.max())) / 127
        whole = [np.rint(values / scale).astype(np.int8) for values in (mu, sigma)]
        y = x.astype(np.int64) @ whole[0].T.astype(np.int64)
        shift = max(0, math.ceil(math.log2(max(float(y.max()), 1) / 127)))
        found.append(Quantised(whole[0], whole[1], scale, shift))
        x = rectified(y, 1.0, shift)
    return found


def rectified(y: Integers, unit: float, shift: int) -> Bytes:
    """ReLU and the next layer's bytes of sums in a unit."""
    whole = np.floor(y * unit).astype(np.int64) >> shift
    clipped: Bytes = np.clip(whole, 0, 127).astype(np.int8)
    return clipped


def netlist(engine: Engine) -> Netlist:
    """The engine on standard cells."""
    return synthesise(engine.verilog(ram=False), source("ram"), "layer")


@dataclass(frozen=True, eq=False)
class Run:
    """A network on an engine.

    Attributes:
        votes: (V, voters, classes), in the engine's unit.
        energy: per vector, of loading x and computing; weights lie in the memories.
        cycles: of the same.
        mismatches: sums that differ from the integer model.
        compared: all of them.
    """

    votes: Integers
    energy: Energy
    cycles: int
    mismatches: int
    compared: int


def simulate(
    engine: Engine, design: Netlist, layers: Sequence[Quantised], x: Bytes, samples: Sequence[int]
) -> Run:
    """Every layer draws `samples` for each distinct input, as the tree of a plan says.

    Args:
        engine: large enough for each layer.
        design: its netlist.
        layers: see `quantise`.
        x: (V, N), computed side by side with the same random numbers.
        samples: per layer; (T, 1, ...) are T independent voters.
    """
    simulator = Simulator(design, len(x))
    reset(simulator)
    inputs, skip = [x], 0
    used = Energy(0.0, 0.0, 0.0, {})
    cycles = mismatches = compared = 0
    outputs: list[Integers] = []
    for layer, count in zip(layers, samples, strict=True):
        outputs = []
        for number, each in enumerate(inputs):
            operands = Layer(layer.mu, layer.sigma, each, count)
            if number == 0:
                load(simulator, engine, operands)
            simulator.count()
            load(simulator, engine, operands, weights=False)
            found = compute(simulator, engine, operands)
            used, cycles = used + energy(simulator), cycles + simulator.cycles
            rows, columns = layer.mu.shape
            eps = drawn(engine, rows, columns, count, skip)
            skip += -(-rows // engine.lanes) * columns * count
            expected = sums(engine, layer.mu, layer.sigma, each, eps)
            mismatches += int((expected != found).sum())
            compared += found.size
            outputs.append(found)
        inputs = [
            rectified(found[:, voter], engine.unit, layer.shift)
            for found in outputs
            for voter in range(count)
        ]
    return Run(np.concatenate(outputs, axis=1), used, cycles, mismatches, compared)


def generator_j(engine: Engine) -> float:
    """What the cells of one generator of normal numbers spend per number."""
    seed = "".join(map(str, engine.seeds()[0][::-1]))
    top = (
        "module top (input clk, input reset, input draw, output signed [7:0] value);\n"
        f"    normal #(.FRACTION({engine.fraction}), .SEED(97'b{seed})) unit (\n"
        "        .clk(clk), .reset(reset), .draw(draw), .value(value));\nendmodule\n"
    )
    simulator = Simulator(synthesise(source("normal") + top, "", "top"), 1)
    reset(simulator)
    simulator.set({"draw": 1})
    simulator.count()
    simulator.step(GENERATED)
    return energy(simulator).cells_j / GENERATED


@dataclass(frozen=True)
class Rates:
    """What an engine's cells spend per cycle of each kind of pass, in joules, memories apart."""

    fixed_j: float
    voter_j: float


def rates(engine: Engine, design: Netlist, layer: Quantised, x: Bytes, voters: int) -> Rates:
    """From two runs of one layer, with 1 and with several voters."""
    few, many = (simulate(engine, design, [layer], x, [t]) for t in (1, voters))
    rows, columns = layer.mu.shape
    per_pass = -(-rows // engine.lanes) * columns
    voter = (many.energy.cells_j - few.energy.cells_j) / (per_pass * (voters - 1))
    fixed = (few.energy.cells_j - voter * per_pass) / (2 * per_pass) if engine.memorise else 0.0
    return Rates(fixed, voter)
