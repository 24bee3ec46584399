"""Feature rows that stay on the device: filled once, or taking in what they miss.

Rows of a batch are looked up one after another, as a stream of single accesses would be, so that
counts equal those of `cofit.graphs.RowStream`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from cofit.graphs.graph import Graph
from cofit.graphs.minibatch.configuration import DYNAMIC, STATIC
from cofit.graphs.sampling import Numbers
from cofit.targets.memory import lru_hits

Flags = NDArray[np.bool_]


class Cache(ABC):
    """Which rows are held.

    Args:
        nodes: n.
        lines: rows that fit.
    """

    def __init__(self, nodes: int, lines: int) -> None:
        self.lines = lines
        self.contents: Numbers = np.empty(0, np.int64)
        """Rows held; of a dynamic cache the next one to leave comes first."""
        self.flags: Flags = np.zeros(nodes, bool)
        """(n,) whether each row is held; a new array whenever it changes."""

    @abstractmethod
    def access(self, rows: Numbers) -> Flags:
        """(m,) whether each of some distinct rows is found; what is held changes accordingly."""

    def hold(self, contents: Numbers) -> None:
        """Replace what is held."""
        self.contents = contents
        self.flags = np.zeros_like(self.flags)
        self.flags[contents] = True


class StaticCache(Cache):
    """The highest rows of a ranking; of equals those of smaller number.

    Args:
        rank: (n,) larger is kept longer.
        lines: rows that fit.
    """

    def __init__(self, rank: NDArray[np.float64], lines: int) -> None:
        super().__init__(len(rank), lines)
        self.hold(np.argsort(-rank, kind="stable")[:lines])

    def access(self, rows: Numbers) -> Flags:
        """See `Cache`; nothing changes."""
        found: Flags = self.flags[rows]
        return found


class LRUCache(Cache):
    """Takes in every miss; the row that was accessed the longest ago leaves."""

    def access(self, rows: Numbers) -> Flags:
        """See `Cache`."""
        known = len(self.contents)
        stream = np.concatenate([self.contents, rows])
        hits = lru_hits(stream, self.lines)[known:]
        again = np.zeros_like(self.flags)
        again[rows] = True
        kept = self.contents[~again[self.contents]]
        self.hold(np.concatenate([kept, rows])[-self.lines :])
        return hits


class FIFOCache(Cache):
    """Takes in every miss; the row that came the longest ago leaves."""

    def access(self, rows: Numbers) -> Flags:
        """See `Cache`."""
        position = np.full(len(self.flags), -1)
        position[self.contents] = np.arange(len(self.contents))
        place = position[rows]
        # the row at place p has left once p + 1 more rows have come than there is free room for
        leaves = np.where(place >= 0, self.lines - len(self.contents) + place + 1, 0)
        missed: Flags = place < 0
        while True:  # misses make misses: grows to the one fixed point, in few rounds
            earlier: Numbers = np.cumsum(missed) - missed
            found = earlier >= leaves
            if np.array_equal(found, missed):
                break
            missed = found
        self.hold(np.concatenate([self.contents, rows[missed]])[-self.lines :])
        return ~missed


def degree_rank(graph: Graph) -> NDArray[np.float64]:
    """(n,) how many nodes each is a neighbour of."""
    return graph.out_degree.double().numpy()


def build_cache(policy: str, lines: int, graph: Graph, visits: NDArray[np.float64] | None) -> Cache:
    """The cache of a policy.

    Args:
        policy: see `Configuration`.
        lines: rows that fit; 0 holds nothing.
        graph: whose features.
        visits: (n,) of the "frequency" policy: measured visits of each node.
    """
    n = graph.num_nodes
    if policy == "none" or lines == 0:
        return StaticCache(np.zeros(n), 0)
    if policy in STATIC:
        rank = degree_rank(graph) if policy == "degree" else visits
        assert rank is not None
        return StaticCache(rank, lines)
    assert policy in DYNAMIC
    return LRUCache(n, lines) if policy == "lru" else FIFOCache(n, lines)
