"""Cost of layers on arrays of many sizes under one dataflow, all at once.

The steps are the dataflow's. Two choices are searched, for every dataflow from the same ladders:
the block of outputs that lies in the buffer, and the tile of one unit with the
order of the loops around it. The link to DRAM is as fast as the network to the array, so that
what the units share is divided among them together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError, UnknownNameError
from cofit.targets.dataflow import DIMS, TENSORS, Hardware, Layer, Layers, Nest, evaluate
from cofit.targets.dataflow.layer import Array
from cofit.targets.dataflow.nest import covered, tile_elements, window_extent
from cofit.targets.heterogeneous.chip import Chip
from cofit.targets.heterogeneous.dataflows import Dataflow

N, G, K, C, Y, X, R, S = range(len(DIMS))
ROW_PARTS = (1, 2, 4, 8, 16, 32, 64)
COLUMN_PARTS = (1, 4)
FILTER_PARTS = (1, 2, 4, 8, 16, 64, 256)
TILES = {X: (1, 4, 16, 64), Y: (1, 4), K: (1, 4, 16), C: (1, 4, 16, 64)}
BLOCKS = 2 * len(COLUMN_PARTS)
"""Blocks that are tried with all tiles: one for each cut of columns and each order."""

SLACK = 1.5
"""How much worse than the best a block may look to be tried."""

CHUNK = 8192
LARGEST = np.finfo(float).max
OBJECTIVES = ("edp", "cycles", "energy")


@dataclass(frozen=True, eq=False)
class CostTable:
    """Costs (layers, sizes of array, bandwidths); infinite where a layer does not fit.

    Attributes:
        cycles: of a layer.
        energy_pj: of a layer, without what the units use while they wait.
        dram_pj: the part of it that DRAM takes.
        buffer_bits: in use of the shared buffer.
    """

    cycles: Array
    energy_pj: Array
    dram_pj: Array
    buffer_bits: Array


def score(cycles: Array, energy_pj: Array, objective: str) -> Array:
    """What an objective makes least: "edp", "cycles" or "energy".

    Raises:
        UnknownNameError: another objective.
    """
    if objective not in OBJECTIVES:
        raise UnknownNameError("objective", objective, OBJECTIVES)
    if objective == "edp":
        return cycles * energy_pj
    return cycles if objective == "cycles" else energy_pj


def cost_table(
    layers: Sequence[Layer],
    flow: Dataflow,
    units: Sequence[int],
    bandwidths: Sequence[float],
    chip: Chip,
    room_bits: float | None = None,
    objective: str = "edp",
) -> CostTable:
    """Costs of all layers on all arrays; layers of one shape are costed once.

    Args:
        layers: to be costed.
        flow: the dataflow.
        units: sizes of the array.
        bandwidths: bits per cycle.
        chip: its parts and their energies.
        room_bits: of the buffer that a layer may use; all, if None.
        objective: by which blocks and tiles are chosen.

    Raises:
        ConfigError: an array has no units or no bandwidth.
    """
    for what, values in (("units", units), ("bandwidth", bandwidths)):
        if not values or min(values) <= 0:
            raise ConfigError(f"an array with {what} {list(values)}; give positive ones")
    shapes: dict[Layer, int] = {}
    rows = [shapes.setdefault(replace(layer, name=""), len(shapes)) for layer in layers]
    columns = Layers.of(list(shapes))
    columns.bits["psum"][:] = chip.psum_bits
    room = chip.buffer_bits if room_bits is None else room_bits
    hardware = chip.hardware().with_memory("buffer", bits=room)
    blocks = _blocks(columns, flow, np.asarray(units, float), max(bandwidths), hardware)
    points = _points(columns, flow, np.asarray(units, float), blocks, hardware)
    best = [_best(points, bandwidth, objective) for bandwidth in bandwidths]
    found = np.stack(best, axis=-1)[:, rows]
    return CostTable(*found)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Blocks in the buffer, (layers, sizes, BLOCKS) each.

    Attributes:
        rows: of output.
        columns: of output.
        filters: of a group.
        pixels_outside: whether all filters pass before the next rows and columns.
        fits: whether there is one.
    """

    rows: Array
    columns: Array
    filters: Array
    pixels_outside: NDArray[np.bool_]
    fits: NDArray[np.bool_]


