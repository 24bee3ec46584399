"""Cycles, energy and area of the engines on a network of the published size.

Cycles follow the formula that simulation confirmed; cells spend per cycle what they spent in
simulation; memories are those of the larger network, priced by the same table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cofit.reproductions.bnn_dm.hardware import Rates
from cofit.rtl import Engine, Table


@dataclass(frozen=True)
class Scaled:
    """A network's cost on an engine.

    Attributes:
        cycles: per inference.
        cells_j, memory_j: energy per inference.
        memory_um2: of weights, inputs and memorised products.
    """

    cycles: int
    cells_j: float
    memory_j: float
    memory_um2: float

    @property
    def energy_j(self) -> float:
        """In all."""
        return self.cells_j + self.memory_j


def scaled(
    engine: Engine, rates: Rates, table: Table, sizes: Sequence[int], samples: Sequence[int],
    weights_once: bool = False,
) -> Scaled:  # fmt: skip
    """Cost of a multilayer perceptron.

    Args:
        engine: flow, lanes and block.
        rates: of its cells.
        table: of memories.
        sizes: inputs, then outputs of each layer.
        samples: per layer and distinct input.
        weights_once: a standard engine that keeps the sums of all voters in a memory, and so reads
            mu and sigma once per layer; a sum is read and written back for each product.
    """
    word = 8 * engine.lanes
    groups = [-(-rows // engine.lanes) for rows in sizes[1:]]
    places = sum(g * columns for g, columns in zip(groups, sizes, strict=False))
    weight_bits, x_bits = places * word, max(sizes[:-1]) * 8
    beta_bits = max(sizes[:-1]) * engine.block * engine.lanes * engine.beta_bits
    weight = table.sram_j(weight_bits, word)
    x = table.sram_j(x_bits, 8)
    beta = table.sram_j(beta_bits, engine.lanes * engine.beta_bits)
    sum_bits = engine.lanes * engine.accumulator_bits
    total = table.sram_j(sum_bits * math.prod(samples), sum_bits)
    cycles, cells, memory = 0, 0.0, 0.0
    for layer, (group, columns) in enumerate(zip(groups, sizes, strict=False)):
        inputs = math.prod(samples[:layer])
        places, count = inputs * group * columns, samples[layer]
        cycles += inputs * engine.cycles(group * engine.lanes, columns, count)
        memory += inputs * columns * x  # loading it
        if engine.memorise:
            cells += places * (2 * rates.fixed_j + count * rates.voter_j)
            memory += places * (2 * weight + 2 * x + (1 + count) * beta)
        else:
            cells += places * count * rates.voter_j
            reads = places // inputs if weights_once else places * count
            memory += reads * 2 * weight + places * count * (x + (2 * total if weights_once else 0))
    bits = 2 * weight_bits + x_bits + (beta_bits if engine.memorise else 0)
    return Scaled(cycles, cells, memory, bits * table.bit_um2)
