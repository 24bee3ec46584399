"""What the loops of a register-tiled kernel can do in several ways, and which are worth timing.

Whatever is decided, the same products are added up: only their order differs, and with it what lies
in registers and caches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cofit.codegen.kernels.parts import LEAST_PART
from cofit.codegen.kernels.tile import Tile, split
from cofit.codegen.kernels.window import Window

TILES = 14  # that are tried with the formula's other decisions
FACTORS = (2, 4)  # more and fewer parts than the formula's


@dataclass(frozen=True)
class Loops:
    """The decisions of one kernel.

    Attributes:
        vectors: of output channels in a tile.
        pixels: in a tile.
        parts: of the input channels.
        rows_first: whether all blocks of outputs are computed of a row before the next row.
    """

    vectors: int
    pixels: int
    parts: int
    rows_first: bool

    def tile(self, lanes: int) -> Tile:
        """The register tile."""
        return Tile(lanes, self.vectors, self.pixels)


def other_loops(
    formula: Loops, tiles: Sequence[Tile], win: Window, splits: bool
) -> Iterator[Loops]:
    """Decisions other than the formula's, the most promising first.

    Args:
        formula: its decisions.
        tiles: that the registers hold, the most promising first.
        win: the convolution.
        splits: whether channels may be taken in parts.
    """
    # tiles of a row are near-equal, so that several most numbers of pixels give the same ones
    different = {(t.vectors, *split(win.out_width, t.pixels)): t for t in reversed(tiles)}
    tiles = [t for t in tiles if t in different.values()]
    tried = [
        *(replace(formula, vectors=t.vectors, pixels=t.pixels) for t in tiles[:TILES]),
        *(replace(formula, parts=parts) for parts in _parts(formula.parts, win, splits)),
        replace(formula, rows_first=not formula.rows_first),
        *(
            replace(formula, vectors=t.vectors, pixels=t.pixels, parts=parts)
            for t in tiles[1:3]
            for parts in _parts(formula.parts, win, splits)
        ),
        *(replace(formula, vectors=t.vectors, pixels=t.pixels) for t in tiles[TILES:]),
    ]
    for loops in dict.fromkeys(tried):
        # parts have an order of their own: sums of a part are stored row by row
        if loops != formula and not (loops.parts > 1 and loops.rows_first):
            yield loops


def _parts(formula: int, win: Window, splits: bool) -> list[int]:
    if not splits:
        return []
    wanted = [1, *(formula * f for f in FACTORS), *(formula // f for f in FACTORS)]
    return [
        parts
        for parts in dict.fromkeys(wanted)
        if parts and parts != formula
        and win.channels % parts == 0
        and (parts == 1 or win.channels // parts >= LEAST_PART)
    ]  # fmt: skip