def _blocks(
    layers: Layers, flow: Dataflow, units: Array, bandwidth: float, hardware: Hardware
) -> _Blocks:
    """The blocks that fit and promise the least energy times time, by steps and DRAM alone."""
    choices = itertools.product(COLUMN_PARTS, (False, True), ROW_PARTS, FILTER_PARTS)
    parts = np.array(list(choices), float).T
    wide = Layers(
        layers.sizes[:, :, None], layers.stride[:, :, None], layers.dilation[:, :, None],
        {name: bits[:, None] for name, bits in layers.bits.items()},
        {name: density[:, None] for name, density in layers.density.items()},
    )  # fmt: skip
    n, g, k, c, y, x, r, s = wide.sizes
    rows, columns, filters = np.ceil(y / parts[2]), np.ceil(x / parts[0]), np.ceil(k / parts[3])
    outside = np.broadcast_to(parts[1] > 0, rows.shape)
    pixel_blocks, filter_blocks = np.ceil(y / rows) * np.ceil(x / columns), np.ceil(k / filters)
    cut_pixels, cut_filters = pixel_blocks > 1, filter_blocks > 1
    fetched = covered(wide, "input", {Y: rows, X: columns, R: r, S: s})
    weights = g * k * c * r * s
    dram_bits = (
        fetched * np.where(~outside & cut_pixels, filter_blocks, 1.0) * wide.bits["input"]
        + weights * np.where(outside & cut_filters, pixel_blocks, 1.0) * wide.bits["weight"]
        + covered(wide, "output", {}) * wide.bits["output"]
    )
    height = window_extent(rows, r, rows, r, wide.stride[0], wide.dilation[0])
    width = window_extent(columns, s, columns, s, wide.stride[1], wide.dilation[1])
    held = (
        g * filters * c * r * s * wide.bits["weight"] * np.where(cut_filters, 2, 1)
        + n * g * c * height * width * wide.bits["input"] * np.where(cut_pixels, 2, 1)
        + n * g * filters * rows * columns * wide.bits["psum"]
        * np.where(cut_pixels | cut_filters, 2, 1)
    )  # fmt: skip
    block = np.broadcast_to(wide.sizes, (len(DIMS), *rows.shape)).copy()
    block[Y], block[X], block[K] = rows, columns, filters
    block = np.broadcast_to(block[:, :, None], (len(DIMS), len(y), len(units), parts.shape[1]))
    steps = flow.steps(block, units[:, None]) * (pixel_blocks * filter_blocks)[:, None]
    energy = wide.macs * hardware.mac_pj + dram_bits * hardware.dram.read_pj_per_bit
    promise = np.maximum(steps, (dram_bits / bandwidth)[:, None]) * energy[:, None]
    promise = np.where((held <= hardware.memory("buffer").bits)[:, None], promise, np.inf)
    kinds = promise.reshape(*promise.shape[:2], BLOCKS, -1)
    chosen = np.arange(BLOCKS) * kinds.shape[-1] + kinds.argmin(axis=-1)
    looks = kinds.min(axis=-1)
    fits = looks <= np.minimum(SLACK * looks.min(axis=-1, keepdims=True), LARGEST)

    def taken(values: Array) -> Array:
        whole = np.broadcast_to(values[:, None], promise.shape)
        return np.take_along_axis(whole, chosen, axis=-1)

    return _Blocks(taken(rows), taken(columns), taken(filters), taken(outside).astype(bool), fits)


@dataclass(frozen=True, eq=False)
class _Points:
    """Costs of all mappings, (layers, sizes, mappings); those that do not fit are infinite.

    Attributes:
        steps: of the array.
        network_bits: between buffer and array, or DRAM and buffer if that is more.
        first_bits: that must come before the array begins, or leave when it is done.
        rest: energy, DRAM's part of it, and bits held in the buffer, stacked.
    """

    steps: Array
    network_bits: Array
    first_bits: Array
    rest: Array


def _points(
    layers: Layers, flow: Dataflow, units: Array, blocks: _Blocks, hardware: Hardware
) -> _Points:
    shape = blocks.rows.shape  # (layers, sizes, BLOCKS)
    sizes = np.broadcast_to(layers.sizes[:, :, None, None], (len(DIMS), *shape)).copy()
    cut = {Y: blocks.rows, X: blocks.columns, K: blocks.filters}
    trips = {dim: np.ceil(sizes[dim] / part) for dim, part in cut.items()}
    for dim, part in cut.items():
        sizes[dim] = part
    spread = flow.spread(sizes, units[:, None])
    works = blocks.fits & np.logical_and.reduce([count >= 1 for count in spread.values()])
    counts = [
        np.ceil(size / np.maximum(spread[dim], 1.0)) if dim in spread else size
        for dim, size in enumerate(sizes)
    ]
    ladders = {dim: [divisor(counts[dim], most) for most in TILES[dim]] for dim in TILES}
    picks = list(itertools.product(*(range(len(TILES[dim])) for dim in TILES), (False, True)))
    dense = np.full((6, *shape, len(picks)), np.inf)
    where: list[tuple[NDArray[np.intp], ...]] = []
    tiles: list[Array] = []
    for at, pick in enumerate(picks):
        tile = {dim: ladders[dim][i] for dim, i in zip(TILES, pick, strict=False)}
        new = works.copy()
        for dim, i in zip(TILES, pick, strict=False):
            if i > 0:
                new &= ladders[dim][i] > ladders[dim][i - 1]
        if pick[-1]:  # another place of the loop changes nothing where it has one trip
            new &= counts[flow.either] > tile.get(flow.either, 1.0)
        new &= _unit_bits(layers, tile, counts) <= hardware.memory("unit").bits
        index = np.nonzero(new)
        where.append((*index, np.full(len(index[0]), at)))
        tiles.append(np.stack([tile[dim][index] for dim in TILES]))
    if not where or not sum(len(index[0]) for index in where):
        return _dense(dense)
    flat = tuple(np.concatenate(parts) for parts in zip(*where, strict=True))
    chosen = dict(zip(TILES, np.concatenate(tiles, axis=1), strict=True))
    late = np.array([pick[-1] for pick in picks])[flat[-1]]
    for begin in range(0, len(flat[0]), CHUNK):
        chunk = slice(begin, begin + CHUNK)
        index = tuple(axis[chunk] for axis in flat)
        at3 = index[:-1]
        nest = _nest(
            flow,
            {dim: count[at3] for dim, count in enumerate(counts)},
            {dim: tile[chunk] for dim, tile in chosen.items()},
            {dim: trip[at3] for dim, trip in trips.items()},
            {dim: count[at3] for dim, count in spread.items()},
            late[chunk],
            blocks.pixels_outside[at3],
        )
        for values, found in zip(dense, _costs(layers.at(index[0]), nest, hardware), strict=True):
            values[index] = found
    return _dense(dense)


