"""A digital SRAM macro: exact adder trees, bit-serial inputs, weights loaded for every layer.

Cycles in closed form, layer by layer. Filters that are complementary pairs share a stored word
(DDC-PIM, arXiv 2310.20424): half of the loads, and half of the filter steps. Depthwise layers,
whose channels need different inputs, gain only where two inputs are broadcast at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cofit.targets.arrays.activity import Activity
from cofit.targets.arrays.matrix import Matrix, MatrixCost

Mode = Literal["baseline", "fcc", "fcc+dual", "fcc+dual+split"]
MODES: tuple[Mode, ...] = ("baseline", "fcc", "fcc+dual", "fcc+dual+split")


@dataclass(frozen=True)
class Layer:
    """One convolution as the macro sees it.

    Attributes:
        filters: K.
        weights: of one filter, L = (C / groups) * R * S.
        pixels: P, of the output.
        depthwise: one input channel per filter.
        paired: filters are complementary pairs.
    """

    filters: int
    weights: int
    pixels: int
    depthwise: bool
    paired: bool


@dataclass(frozen=True)
class Macro:
    """Geometry of the macro.

    Attributes:
        rows: weights summed in a step.
        filters: computed in a step.
        input_bits: cycles of a step.
        weight_bits: of a weight.
        load_bits: of weights loaded in a cycle.
        parts: row groups that the reconfigurable unit sums apart.
        overlap: whether loading hides behind computing.
    """

    rows: int = 64
    filters: int = 16
    input_bits: int = 8
    weight_bits: int = 8
    load_bits: int = 64
    parts: int = 2
    overlap: bool = False

    def compute_cycles(self, layer: Layer, mode: Mode) -> int:
        """Cycles of arithmetic."""
        steps = layer.pixels * self.input_bits
        halved = layer.paired and mode != "baseline"
        if not layer.depthwise:
            tiles = math.ceil(layer.filters / (self.filters * (2 if halved else 1)))
            return math.ceil(layer.weights / self.rows) * tiles * steps
        at_once = 1
        if halved and mode in ("fcc+dual", "fcc+dual+split"):
            at_once = 2
        if at_once == 2 and mode == "fcc+dual+split":
            at_once *= max(1, min(self.parts, self.rows // layer.weights))
        return math.ceil(layer.filters / at_once) * steps

    def load_cycles(self, layer: Layer, mode: Mode) -> int:
        """Cycles of loading weights."""
        filters = layer.filters
        if layer.paired and mode != "baseline":
            filters = math.ceil(filters / 2)
        return math.ceil(filters * layer.weights * self.weight_bits / self.load_bits)

    def cycles(self, layer: Layer, mode: Mode) -> int:
        """Cycles of a layer, loading included."""
        parts = self.compute_cycles(layer, mode), self.load_cycles(layer, mode)
        return max(parts) if self.overlap else sum(parts)

    def total(self, layers: Iterable[Layer], mode: Mode) -> int:
        """Cycles of a network."""
        return sum(self.cycles(layer, mode) for layer in layers)


@dataclass(frozen=True)
class DigitalChip:
    """One macro through which all layers pass.

    Attributes:
        name: for example "ddc".
        macro: its geometry.
        mode: what it makes of pairs.
        clock_hz: of its cycles.
        bit_pj: of multiplying and adding one bit by one bit; None where nothing is known.
        lanes: element-wise operations per cycle.
        node_nm: of the energy.
        facts: what reports say.
    """

    name: str
    macro: Macro
    mode: Mode
    clock_hz: float
    bit_pj: float | None
    lanes: int
    node_nm: int
    facts: Mapping[str, str] = field(default_factory=dict)

    sign_group = None
    assumed = None

    @property
    def states_energy(self) -> bool:
        """Whether anything is known of it."""
        return self.bit_pj is not None

    @property
    def pairs(self) -> bool:
        """Whether it makes something of filters in complementary pairs."""
        return self.mode != "baseline"

    def cost(self, matrix: Matrix, activity: Activity | None = None) -> MatrixCost:
        """Cost of a layer.

        Its weights are loaded for every inference; zeros of inputs save nothing.
        """
        depthwise = matrix.copies > 1 and matrix.filters <= 2
        copies = 1 if depthwise else matrix.copies
        filters = matrix.filters * (matrix.copies if depthwise else 1)
        layer = Layer(filters, matrix.rows, matrix.positions, depthwise, matrix.paired)
        bits = Macro(
            self.macro.rows, self.macro.filters, matrix.input_bits, matrix.weight_bits,
            self.macro.load_bits, self.macro.parts, self.macro.overlap,
        )  # fmt: skip
        cycles = copies * bits.cycles(layer, self.mode)
        steps = copies * bits.compute_cycles(layer, self.mode) / matrix.input_bits
        energy = None
        if self.bit_pj is not None:
            products = matrix.macs * matrix.input_bits * matrix.weight_bits
            energy = {"adder trees": products * self.bit_pj}
        ways = 2 if self.pairs and matrix.paired else 1
        used = matrix.macs / (steps * self.macro.rows * self.macro.filters * ways)
        return MatrixCost(cycles / self.clock_hz, energy, 1, min(used, 1.0))
