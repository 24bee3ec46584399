"""Where rows of embedding tables lie in DRAM: pages on random frames, as virtual memory does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.targets.memory.bags import Bags, Ints
from cofit.targets.memory.system import MemorySystem


@dataclass(frozen=True, eq=False)
class Location:
    """(L,) places of vectors: rank, bank within the rank, row, first burst within the row."""

    rank: NDArray[np.int32]
    bank: NDArray[np.int32]
    row: NDArray[np.int32]
    column: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Placement:
    """Frames of the pages of all tables.

    Attributes:
        memory: that holds them.
        vector_bytes: of one row of a table.
        frames: per table (pages,) the frame of every page.
    """

    memory: MemorySystem
    vector_bytes: int
    frames: tuple[Ints, ...]

    @property
    def bursts(self) -> int:
        """Bursts that a vector takes."""
        return -(-self.vector_bytes // self.memory.geometry.burst_bytes)

    def locate(self, bags: Bags) -> Location:
        """Places of the vectors of all lookups."""
        g = self.memory.geometry
        per_page = g.page_bytes // self.vector_bytes
        starts = np.concatenate([[0], np.cumsum([len(f) for f in self.frames])[:-1]])
        page = starts[bags.lookup_table] + bags.indices // per_page
        frame = np.concatenate(self.frames)[page]
        rank, frame = frame % g.ranks, frame // g.ranks
        bank, frame = frame % g.banks, frame // g.banks
        row, half = frame // g.pages_per_row, frame % g.pages_per_row
        byte = half * g.page_bytes + bags.indices % per_page * self.vector_bytes
        parts = (rank, bank, row, byte // g.burst_bytes)
        return Location(*(part.astype(np.int32) for part in parts))


def place(
    rows: tuple[int, ...],
    vector_bytes: int,
    memory: MemorySystem,
    generator: np.random.Generator,
    coloured: bool = False,
) -> Placement:
    """Put the pages of tables on random frames, no frame twice.

    Args:
        rows: of every table.
        vector_bytes: of a row; it divides a page.
        memory: with room for all.
        generator: draws the frames.
        coloured: a table's pages all lie in one rank, tables on ranks in turn (page colouring).

    Raises:
        ConfigError: vectors do not divide a page, or the tables do not fit.
    """
    g = memory.geometry
    if vector_bytes < 1 or g.page_bytes % vector_bytes or vector_bytes % 4:
        raise ConfigError(
            f"vectors of {vector_bytes} B; give a multiple of 4 that divides a page of "
            f"{g.page_bytes} B"
        )
    pages = [-(-count * vector_bytes // g.page_bytes) for count in rows]
    each = g.banks * g.rows * g.pages_per_row
    asked = [0] * g.ranks
    for table, count in enumerate(pages):
        asked[table % g.ranks if coloured else 0] += count
    if max(asked) > (each if coloured else each * g.ranks):
        raise ConfigError(
            f"tables of {sum(pages) * g.page_bytes} B do not fit {memory.name} of "
            f"{each * g.ranks * g.page_bytes} B; use smaller tables"
            + (" or no page colouring" if coloured else "")
        )
    if not coloured:
        frames = generator.choice(each * g.ranks, sum(pages), replace=False)
        return Placement(memory, vector_bytes, tuple(np.split(frames, np.cumsum(pages)[:-1])))
    drawn: list[Ints] = [np.empty(0, np.int64)] * len(pages)
    for rank in range(g.ranks):
        mine = range(rank, len(pages), g.ranks)
        within = generator.choice(each, sum(pages[t] for t in mine), replace=False)
        parts = np.split(within * g.ranks + rank, np.cumsum([pages[t] for t in mine])[:-1])
        for table, part in zip(mine, parts, strict=False):
            drawn[table] = part
    return Placement(memory, vector_bytes, tuple(drawn))
