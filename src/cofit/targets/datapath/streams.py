"""What each multiply-accumulate unit of an array sees, cycle by cycle, and which bits toggle.

A layer is a matrix of weights (K, C) and the columns of its inputs (P, C), for P output positions.
The array has `height` units in a column: the C operands are cut in segments of that height, unit j
takes operand j of each segment, and sums pass from unit to unit and on to the next segment. An
"input" stationary array holds the inputs of a position while the rows of weights stream by,

    for position: for segment: for row in the segment's order,

a "weight" stationary one holds the weights of a row while positions stream by,

    for segment: for row in the segment's order: for position.

Idle units of a narrower last segment hold zeros and pass sums on.
"""

from __future__ import annotations

from collections.abc import Sequence as Listed
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError, StructureError, UnknownNameError
from cofit.targets.datapath.energy import SUM_BITS, Bits, Datapath

Stationary = Literal["input", "weight"]
STATIONARIES: tuple[Stationary, ...] = get_args(Stationary)
Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Operands:
    """Of one layer.

    Attributes:
        weights: (K, C) int8.
        inputs: (P, C) int8, or (P, K, C) where every row has its own (depthwise layers).

    Raises:
        StructureError: not int8, or shapes that do not belong together.
    """

    weights: Int8
    inputs: Int8

    def __post_init__(self) -> None:
        rows, columns = self.weights.shape
        if self.weights.dtype != np.int8 or self.inputs.dtype != np.int8:
            raise StructureError(
                f"operands are {self.weights.dtype} and {self.inputs.dtype}; an array streams int8"
            )
        if self.inputs.shape[1:] not in ((columns,), (rows, columns)):
            raise StructureError(
                f"weights of {rows} rows and {columns} columns do not meet inputs of shape "
                f"{self.inputs.shape}; give (P, {columns}) or (P, {rows}, {columns})"
            )


@dataclass(frozen=True, eq=False)
class Sequence:
    """What stands at the units' inputs, (T, height) each.

    Attributes:
        weights: int8.
        inputs: int8.
        sums: int32, that come in.
    """

    weights: Int8
    inputs: Int8
    sums: Int32


@dataclass(frozen=True)
class Activity:
    """What streams toggle; bits, and joules of the units without clock and leakage.

    Attributes:
        cycles: transitions, T - 1.
        units: of a column.
        weight_flips, input_flips, sum_flips: bits of all units.
        energy_j: of the array's column.
        rest_j: the same if weights had not toggled, and all else as it did.
    """

    cycles: int
    units: int
    weight_flips: int
    input_flips: int
    sum_flips: int
    energy_j: float
    rest_j: float

    @property
    def per_mac_j(self) -> float:
        """Joules per unit and cycle."""
        return self.energy_j / max(self.cycles * self.units, 1)


def sequence(
    operands: Operands,
    height: int,
    orders: Listed[NDArray[np.integer]] | None = None,
    stationary: Stationary = "input",
) -> Sequence:
    """Operands of every unit in the order of the cycles.

    Args:
        operands: of a layer; all of its T x C products stand in memory at once.
        height: of the array.
        orders: of the rows, one per segment; those of the matrix if absent.
        stationary: "input" or "weight".

    Raises:
        ConfigError: the height is below 1, or an order is missing or no permutation of the rows.
        UnknownNameError: another dataflow.
    """
    if height < 1:
        raise ConfigError(f"an array of height {height}; it must be at least 1")
    if stationary not in STATIONARIES:
        raise UnknownNameError("dataflow", stationary, STATIONARIES)
    (rows, columns), positions = operands.weights.shape, len(operands.inputs)
    segments = -(-columns // height)
    passed = [np.arange(rows)] * segments if orders is None else list(orders)
    if len(passed) != segments or any(
        not np.array_equal(np.sort(order), np.arange(rows)) for order in passed
    ):
        raise ConfigError(
            f"the matrix has {segments} segments of {rows} rows; give a permutation for each"
        )
    idle = (0, segments * height - columns)
    weights = np.pad(operands.weights, ((0, 0), idle))
    inputs = np.pad(operands.inputs, [*[(0, 0)] * (operands.inputs.ndim - 1), idle])
    if inputs.ndim == 2:
        inputs = inputs[:, None]
    products = weights.astype(np.int32) * inputs  # (P, K, C)
    sums = np.cumsum(products, axis=2, dtype=np.int32) - products

    def ordered(values: NDArray[np.generic]) -> NDArray[np.generic]:
        """(1 or P, 1 or K, C) as (T, height)."""
        whole = np.broadcast_to(values, (positions, rows, segments * height))
        parts = whole.reshape(positions, rows, segments, height)
        found = np.stack([parts[:, order, s] for s, order in enumerate(passed)], axis=1)
        if stationary == "weight":
            found = found.transpose(1, 2, 0, 3)  # (P, S, K, R) -> (S, K, P, R)
        return found.reshape(-1, height)

    return Sequence(
        ordered(weights[None]).astype(np.int8),
        ordered(inputs).astype(np.int8),
        ordered(sums).astype(np.int32),
    )


def activity(found: Sequence, hardware: Datapath) -> Activity:
    """Bits that toggle between the cycles of a sequence, and what they cost."""
    weights, inputs = found.weights.view(np.uint8), found.inputs.view(np.uint8)
    sums = found.sums.view(np.uint32) & np.uint32((1 << SUM_BITS) - 1)
    flips = Bits(_flips(weights), _flips(inputs), _flips(sums))
    ones = Bits(*(np.bitwise_count(words[1:]) for words in (weights, inputs, sums)))
    still = replace(flips, weights=np.zeros_like(flips.weights))
    return Activity(
        cycles=len(flips.weights),
        units=weights.shape[1],
        weight_flips=int(flips.weights.sum(dtype=np.int64)),
        input_flips=int(flips.inputs.sum(dtype=np.int64)),
        sum_flips=int(flips.sums.sum(dtype=np.int64)),
        energy_j=hardware.energy_j(flips, ones),
        rest_j=hardware.energy_j(still, ones),
    )


def _flips(words: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    counted: NDArray[np.uint8] = np.bitwise_count(words[1:] ^ words[:-1])
    return counted
