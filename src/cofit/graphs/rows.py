"""Feature rows in the order in which an aggregation asks for them, and what of it leaves the chip.

A stream is (L,) row numbers. A node order gives one by pulling each destination's neighbours; an
order of islands or blocks gives its own. The cache is fully associative, holds whole rows, and is
simulated for all sizes at once.

Its simulator is imported where it is used: the ranks of a training start a second sooner without.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from cofit.core import ConfigError
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.graph import Graph

Ints = NDArray[np.int64]


class RowStream:
    """Accesses to rows, and the misses of caches.

    Misses of LRU are at least the distinct rows, never more in a larger cache, and equal to the
    distinct rows in a cache that holds them all.

    Args:
        rows: (L,) row numbers, int64.
        resident: rows that lie on the chip throughout; each is loaded once and takes a line.
    """

    def __init__(self, rows: Ints, resident: Ints | None = None) -> None:
        self.rows = np.ascontiguousarray(rows, np.int64)
        self.resident = np.unique(np.empty(0, np.int64) if resident is None else resident)

    @property
    def accesses(self) -> int:
        """All accesses, those of resident rows included."""
        return len(self.rows)

    @cached_property
    def distinct(self) -> int:
        """Rows that are accessed or resident: what every cache must load."""
        return len(np.union1d(self.rows, self.resident))

    def misses(self, lines: int) -> int:
        """Rows loaded with an LRU cache of `lines` rows, the resident ones among them.

        Raises:
            ConfigError: the resident rows do not fit.
        """
        free = self._free(lines)
        deep = int(np.searchsorted(self._distances, free))
        return self._first + len(self._distances) - deep + len(self.resident)

    def fewest_misses(self, lines: int) -> int:
        """As `misses`, with the optimal replacement: a bound for any cache of this size.

        Raises:
            ConfigError: the resident rows do not fit.
        """
        from cofit.targets.memory import optimal_hits

        hits = optimal_hits(self._through, self._free(lines))
        return len(hits) - int(hits.sum()) + len(self.resident)

    def _free(self, lines: int) -> int:
        if lines < max(1, len(self.resident)):
            raise ConfigError(
                f"a buffer of {lines} rows; it must hold the {len(self.resident)} resident rows, "
                "and at least one"
            )
        return lines - len(self.resident)

    @cached_property
    def _through(self) -> Ints:
        """Accesses that are not of resident rows."""
        if not len(self.resident):
            return self.rows
        found: Ints = self.rows[~np.isin(self.rows, self.resident)]
        return found

    @cached_property
    def _distances(self) -> Ints:
        """Stack distances of repeated accesses, ascending."""
        from cofit.targets.memory import stack_distances

        distances = stack_distances(self._through)
        return np.sort(distances[distances >= 0])

    @cached_property
    def _first(self) -> int:
        return len(self._through) - len(self._distances)


def pull_stream(adjacency: Adjacency, order: torch.Tensor | None = None) -> RowStream:
    """Rows in the order of a row-wise aggregation: per destination, its neighbours ascending.

    Args:
        adjacency: `graph.adjacency`, or `.looped` where a node reads itself too.
        order: (num_dst,) destinations as they are processed; ascending without it. The neighbours
            are read in this order as well, as after renumbering.
    """
    n = adjacency.num_dst
    order = torch.arange(n) if order is None else order
    check_order(order, n)
    place = torch.empty(max(n, adjacency.num_src), dtype=torch.int64)
    place[order] = torch.arange(n)
    place[n:] = torch.arange(n, len(place))
    key = place[adjacency.destinations] * len(place) + place[adjacency.indices]
    return RowStream(adjacency.indices[key.argsort()].numpy())


def check_order(order: torch.Tensor, nodes: int) -> None:
    """Raise a ConfigError unless every node occurs once."""
    if not torch.equal(order.sort().values, torch.arange(nodes)):
        raise ConfigError(f"an order of {len(order)} for {nodes} nodes; name every node once")


def rcm_order(graph: Graph) -> torch.Tensor:
    """(n,) reverse Cuthill-McKee order of an undirected graph: neighbours get near numbers."""
    data = np.ones(graph.num_edges, np.int8)
    shape = (graph.num_nodes, graph.num_nodes)
    matrix = csr_array((data, graph.indices.numpy(), graph.indptr.numpy()), shape=shape)
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    return torch.from_numpy(order.astype(np.int64))
