"""Caches of rows: stack distances, hits of LRU caches, and which rows are worth keeping."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cofit.targets.memory.bags import Bags, Ints
from cofit.targets.memory.native import at, library

Flags = NDArray[np.bool_]
THRESHOLDS = tuple(range(1, 9))
"""Counts from which on a row is kept, that `best_threshold` tries; 1 keeps every row."""


def stack_distances(ids: Ints) -> Ints:
    """(L,) distinct ids since the last access of the same id; -1 at the first.

    An LRU cache of n lines hits exactly where the distance is from 0 to n - 1 (Mattson et al.,
    1970), so one pass serves caches of every size.
    """
    order = np.argsort(ids, kind="stable")
    before = np.full(len(ids), -1, np.int64)
    same = ids[order[1:]] == ids[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    distance = np.empty(len(ids), np.int64)
    tree = np.zeros(len(ids) + 1, np.int32)
    library().cofit_stack_distances(len(ids), at(before), at(tree), at(distance))
    return distance


def lru_hits(ids: Ints, lines: int, allowed: Flags | None = None) -> Flags:
    """(L,) hits of one LRU cache.

    Args:
        ids: (L,) what is accessed.
        lines: that the cache holds.
        allowed: (L,) accesses that go through the cache; others pass by and leave no trace.
    """
    hits = np.zeros(len(ids), bool)
    through = np.arange(len(ids)) if allowed is None else np.flatnonzero(allowed)
    distance = stack_distances(ids[through])
    hits[through] = (distance >= 0) & (distance < lines)
    return hits


def optimal_hits(ids: Ints, lines: int) -> Flags:
    """(L,) hits of a cache that evicts the line whose next use is farthest away.

    No cache of `lines` lines that loads what it misses hits more often (L. Belady, IBM Systems
    Journal, 1966). It knows the future, so it is a bound and no hardware.
    """
    hits = np.zeros(len(ids), bool)
    if lines < 1 or len(ids) == 0:
        return hits
    distinct, dense = np.unique(ids, return_inverse=True)
    dense = np.ascontiguousarray(dense, np.int64)
    order = np.argsort(dense, kind="stable")
    after = len(ids) + dense
    same = dense[order[1:]] == dense[order[:-1]]
    after[order[:-1][same]] = order[1:][same]
    heap, cached = np.empty(len(ids), np.int64), np.zeros(len(distinct), np.uint8)
    library().cofit_optimal_hits(
        len(ids), at(dense), at(after), lines, at(heap), at(cached), at(hits)
    )
    return hits


def rank_hits(ids: Ints, rank: NDArray[np.int32], lines: int, allowed: Flags | None) -> Flags:
    """(L,) hits of LRU caches that each serve one rank."""
    hits = np.zeros(len(ids), bool)
    for each in np.unique(rank):
        mine = np.flatnonzero(rank == each)
        hits[mine] = lru_hits(ids[mine], lines, None if allowed is None else allowed[mine])
    return hits


def batch_counts(bags: Bags) -> Ints:
    """(L,) how often the row of a lookup is asked for in its batch: the profile before launch."""
    batch = np.repeat(bags.batch, bags.sizes)
    key = batch * sum(bags.rows) + bags.ids
    _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    found: Ints = counts[inverse]
    return found


def hot_lookups(bags: Bags, threshold: int) -> Flags:
    """(L,) locality bits: whether a row is asked for `threshold` times or more in its batch."""
    return batch_counts(bags) >= threshold


def best_threshold(bags: Bags, rank: NDArray[np.int32], lines: int) -> int:
    """The threshold with the highest hit rate.

    To be asked of other batches than those that are judged.
    """
    ids, counts = bags.ids, batch_counts(bags)
    rates = [rank_hits(ids, rank, lines, counts >= t).mean() for t in THRESHOLDS]
    return THRESHOLDS[int(np.argmax(rates))]
