"""Traces of lookups: Zipf's law, Criteo's columns, words of a novel, neighbours in a graph."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cofit.core import DataError, numpy_generator
from cofit.data.locate import find_folder
from cofit.data.npz import read_npz
from cofit.targets.memory import Bags, bags_of, stack_distances, zipf_stream

Ints = NDArray[np.int64]
COLUMNS = tuple(f"C{i}" for i in range(1, 27))
_CRITEO = ("train.tiny.csv", "test.tiny.csv", "criteo_sample.txt")


def zipf(
    alpha: float, tables: int, rows: int, lookups: int, pooling: int, batch: int, seed: int
) -> Bags:
    """Bags of `lookups` per table drawn by Zipf's law; which rows are hot is random."""
    streams = [
        zipf_stream(rows, alpha, lookups, numpy_generator(seed, "recnmp", "zipf", f"{alpha}", t))
        for t in range(tables)
    ]
    return bags_of(streams, [rows] * tables, pooling, batch)


def criteo_rows(rows: int) -> list[Ints]:
    """Per categorical column the rows that Criteo's samples look up, in order.

    Criteo's ids are hashes; a row is the hash modulo the rows of its table. A missing id is
    row 0.

    Raises:
        DataError: the samples are absent or lack a column.
    """
    folder = find_folder("criteo_sample", "criteo_sample", _CRITEO)
    streams: list[list[int]] = [[] for _ in COLUMNS]
    for name in _CRITEO:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            for number, record in enumerate(csv.DictReader(file), 2):
                try:
                    found = [int(record[column] or "0", 16) % rows for column in COLUMNS]
                except (KeyError, ValueError, TypeError) as error:
                    raise DataError(
                        f"{name}, line {number}: {error}; expected columns C1 to C26 of "
                        "hexadecimal ids; fetch the file again"
                    ) from error
                for stream, row in zip(streams, found, strict=True):
                    stream.append(row)
    return [np.array(stream, np.int64) for stream in streams]


def criteo(rows: int, pooling: int, batch: int) -> Bags:
    """Criteo's own lookups: `pooling` successive ids of a column are a bag, as of one user."""
    return bags_of(criteo_rows(rows), [rows] * len(COLUMNS), pooling, batch)


def resampled(tables: int, rows: int, lookups: int, pooling: int, batch: int, seed: int) -> Bags:
    """Longer traces with the stack distances of Criteo's columns.

    Distances are drawn with replacement; first accesses, or distances deeper than what has been
    seen, ask for a row that is new. Columns with few distinct ids are left out, for their tables
    would stay in any cache.
    """
    columns = sorted(criteo_rows(rows), key=lambda stream: -len(np.unique(stream)))[:tables]
    streams = [
        _resample(stack_distances(column), rows, lookups, numpy_generator(seed, "recnmp", t))
        for t, column in enumerate(columns)
    ]
    return bags_of(streams, [rows] * tables, pooling, batch)


def _resample(distances: Ints, rows: int, count: int, generator: np.random.Generator) -> Ints:
    fresh = iter(generator.permutation(rows)[:count].tolist())
    recent: list[int] = []  # the last is the most recent
    found = []
    for distance in generator.choice(distances, count).tolist():
        known = 0 <= distance < len(recent)
        row = recent.pop(-1 - distance) if known else next(fresh)
        recent.append(row)
        found.append(row)
    return np.array(found, np.int64)


def words(pooling: int, batch: int, seed: int) -> Bags:
    """The words of a novel as lookups in the embedding table of its vocabulary.

    Raises:
        DataError: the text is absent.
    """
    folder = find_folder("text_warandpeace", "text_warandpeace", ("warandpeace.txt",))
    text = (folder / "warandpeace.txt").read_text(encoding="utf-8", errors="replace").lower()
    found = np.array(re.findall(r"[a-z']+", text))
    vocabulary, ids = np.unique(found, return_inverse=True)
    return bags_of([_scattered(ids, len(vocabulary), seed)], [len(vocabulary)], pooling, batch)


def neighbours(batch: int, seed: int) -> Bags:
    """Neighbour lists of the Tolokers graph: mean aggregation of a graph network is pooling.

    Raises:
        DataError: the graph is absent.
    """
    folder = find_folder("gnn_small", "gnn_small", ("tolokers.npz",))
    edges = read_npz(folder / "tolokers.npz", ("edges",))["edges"].astype(np.int64)
    ends = np.concatenate([edges, edges[:, ::-1]])
    count = int(ends.max()) + 1
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    offsets = np.searchsorted(ends[:, 0], np.arange(count + 1))
    return Bags(
        (count,),
        np.zeros(count, np.int64),
        np.arange(count) // batch,
        offsets,
        _scattered(ends[:, 1], count, seed),
    )


def _scattered(ids: Sequence[int] | Ints, count: int, seed: int) -> Ints:
    """Ids in a random order in memory, so that frequent ones are no neighbours."""
    found: Ints = numpy_generator(seed, "recnmp", "scatter").permutation(count)[ids]
    return found
