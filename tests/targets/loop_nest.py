"""A loop nest run step by step, counting every word that a buffer takes in: the slow oracle."""

from __future__ import annotations

import itertools

import numpy as np

from cofit.targets.dataflow import DIMS, Layer

RELEVANT = {"weight": "GKCRS", "input": "NGCYXRS", "output": "NGKYX"}


def positions(layer: Layer, start: dict[str, int], size: dict[str, int]) -> dict[str, range]:
    """Indices of a tile along each dimension, cut at the layer's sizes."""
    whole = dict(zip(DIMS, layer.sizes, strict=True))
    return {d: range(start[d], min(start[d] + size[d], whole[d])) for d in DIMS}


def needed(
    layer: Layer, tensor: str, at: dict[str, range], size: dict[str, int]
) -> frozenset[tuple[int, ...]]:
    """Elements of a tensor that a tile needs; of input, the box around what the kernel touches.

    Where the stride is at least as long as the tile's part of the kernel, only what is touched.
    """
    if any(not at[d] for d in RELEVANT[tensor]):
        return frozenset()
    if tensor != "input":
        return frozenset(itertools.product(*(at[d] for d in RELEVANT[tensor])))
    sides: list[range | set[int]] = []
    for outputs, kernel, axis in (("Y", "R", 0), ("X", "S", 1)):
        stride, step = layer.stride[axis], layer.dilation[axis]
        part = min(size[kernel], layer.sizes[DIMS.index(kernel)])
        if stride > (part - 1) * step:
            sides.append({o * stride + k * step for o in at[outputs] for k in at[kernel]})
            continue
        low = at[outputs][0] * stride + at[kernel][0] * step
        high = at[outputs][-1] * stride + at[kernel][-1] * step
        sides.append(range(low, high + 1))
    return frozenset(itertools.product(at["N"], at["G"], at["C"], *sides))


def fills(
    layer: Layer, loops: list[tuple[int, str, int]], level: int, tensor: str, halo: bool = False
) -> tuple[int, int]:
    """Words brought into a buffer of a level, and how often sums come back to it unfinished.

    Args:
        layer: small.
        loops: (level, dimension, trips), inner first, without spatial loops.
        level: of the buffer.
        tensor: that it holds; it is filled when another tile than the one inside is needed.
        halo: words that were inside already are not brought in again, if the innermost loop that
            moves the tile is one over output rows or columns and has just moved it.
    """
    size = {d: int(np.prod([t for at, dim, t in loops if dim == d and at <= level])) for d in DIMS}
    outer = [(dim, trips) for at, dim, trips in loops if at > level]
    names = [dim for dim, _ in outer]
    first = next((i for i, (d, t) in enumerate(outer) if d in RELEVANT[tensor] and t > 1), 0)
    slides = halo and bool(outer) and outer[first][0] in "YX"
    inside: tuple[int, ...] | None = None
    held: frozenset[tuple[int, ...]] = frozenset()
    seen: set[tuple[int, ...]] = set()
    words = again = 0
    for steps in itertools.product(*(range(trips) for _, trips in reversed(outer))):
        index = tuple(reversed(steps))
        start, scale = dict.fromkeys(DIMS, 0), dict(size)
        for dim, step, (_, trips) in zip(names, index, outer, strict=True):
            start[dim] += step * scale[dim]
            scale[dim] *= trips
        tile = tuple(start[d] for d in RELEVANT[tensor])
        if tile == inside:
            continue
        need = needed(layer, tensor, positions(layer, start, size), size)
        words += len(need - held) if slides and index[first] > 0 else len(need)
        again += len(need) if tile in seen else 0
        seen.add(tile)
        inside, held = tile, need
    return words, again
