"""Islands: small regions of a graph that touch the rest only through hubs, found in one pass.

Round by round, nodes of high degree become hubs, and engines search breadth-first from the hubs'
neighbours; hubs bound the search. A search that comes to its end within `largest` nodes is an
island; one that does not is given up, and its nodes wait for a lower threshold.

Source: T. Geng et al., "I-GCN", MICRO 2021, arXiv 2203.03606.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import ConfigError, DataError, VerificationError, numpy_generator
from cofit.graphs.graph import Graph
from cofit.graphs.islands.native import Engine, Search, library
from cofit.graphs.operations import at
from cofit.graphs.ordering import take_rows

FREE, HUB, DEAD = -1, -2, -4
DEFAULT_PERCENTILE = 99
"""Of the degrees: the first threshold where none is given."""

Ints = NDArray[np.int64]


class EdgeClass(IntEnum):
    """Where an edge lies."""

    INTERNAL = 0
    ISLAND_HUB = 1
    HUB_HUB = 2


@dataclass(frozen=True)
class Round:
    """One threshold.

    Attributes:
        threshold: degree from which on a free node became a hub; 0 for the nodes without edges,
            which come last, each an island.
        hubs: that it made.
        islands: that it found.
        tasks: neighbours of hubs from which engines searched.
        visits: edges that engines looked at.
        wasted: those of searches that were given up.
    """

    threshold: int
    hubs: int
    islands: int
    tasks: int
    visits: int
    wasted: int


@dataclass(frozen=True, eq=False)
class Islands:
    """Hubs and islands of an undirected graph without self-loops; each node is in one of them.

    Attributes:
        graph: that they are of.
        members: (n - hubs,) nodes of all islands, one island after the other as they were found.
        starts: (islands + 1,) where in `members` each begins.
        hubs: nodes in the order in which they became hubs.
        rounds: thresholds in falling order.
    """

    graph: Graph
    members: Ints
    starts: Ints
    hubs: Ints
    rounds: tuple[Round, ...]

    def __len__(self) -> int:
        """Number of islands."""
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[Ints]:
        """The nodes of each island."""
        for first, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield self.members[first:end]

    @property
    def sizes(self) -> Ints:
        """(islands,) nodes of each."""
        return np.diff(self.starts)

    @property
    def island_of(self) -> Ints:
        """(n,) number of each node's island; -1 of a hub."""
        found = np.full(self.graph.num_nodes, -1, np.int64)
        found[self.members] = np.repeat(np.arange(len(self)), self.sizes)
        return found

    def order(self) -> torch.Tensor:
        """(n,) nodes: round by round its hubs, then its islands."""
        parts, hub, island = [], 0, 0
        for each in self.rounds:
            parts.append(self.hubs[hub : hub + each.hubs])
            end = island + each.islands
            parts.append(self.members[self.starts[island] : self.starts[end]])
            hub, island = hub + each.hubs, end
        return torch.from_numpy(np.concatenate(parts))

    def edge_classes(self) -> NDArray[np.int8]:
        """(E,) the `EdgeClass` of every edge.

        Raises:
            VerificationError: an edge joins two islands, or a node is in none or twice.
        """
        n = self.graph.num_nodes
        every = np.sort(np.concatenate([self.members, self.hubs]))
        if not np.array_equal(every, np.arange(n)):
            raise VerificationError("islands and hubs do not hold every node once")
        island = self.island_of
        source, target = (island[ends.numpy()] for ends in self.graph.edge_index)
        hubs: NDArray[np.int8] = (source < 0).astype(np.int8) + (target < 0)
        broken = np.flatnonzero((hubs == 0) & (source != target))
        if len(broken):
            u, v = self.graph.edge_index[:, broken[0]].tolist()
            raise VerificationError(f"the edge {u} -> {v} joins two islands")
        return hubs