def _dense(values: Array) -> _Points:
    steps, network, first, *rest = values.reshape(*values.shape[:3], -1)
    return _Points(steps, network, first, np.stack(rest))


def _unit_bits(layers: Layers, tile: dict[int, Array], counts: Sequence[Array]) -> Array:
    """Bits of a unit's tile, not doubled: a quick bound before the exact count."""

    def column(values: Array) -> Array:
        return values[:, None, None]

    r, s = counts[R], counts[S]
    height = window_extent(
        tile[Y], r, tile[Y], r, column(layers.stride[0]), column(layers.dilation[0])
    )
    width = window_extent(
        tile[X], s, tile[X], s, column(layers.stride[1]), column(layers.dilation[1])
    )
    bits: Array = (
        tile[K] * tile[C] * r * s * column(layers.bits["weight"])
        + tile[C] * height * width * column(layers.bits["input"])
        + tile[K] * tile[Y] * tile[X] * column(layers.bits["psum"])
    )
    return bits


def _nest(
    flow: Dataflow,
    counts: dict[int, Array],
    tile: dict[int, Array],
    trips: dict[int, Array],
    spread: dict[int, Array],
    late: NDArray[np.bool_],
    pixels_outside: NDArray[np.bool_],
) -> Nest:
    """Loops of a unit, of the array, and over blocks; loops with one trip do nothing."""
    inner = {dim: tile.get(dim, counts[dim]) for dim in flow.within}
    loops = [(0, dim) for dim in flow.within]
    rows = [inner[dim] for dim in flow.within]
    first = flow.around.index(flow.either)
    for place, dim in enumerate(flow.around):
        count = counts[dim] / inner[dim]
        if dim == flow.either:
            count = np.where(late == (place > first), count, 1.0)
        loops.append((1, dim))
        rows.append(count)
    loops += [(1, N), (1, G), (2, K), (2, X), (2, Y), (2, K)]
    rows += [counts[N], counts[G], np.where(pixels_outside, trips[K], 1.0), trips[X], trips[Y]]
    rows.append(np.where(pixels_outside, 1.0, trips[K]))
    return Nest(tuple(loops), np.stack(rows), spread)


def _costs(layers: Layers, nest: Nest, hardware: Hardware) -> Array:
    """(6, P): steps, network and first bits, energy, energy of DRAM, bits held in the buffer."""
    costs = evaluate(layers, nest, hardware)
    first = sum(
        tile_elements(layers, tensor, nest, 0, spatial=True) * layers.bits[tensor]
        for tensor in TENSORS
    )
    moved = sum(
        costs.reads["dram", tensor] * layers.bits[tensor] for tensor in ("weight", "input")
    ) + costs.writes["dram", "output"] * layers.bits["output"]  # fmt: skip
    network = np.maximum(costs.noc_bits, moved)
    price = hardware.dram.read_pj_per_bit
    return np.stack(
        [costs.cycles, network, first, costs.energy_pj, moved * price, costs.held_bits["buffer"]]
    )


def _best(points: _Points, bandwidth: float, objective: str) -> Array:
    """(4, layers, sizes): cycles, energy, energy of DRAM and bits held of the best mapping."""
    cycles = np.maximum(
        points.steps + points.first_bits / bandwidth, points.network_bits / bandwidth
    )
    found = np.concatenate([cycles[None], points.rest])
    at = np.argmin(score(cycles, points.rest[0], objective), axis=-1)
    return np.take_along_axis(found, at[None, ..., None], axis=-1)[..., 0]


def divisor(count: Array, most: int) -> Array:
    """The largest divisor of each count up to `most`."""
    found = np.ones_like(count)
    for candidate in range(2, most + 1):
        found = np.where(count % candidate == 0, float(candidate), found)
    return found
