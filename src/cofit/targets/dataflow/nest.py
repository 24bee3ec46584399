"""Mappings as loop nests, and how often each tensor must be brought into each memory.

The rule of reuse (as in Timeloop, Interstellar and ZigZag): walk outwards from the loops that a
memory holds. Loops over dimensions that do not select elements of a tensor leave it where it is,
until the first that does; from there on each such loop brings the whole tensor in once more per
trip. Tiles at ragged edges are counted as what is left of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cofit.core import ConfigError
from cofit.targets.dataflow.layer import DIMS, RELEVANT, Array, C, G, K, Layers, N, R, S, X, Y


@dataclass(frozen=True, eq=False)
class Nest:
    """A batch of mappings with one order of loops.

    Attributes:
        loops: (level, dimension), inner first; levels must not fall. A loop of level l runs over
            tiles inside the memories of level l: those of level l - 1 are filled anew.
        trips: (J, P) of each loop.
        spatial: by dimension, units over which it is spread, (P,); absent means 1.
        halo_reuse: rows (or columns) of input that two tiles in sequence share are kept.
    """

    loops: tuple[tuple[int, int], ...]
    trips: Array
    spatial: Mapping[int, Array]
    halo_reuse: bool = False

    def __post_init__(self) -> None:
        levels = [level for level, _ in self.loops]
        if levels != sorted(levels):
            raise ConfigError(f"loops must stand inner first; their levels are {levels}")
        if len(self.loops) != len(self.trips):
            raise ConfigError(f"{len(self.loops)} loops have {len(self.trips)} rows of trips")
        if self.trips.size and self.trips.min() < 1:
            bad = self.loops[int(np.argmin(self.trips.min(axis=1)))]
            raise ConfigError(
                f"the loop over {DIMS[bad[1]]} at level {bad[0]} has no trips; 1 is the least"
            )

    def at(self, index: slice) -> Nest:
        """The mappings of some points."""
        return Nest(
            self.loops,
            self.trips[:, index],
            {dim: units[index] for dim, units in self.spatial.items()},
            self.halo_reuse,
        )

    def first_above(self, level: int) -> int:
        """Index of the innermost loop that a memory of this level does not hold."""
        return sum(at <= level for at, _ in self.loops)

    @cached_property
    def steps(self) -> Array:
        """Steps of the whole nest (P,)."""
        steps: Array = np.multiply.reduce(self.trips)
        return steps

    @cached_property
    def units(self) -> Array | float:
        """Units in use (P,)."""
        total: Array | float = 1.0
        for units in self.spatial.values():
            total = total * units
        return total

    def tile(self, level: int, dim: int, spatial: bool = False) -> Array | float:
        """Elements of a dimension in a tile of a level, not cut at the layer's size.

        Args:
            level: of memory; -1 is a multiplier. From 1 on, tiles are those of the whole array.
            dim: the dimension.
            spatial: of the whole array below level 1 too.
        """
        key = (level, dim)
        if key not in self._tiles:
            total: Array | float = 1.0
            for (at, over), trips in zip(self.loops, self.trips, strict=True):
                if at <= level and over == dim:
                    total = total * trips
            self._tiles[key] = total
        total = self._tiles[key]
        return (
            total * self.spatial[dim] if (spatial or level > 0) and dim in self.spatial else total
        )

    @cached_property
    def _tiles(self) -> dict[tuple[int, int], Array | float]:
        return {}


@dataclass(frozen=True, eq=False)
class Reuse:
    """What the walk over the loops finds for one tensor, by level from -1 (a multiplier) up.

    Attributes:
        visits: how often the whole tensor is brought into a level, (P,) each.
        sweep: trips of the loop over output rows (or columns) that moves the tile of a level
            first; 1 where another loop does.
        unlatched: visits of the multipliers if these forget a value after one use.
    """

    visits: dict[int, Array]
    sweep: dict[int, dict[int, Array]]
    unlatched: Array


def reuse(nest: Nest, tensor: str, levels: int) -> Reuse:
    """Visits of a tensor below every level of memory (see the head of this file)."""
    relevant = RELEVANT[tensor]
    follow = nest.halo_reuse and tensor == "input"
    ones = np.ones(nest.trips.shape[1])
    visits = run = ones
    sweep = {Y: ones, X: ones}
    found: dict[int, Array] = {}
    sweeps: dict[int, dict[int, Array]] = {}
    outer = len(nest.loops)
    for level in range(levels - 1, -1, -1):
        inner = nest.first_above(level - 1)
        for (_, dim), trips in zip(
            reversed(nest.loops[inner:outer]), reversed(nest.trips[inner:outer]), strict=True
        ):
            if dim not in relevant:
                run = run * trips
                continue
            moves = trips > 1
            visits = np.where(moves, run, visits)
            if follow:
                sweep = {
                    over: np.where(moves, trips if over == dim else 1.0, before)
                    for over, before in sweep.items()
                }
        found[level - 1], sweeps[level - 1] = visits, sweep
        outer = inner
    return Reuse(found, sweeps, run)


def window_extent(
    size: Array, kernel: Array, tile: Array | float, part: Array | float, stride: Array, step: Array
) -> Array:
    """Input positions along one side, summed over all tiles; those of one tile are counted once.

    A tile of t outputs and p kernel positions spans (t - 1) * stride + (p - 1) * step + 1. Where
    the stride jumps over input, only the t * p positions in use are counted.

    Args:
        size: outputs along this side.
        kernel: kernel positions along it.
        tile: outputs of a tile; the last one may be smaller.
        part: kernel positions of a tile.
        stride: between outputs.
        step: between kernel positions (dilation).
    """
    tiles, parts = np.ceil(size / tile), np.ceil(kernel / part)
    spans = parts * stride * (size - tiles) + tiles * (step * (kernel - parts) + parts)
    apart = stride > (np.minimum(part, kernel) - 1) * step
    return np.where(apart, size * kernel, spans)


def covered(
    layers: Layers,
    tensor: str,
    tile: Mapping[int, Array | float],
    sweep: Mapping[int, Array] | None = None,
) -> Array:
    """Elements of all tiles of a tensor together; of input, tiles overlap.

    Args:
        layers: of the points.
        tensor: which.
        tile: elements by dimension, of those that tiles of input depend on (Y, X, R, S).
        sweep: consecutive tiles along Y and X of which the overlap is kept.
    """
    n, g, k, c, y, x, r, s = layers.sizes
    total: Array
    if tensor == "weight":
        total = g * k * c * r * s
        return total
    if tensor == "output":
        total = n * g * k * y * x
        return total

    def extents(rows: Array | float, columns: Array | float) -> tuple[Array, Array]:
        stride, step = layers.stride, layers.dilation
        return (
            window_extent(y, r, rows, tile[R], stride[0], step[0]),
            window_extent(x, s, columns, tile[S], stride[1], step[1]),
        )

    height, width = extents(tile[Y], tile[X])
    if sweep is not None:
        swept = extents(tile[Y] * sweep[Y], tile[X] * sweep[X])
        height, width = np.minimum(height, swept[0]), np.minimum(width, swept[1])
    total = n * g * c * height * width
    return total


WINDOW = (Y, X, R, S)
"""Dimensions on which the overlap of input tiles depends."""

HELD = {"weight": (G, K, C, R, S), "input": (N, G, C), "output": (N, G, K, Y, X)}
"""Dimensions by which the elements of one tile multiply; input has its window besides."""


def tile_elements(
    layers: Layers, tensor: str, nest: Nest, level: int, spatial: bool = False
) -> Array:
    """Elements of one tile of a level, cut at the layer's sizes.

    Args:
        layers: of the points.
        tensor: which.
        nest: the mappings.
        level: of memory; 0 is the tile of one unit.
        spatial: of all units together, at level 0.
    """

    def side(dim: int) -> Array:
        whole: Array = np.minimum(nest.tile(level, dim, spatial), layers.sizes[dim])
        return whole

    total = np.ones(nest.trips.shape[1])
    for dim in HELD[tensor]:
        total = total * side(dim)
    if tensor == "input":
        for outputs, kernel, axis in ((Y, R, 0), (X, S, 1)):
            rows, taps = side(outputs), side(kernel)
            stride, step = layers.stride[axis], layers.dilation[axis]
            total = total * window_extent(rows, taps, rows, taps, stride, step)
    return total
