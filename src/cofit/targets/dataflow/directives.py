"""The nest that the directives of a MAESTRO dataflow describe, for one layer on some units."""

from __future__ import annotations

import math

import numpy as np

from cofit.core import TargetError
from cofit.targets.dataflow.layer import DIMS, Layer, R, S, X, Y
from cofit.targets.dataflow.maestro import Directive, MaestroMapping, Size
from cofit.targets.dataflow.nest import Nest

WINDOWED = {"Y": (Y, R, 0), "X": (X, S, 1)}


def nest_from(mapping: MaestroMapping, layer: Layer, units: int, dram_loops: int = 0) -> Nest:
    """The nest of a mapping; loops of clusters stand at level 1, those within a unit at level 0.

    Args:
        mapping: the directives.
        layer: to be mapped.
        units: of the whole array.
        dram_loops: that many of the outermost loops run over DRAM, at level 2.

    Raises:
        TargetError: the clusters need more units than there are.
    """
    walk = _Walk(layer)
    inner = [walk.resolve(size) for size in mapping.clusters]
    outer = units // math.prod(inner)
    if outer < 1:
        raise TargetError(
            f"clusters of {' x '.join(map(str, inner))} units need more than the {units} there are"
        )
    for count, directives in zip((outer, *inner), mapping.levels, strict=True):
        walk.enter(count, directives)
    loops = walk.loops[:dram_loops], walk.loops[dram_loops:], walk.within()
    nest = [
        (level, dim, trips)
        for level, part in zip((2, 1, 0), loops, strict=True)
        for dim, trips in part
    ]
    nest.reverse()
    return Nest(
        tuple((level, dim) for level, dim, _ in nest),
        np.array([[float(trips)] for _, _, trips in nest]).reshape(len(nest), 1),
        {dim: np.array([float(count)]) for dim, count in walk.spatial.items() if count > 1},
    )


class _Walk:
    """What is left of the layer's sizes while levels are entered, outer first."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._left = list(layer.sizes)
        self.loops: list[tuple[int, int]] = []
        self.spatial: dict[int, int] = {}

    def resolve(self, size: Size) -> int:
        """A size as a number."""
        return size if isinstance(size, int) else self._layer.sizes[DIMS.index(size[0])]

    def enter(self, units: int, directives: tuple[Directive, ...]) -> None:
        """One level of clusters over some units."""
        spread = {d.dim.rstrip("'") for d in directives if d.spatial}
        for directive in directives:
            name = directive.dim.rstrip("'")
            dim = DIMS.index(name)
            tile = min(self._tile(directive), self._left[dim])
            # rows of input and of the kernel that move together over units: the outputs stay
            diagonal = name in WINDOWED and DIMS[WINDOWED[name][1]] in spread and directive.spatial
            if diagonal:
                continue
            steps = -(-self._left[dim] // tile)
            used = min(units, steps) if directive.spatial else 1
            self.spatial[dim] = self.spatial.get(dim, 1) * used
            if -(-steps // used) > 1:
                self.loops.append((dim, -(-steps // used)))
            self._left[dim] = tile

    def within(self) -> list[tuple[int, int]]:
        """What one unit does."""
        return [(dim, size) for dim, size in enumerate(self._left) if size > 1]

    def _tile(self, directive: Directive) -> int:
        size = self.resolve(directive.size)
        if directive.dim not in WINDOWED:
            return size
        _, kernel, side = WINDOWED[directive.dim]
        reach = (self._left[kernel] - 1) * self._layer.dilation[side] + 1
        return max((size - reach) // self._layer.stride[side] + 1, 1)
