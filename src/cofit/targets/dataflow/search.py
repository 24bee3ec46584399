"""The best mapping of a layer: tiles from the outermost buffer inwards, loop orders beside them.

Every stage fixes the tiles of one level and the order of the loops right above it, for a beam of
the best points of the stage before; a second round starts from what the first has found.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import TargetError, UnknownNameError
from cofit.targets.dataflow.cost import Costs, evaluate
from cofit.targets.dataflow.hardware import Hardware, Memory
from cofit.targets.dataflow.layer import DIMS, TENSORS, Array, C, G, K, Layer, Layers, N, R, S, X, Y
from cofit.targets.dataflow.mapped import Mapped
from cofit.targets.dataflow.nest import Nest, tile_elements

FILTERS, REDUCTION, PIXELS = (K,), (S, R, C), (X, Y, N)
ORDERS = tuple((*a, *b, *c, G) for a, b, c in itertools.permutations((FILTERS, REDUCTION, PIXELS)))
"""Loop orders, inner first; groups of one share nothing, so their loop stands outside."""

INNERMOST = {"weight": PIXELS, "output": REDUCTION, "input": FILTERS}
"""Loops that leave a tensor where it is."""

PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
"""Into how many parts a dimension may be cut."""

Units = tuple[tuple[int, int], ...]
"""Units by dimension."""

Orders = tuple[tuple[int, ...], ...]
"""Order of the loops by level, inner first."""

BEAM = 8
OBJECTIVES = ("edp", "energy", "cycles")


@dataclass(frozen=True, eq=False)
class _Point:
    """A mapping while it grows: tiles (levels - 1, 8) of single units, an order per level."""

    tiles: Array
    orders: Orders
    units: Units
    score: float


def search(layer: Layer, hardware: Hardware, objective: str = "edp") -> Mapped:
    """The best mapping found.

    Args:
        layer: to be mapped.
        hardware: with plain numbers.
        objective: "edp", "energy" or "cycles".

    Raises:
        UnknownNameError: another objective.
        TargetError: no mapping fits the memories.
    """
    if objective not in OBJECTIVES:
        raise UnknownNameError("objective", objective, OBJECTIVES)
    columns = Layers.of([layer])
    beam = [_start(hardware, units) for units in spatial_choices(layer, hardware)]
    points = 0
    for _ in range(2):
        for level in range(hardware.levels - 2, -1, -1):
            beam, tried = _stage(columns, hardware, beam, level, objective)
            points += tried
    if not beam or not np.isfinite(beam[0].score):
        raise TargetError(_why_not(layer, hardware))
    nest = nest_of(columns, beam[0].units, beam[0].orders, beam[0].tiles[None])
    return described(layer, nest, evaluate(columns, nest, hardware), hardware, points)


def _why_not(layer: Layer, hardware: Hardware) -> str:
    """The first memory that cannot hold the smallest tiles."""
    columns = Layers.of([layer])
    units = dict(spatial_choices(layer, hardware)[0])
    tiles = np.ones((len(DIMS), 1))
    for level in range(hardware.levels - 1):
        if level > 0:
            tiles[[R, S], 0] = layer.r, layer.s
        for memory in hardware.memories:
            if memory.level == level and not _roomy(columns, memory, tiles, units)[0]:
                return (
                    f"no mapping of layer {layer.name!r} fits {hardware.name}: the smallest tile "
                    f"is larger than the {float(np.min(memory.bits)):g} bits of {memory.name!r}"
                )
    return f"no mapping of layer {layer.name!r} fits {hardware.name} with double buffers"


def described(
    layer: Layer, nest: Nest, costs: Costs, hardware: Hardware, points: int = 1
) -> Mapped:
    """The first point of a batch, in words and plain numbers."""
    dram = hardware.dram.name
    return Mapped(
        layer=layer,
        cycles=float(costs.cycles[0]),
        energy_pj=float(costs.energy_pj[0]),
        utilisation=float(costs.utilisation[0]),
        bound=costs.bounds[int(costs.bound[0])],
        steps=float(nest.steps[0]),
        dram={
            tensor: float(costs.reads[dram, tensor][0] + costs.writes.get((dram, tensor), [0.0])[0])
            for tensor in TENSORS
        },
        text=nest_text(nest, hardware.levels),
        points=points,
    )


def nest_text(nest: Nest, levels: int) -> str:
    """Loops of the first point, outer first, for example "K 4 Y 2 | C 8 | spatial K 32 C 32"."""
    parts = []
    for level in range(levels - 1, -1, -1):
        loops = [
            f"{DIMS[dim]} {trips[0]:g}"
            for (at, dim), trips in zip(nest.loops, nest.trips, strict=True)
            if at == level and trips[0] > 1
        ]
        parts.append(" ".join(reversed(loops)) or "–")
    units = [f"{DIMS[dim]} {count[0]:g}" for dim, count in nest.spatial.items() if count[0] > 1]
    return " | ".join((*parts, "spatial " + (" ".join(units) or "–")))


def spatial_choices(layer: Layer, hardware: Hardware) -> list[Units]:
    """Units per dimension, for each way to spread the layer over the axes of the array.

    Sizes that do not divide are spread evenly, so that the steps stay as few with the fewest units.
    """
    choices = []
    for dims in itertools.product(*(axis.dims for axis in hardware.axes)):
        units = dict.fromkeys(dims, 1)
        for dim, axis in zip(dims, hardware.axes, strict=True):
            left = -(-layer.sizes[dim] // units[dim])
            units[dim] *= -(-left // -(-left // axis.size))
        choices.append(tuple(sorted(units.items())))
    return list(dict.fromkeys(choices))


def _start(hardware: Hardware, units: Units) -> _Point:
    """Everything in the outermost loops, sums finished one after another."""
    tiles = np.ones((hardware.levels - 1, len(DIMS)))
    order = next(_orders(hardware, 1))
    return _Point(tiles, (order,) * hardware.levels, units, np.inf)


def _orders(hardware: Hardware, level: int) -> Iterator[tuple[int, ...]]:
    """Orders that the loops of a level may have; next to the array the dataflow decides."""
    inner = INNERMOST.get(hardware.stationary)
    preferred = sorted(ORDERS, key=lambda order: order[: len(REDUCTION)] != REDUCTION)
    for order in preferred:
        if level > 1 or inner is None or order[: len(inner)] == inner:
            yield order


def _stage(
    layers: Layers, hardware: Hardware, beam: Sequence[_Point], level: int, objective: str
) -> tuple[list[_Point], int]:
    """New tiles for a level and new orders above it, for every point of a beam."""
    found: list[_Point] = list(beam)
    tried = 0
    for (units, orders), points in _alike(beam, level).items():
        tiles = np.concatenate([_tile_choices(layers, hardware, p, level) for p in points])
        if not len(tiles):
            continue
        for order in _orders(hardware, level + 1):
            fixed = _with_order(orders, level, order)
            costs = evaluate(layers, nest_of(layers, units, fixed, tiles), hardware)
            score = {"edp": costs.edp, "energy": costs.energy_pj, "cycles": costs.cycles}[objective]
            tried += len(tiles)
            for index in np.argsort(score, kind="stable")[:BEAM]:
                if np.isfinite(score[index]):
                    found.append(_Point(tiles[index], fixed, units, float(score[index])))
    found.sort(key=lambda point: point.score)
    kept: dict[tuple[float, bytes], _Point] = {}
    for point in found:
        kept.setdefault((point.score, point.tiles[level].tobytes()), point)
    return list(kept.values())[:BEAM], tried


def _with_order(orders: Orders, level: int, order: tuple[int, ...]) -> Orders:
    """Orders with another one above a level; within the innermost level it is the same."""
    return tuple(
        order if at == level + 1 or (at == 0 and level == 0) else old
        for at, old in enumerate(orders)
    )


def _alike(beam: Sequence[_Point], level: int) -> dict[tuple[Units, Orders], list[_Point]]:
    """Points that differ only in tiles, and in the order that a stage is about to choose."""
    groups: dict[tuple[Units, Orders], list[_Point]] = {}
    for point in beam:
        key = point.units, _with_order(point.orders, level, ORDERS[0])
        groups.setdefault(key, []).append(point)
    return groups


def _tile_choices(layers: Layers, hardware: Hardware, point: _Point, level: int) -> Array:
    """(P, levels - 1, 8) tiles: those of a level vary between those below and above."""
    units = dict(point.units)
    sizes = np.array(
        [np.ceil(size[0] / units.get(dim, 1)) for dim, size in enumerate(layers.sizes)]
    )
    upper = point.tiles[level + 1] if level + 1 < hardware.levels - 1 else sizes
    ladders = [_ladder(int(high), dim, level) for dim, high in enumerate(upper)]
    grid = np.stack([g.ravel() for g in np.meshgrid(*ladders, indexing="ij")])
    for memory in hardware.memories:
        if memory.level == level:
            grid = grid[:, _roomy(layers, memory, grid, units)]
    tiles = np.repeat(point.tiles[None], grid.shape[1], axis=0)
    tiles[:, level] = grid.T
    tiles[:, :level] = np.minimum(tiles[:, :level], grid.T[:, None])
    return tiles


def _ladder(size: int, dim: int, level: int) -> Array:
    """Tile sizes worth trying: even parts, by growing number of parts."""
    if dim in (R, S) and level > 0:
        return np.array([float(size)])
    if dim in (R, S, N, G):
        return np.unique([1.0, float(size)])
    most = PARTS if dim != X else PARTS[:4]
    return np.unique([float(-(-size // parts)) for parts in most if parts <= size] + [1.0])


def _roomy(
    layers: Layers, memory: Memory, tiles: Array, units: dict[int, int]
) -> NDArray[np.bool_]:
    """Which tiles (8, P) fit a memory, single-buffered and with narrow sums."""
    level = memory.level
    spread = tiles * [[units.get(dim, 1) if level else 1] for dim in range(len(DIMS))]
    nest = Nest(tuple((level, dim) for dim in range(len(DIMS))), spread, {})
    held = [
        tile_elements(layers, tensor, nest, level)
        * layers.bits["psum" if level == 0 and tensor == "output" else tensor]
        for tensor in memory.tensors
    ]
    return np.asarray(sum(held) <= memory.bits)


def nest_of(
    layers: Layers,
    units: Sequence[tuple[int, int]],
    orders: Sequence[tuple[int, ...]],
    tiles: Array,
) -> Nest:
    """The nest of tiles (P, levels - 1, 8) of one unit each; loops without trips are left out."""
    points = len(tiles)
    spread = dict(units)
    sizes = [np.ceil(size[0] / spread.get(dim, 1)) for dim, size in enumerate(layers.sizes)]
    inner = np.ones((points, len(DIMS)))
    loops: list[tuple[int, int]] = []
    rows: list[Array] = []
    for level, order in enumerate(orders):
        outer = tiles[:, level] if level < tiles.shape[1] else np.tile(sizes, (points, 1))
        trips = np.ceil(outer / inner)
        for dim in order:
            if trips[:, dim].max() > 1:
                loops.append((level, dim))
                rows.append(trips[:, dim].copy())
        inner = np.maximum(inner * trips, 1)
    return Nest(
        tuple(loops),
        np.stack(rows) if rows else np.ones((0, points)),
        {dim: np.full(points, float(count)) for dim, count in spread.items() if count > 1},
    )