def find_islands(
    graph: Graph,
    *,
    threshold: int | None = None,
    decay: float = 0.5,
    largest: int = 64,
    engines: int = 1,
    threads: bool = False,
    seed: int | None = None,
) -> Islands:
    """Hubs and islands of an undirected graph.

    With one engine the result is the reference: it does not depend on chance. Engines that meet
    give up the region they share, so several may find other islands; what islands are holds for
    any number.

    Args:
        graph: symmetric; self-loops are left out with a warning, parallel edges stay.
        threshold: degree of a hub in the first round; by default the 99th percentile.
        decay: factor of the threshold from round to round, rounded down, not below 1.
        largest: nodes of an island at most.
        engines: that search at a time.
        threads: each engine is a thread; else they move in turn, a node each.
        seed: shuffles the tasks; in the order of hubs and their neighbours without it.

    Raises:
        DataError: the graph is not symmetric.
        ConfigError: a value out of range.
    """
    if not 0 < decay < 1 or largest < 1 or engines < 1 or (threshold is not None and threshold < 1):
        raise ConfigError(
            f"threshold {threshold}, decay {decay}, islands up to {largest} nodes, {engines} "
            "engines; give decay between 0 and 1, the others from 1"
        )
    if not graph.is_symmetric:
        raise DataError("islands need an undirected graph; use graph.symmetrised()")
    if graph.has_self_loops:
        warnings.warn("self-loops are left out of the islands' graph", stacklevel=2)
        graph = graph.without_self_loops()
    degree = graph.in_degree.numpy()
    if threshold is None:
        threshold = max(1, int(np.percentile(degree, DEFAULT_PERCENTILE)))
    search = _Engines(graph, largest, engines, threads)
    hubs: list[Ints] = []
    rounds: list[Round] = []
    while True:
        free = (search.state == FREE) & (degree > 0)
        if not free.any():
            break
        new = np.flatnonzero(free & (degree >= threshold))
        search.state[new] = HUB
        tasks = graph.indices[take_rows(graph.indptr, torch.from_numpy(new))[1]].numpy()
        tasks = tasks[search.state[tasks] == FREE]
        if seed is not None:
            tasks = numpy_generator(seed, "islands", len(rounds)).permutation(tasks)
        before = search.islands
        visits, wasted = search.run(tasks)
        found = search.islands - before
        rounds.append(Round(threshold, len(new), found, len(tasks), visits, wasted))
        hubs.append(new)
        threshold = max(1, int(decay * threshold))
    alone = np.flatnonzero(search.state == FREE)
    if len(alone):
        rounds.append(Round(0, 0, len(alone), 0, 0, 0))
    members, starts = search.found()
    return Islands(
        graph,
        np.concatenate([members, alone]),
        np.concatenate([starts, starts[-1] + 1 + np.arange(len(alone))]),
        np.concatenate([np.empty(0, np.int64), *hubs]),
        tuple(rounds),
    )


class _Engines:
    """The state of all nodes, and engines that search from tasks."""

    def __init__(self, graph: Graph, largest: int, engines: int, threads: bool) -> None:
        n = graph.num_nodes
        largest = min(largest, n)
        self.state = np.full(n, FREE, np.int32)
        self._threads = threads
        self._member, self._start, self._size = (np.empty(n, np.int64) for _ in range(3))
        self._arrays = graph.indptr.numpy(), graph.indices.numpy()
        self._queues = np.empty((engines, largest + 1), np.int64)
        self._shared = Search(
            *map(at, (*self._arrays, self.state)), 0, 0, 0, largest,
            at(self._member), at(self._start), at(self._size), 0, 0,
        )  # fmt: skip
        self._engines = (Engine * engines)(*(Engine(queue=at(queue)) for queue in self._queues))

    @property
    def islands(self) -> int:
        """Islands found so far."""
        return int(self._shared.islands)

    def run(self, tasks: Ints) -> tuple[int, int]:
        """Search from all tasks; the edges that were visited, and those of them in vain."""
        tasks = np.ascontiguousarray(tasks)
        self._shared.task, self._shared.tasks, self._shared.next = at(tasks), len(tasks), 0
        before = [(e.visits, e.wasted) for e in self._engines]
        shared, engines = ctypes.byref(self._shared), ctypes.byref(self._engines)
        if self._threads:
            workers = [
                threading.Thread(target=library().cofit_islands_engine, args=(shared, engines, e))
                for e in range(len(self._engines))
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        else:
            library().cofit_islands_lockstep(shared, engines, len(self._engines))
        self.state[self.state == DEAD] = FREE
        visits, wasted = (
            sum(now) - sum(then)
            for now, then in zip(
                zip(*((e.visits, e.wasted) for e in self._engines), strict=True),
                zip(*before, strict=True),
                strict=True,
            )
        )
        return visits, wasted

    def found(self) -> tuple[Ints, Ints]:
        """Members and starts of the islands, in the order in which their places were taken."""
        start = self._start[: self.islands]
        order = np.sort(start)
        members = self._member[: self._shared.members]
        return members, np.concatenate([order, [len(members)]]).astype(np.int64)
