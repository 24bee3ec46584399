"""Lookups in embedding tables: bags of rows that are pooled, and synthetic ones by Zipf's law."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Bags:
    """Bags in the order in which they are asked for; each is pooled into one vector.

    Attributes:
        rows: of every table.
        table: (B,) of every bag.
        batch: (B,) of every bag; a batch is profiled and scheduled as one.
        offsets: (B + 1,) where the lookups of a bag begin.
        indices: (L,) rows within the bag's table.
    """

    rows: tuple[int, ...]
    table: Ints
    batch: Ints
    offsets: Ints
    indices: Ints

    def __post_init__(self) -> None:
        count = len(self.table)
        if len(self.batch) != count or len(self.offsets) != count + 1 or self.offsets[0] != 0:
            raise ConfigError(
                f"{count} bags, {len(self.batch)} batches and {len(self.offsets)} offsets; give "
                "one batch per bag and one offset more, from 0"
            )
        if (np.diff(self.offsets) < 0).any() or self.offsets[-1] != len(self.indices):
            raise ConfigError(f"offsets must rise to {len(self.indices)}, the number of lookups")
        if count and not (0 <= self.table.min() and self.table.max() < len(self.rows)):
            raise ConfigError(f"a bag is of a table that is not from 0 to {len(self.rows) - 1}")
        limit = np.asarray(self.rows)[self.lookup_table]
        if ((self.indices < 0) | (self.indices >= limit)).any():
            wrong = int(np.flatnonzero((self.indices < 0) | (self.indices >= limit))[0])
            raise ConfigError(
                f"lookup {wrong} asks for row {self.indices[wrong]} of a table of "
                f"{limit[wrong]} rows"
            )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def lookups(self) -> int:
        """Lookups of all bags."""
        return len(self.indices)

    @property
    def sizes(self) -> Ints:
        """(B,) lookups of every bag."""
        return np.diff(self.offsets)

    @property
    def bag(self) -> Ints:
        """(L,) the bag of every lookup."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def lookup_table(self) -> Ints:
        """(L,) the table of every lookup."""
        return np.repeat(self.table, self.sizes)

    @property
    def ids(self) -> Ints:
        """(L,) a number of every row that no row of another table has."""
        starts = np.concatenate([[0], np.cumsum(self.rows)[:-1]])
        found: Ints = starts[self.lookup_table] + self.indices
        return found

    def take(self, order: Ints) -> Bags:
        """Some bags, in another order."""
        sizes = self.sizes[order]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[order] - offsets[:-1], sizes)
        return Bags(self.rows, self.table[order], self.batch[order], offsets, self.indices[places])


def bags_of(streams: Sequence[Ints], rows: Sequence[int], pooling: int, batch: int) -> Bags:
    """Bags of `pooling` lookups, `batch` of them per table and batch, from one stream per table.

    Batch by batch, table by table; what does not fill a bag at a stream's end is left out.

    Args:
        streams: rows in the order in which they are looked up.
        rows: of every table.
        pooling: lookups per bag.
        batch: bags per table and batch.

    Raises:
        ConfigError: no stream fills a bag, or pooling or batch is below 1.
    """
    if pooling < 1 or batch < 1:
        raise ConfigError(f"pooling {pooling} and batch {batch}; both must be at least 1")
    counts = [len(stream) // pooling for stream in streams]
    if not any(counts):
        raise ConfigError(f"no stream has {pooling} lookups; choose a smaller pooling")
    table = np.repeat(np.arange(len(streams)), counts)
    number = np.concatenate([np.arange(count) for count in counts])
    whole = Bags(
        tuple(rows),
        table,
        number // batch,
        np.arange(len(table) + 1) * pooling,
        np.concatenate([s[: c * pooling] for s, c in zip(streams, counts, strict=True)]),
    )
    return whole.take(np.lexsort((number, table, number // batch)))


def zipf_stream(rows: int, alpha: float, count: int, generator: np.random.Generator) -> Ints:
    """Rows drawn with probabilities as rank ** -alpha; which row has which rank is random.

    Rows of high rank are so not neighbours in memory. alpha = 0 is uniform.
    """
    cumulative = _cumulative(rows, alpha)
    ranks = np.searchsorted(cumulative, generator.random(count) * cumulative[-1], side="right")
    found: Ints = generator.permutation(rows)[np.minimum(ranks, rows - 1)]
    return found


@functools.lru_cache(maxsize=4)
def _cumulative(rows: int, alpha: float) -> NDArray[np.float64]:
    """Sums of the first weights of Zipf's law; tables of one trace share them."""
    found: NDArray[np.float64] = np.cumsum(np.arange(1, rows + 1, dtype=np.float64) ** -alpha)
    found.flags.writeable = False
    return found
