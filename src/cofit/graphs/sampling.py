"""Neighbour sampling: blocks of a few edges per node, drawn for all nodes of a hop at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import ConfigError, DataError
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.graph import Graph

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sample:
    """What some nodes (seeds) see of the graph.

    Attributes:
        nodes: (m,) numbers of the sources of the first block; the seeds come first. The sources of
            block l are the first `blocks[l].num_src` of them.
        blocks: one adjacency per layer, the first layer's first; each block's destinations are the
            sources of the next, and the last one's are the seeds.
    """

    nodes: torch.Tensor
    blocks: tuple[Adjacency, ...]

    @property
    def num_seeds(self) -> int:
        """Rows of the result."""
        return self.blocks[-1].num_dst


class NeighbourSampler:
    """Draws for each node uniformly, without replacement, up to `fanouts[l]` of its neighbours.

    The edges of a block carry the inverse of their probability as weight, and the block the degrees
    in the whole graph: a sum is then an unbiased estimate of the sum over all neighbours, and a
    mean is the mean over those drawn. Every layer draws anew, also for nodes of earlier layers.

    Source: W. Hamilton, R. Ying, J. Leskovec, NeurIPS 2017; subsets by R. Floyd's algorithm (J.
    Bentley, "A sample of brilliance", CACM 30(9), 1987), for all nodes side by side.

    Args:
        graph: without self-loops; layers that want them add them.
        fanouts: neighbours per node, the first layer's first; None takes all.

    Raises:
        DataError: the graph has self-loops.
        ConfigError: no or non-positive fan-outs.
    """

    def __init__(self, graph: Graph, fanouts: Sequence[int | None]) -> None:
        if graph.has_self_loops:
            raise DataError(
                "a graph with self-loops cannot be sampled: layers that need them add their own; "
                "call without_self_loops() first"
            )
        if not fanouts or any(fanout is not None and fanout < 1 for fanout in fanouts):
            raise ConfigError(
                f"fan-outs {list(fanouts)}; give at least one, each positive or None for all"
            )
        self.graph, self.fanouts = graph, tuple(fanouts)
        self._indptr: Numbers = graph.indptr.numpy()
        self._indices: Numbers = graph.indices.numpy()
        self._degree = graph.in_degree.double()
        self._number: Numbers = np.full(graph.num_nodes, -1)

    def sample(self, seeds: torch.Tensor, generator: np.random.Generator) -> Sample:
        """The blocks of some distinct nodes.

        Raises:
            DataError: repeated or absent seeds, or none.
        """
        nodes: Numbers = seeds.numpy()
        if not len(nodes) or nodes.min() < 0 or nodes.max() >= self.graph.num_nodes:
            raise DataError(
                f"{len(nodes)} seeds; give at least one, from 0 to {self.graph.num_nodes - 1}"
            )
        number = self._number
        number[nodes] = np.arange(len(nodes))
        if not np.array_equal(number[nodes], np.arange(len(nodes))):
            number[nodes] = -1
            raise DataError("a node occurs twice among the seeds; give distinct ones")
        drawn: list[tuple[Numbers, Numbers, NDArray[np.float64] | None, int]] = []
        for fanout in reversed(self.fanouts):
            indptr, edges, weight = self.draw(nodes, fanout, generator)
            sources = self._indices[edges]
            nodes = np.concatenate([nodes, self._fresh(sources, len(nodes))])
            drawn.append((indptr, number[sources], weight, len(nodes)))
        number[nodes] = -1
        order = torch.from_numpy(nodes)
        degree = self._degree[order]
        blocks = tuple(
            Adjacency(
                torch.from_numpy(indptr),
                torch.from_numpy(sources),
                count,
                None if weight is None else torch.from_numpy(weight),
                degree[:count],
            )
            for indptr, sources, weight, count in reversed(drawn)
        )
        return Sample(order, blocks)

    def _fresh(self, sources: Numbers, known: int) -> Numbers:
        """Nodes that are seen for the first time, numbered from `known` on."""
        unseen = sources[self._number[sources] < 0]
        # of equal nodes the last writes its position last: one of each finds its own again
        places = np.arange(len(unseen))
        self._number[unseen] = places
        fresh: Numbers = unseen[self._number[unseen] == places]
        self._number[fresh] = known + np.arange(len(fresh))
        return fresh

    def draw(
        self, nodes: Numbers, fanout: int | None, generator: np.random.Generator
    ) -> tuple[Numbers, Numbers, NDArray[np.float64] | None]:
        """Row starts, positions of the drawn edges in the graph, and their weights.

        What another way of sampling overrides.
        """
        starts = self._indptr[nodes]
        degrees = self._indptr[nodes + 1] - starts
        if fanout is None:
            return *ranges(starts, degrees), None
        counts = np.minimum(degrees, fanout)
        large = degrees > fanout
        indptr, edges = ranges(starts, counts)
        if large.any():
            chosen = floyd(degrees[large], fanout, generator)
            places = indptr[:-1][large][:, None] + np.arange(fanout)
            edges[places] = starts[large][:, None] + chosen.T
        weight = np.ones(len(nodes))
        weight[large] = degrees[large] / fanout
        return indptr, edges, np.repeat(weight, counts)


def floyd(sizes: Numbers, counts: Numbers | int, generator: np.random.Generator) -> Numbers:
    """(max count, m) distinct numbers in each column: a uniform subset of range(sizes[column]).

    A column of fewer numbers than the largest count ends in -1. No count is above its size.
    """
    counts = np.broadcast_to(np.asarray(counts, np.int64), sizes.shape)
    rows = np.arange(counts.max(initial=0))[:, None]
    upper = sizes - counts + 1 + rows  # (count, m): draws below this
    chosen: Numbers = (generator.random(upper.shape) * upper).astype(np.int64)
    chosen[rows >= counts] = -1
    for row in range(1, len(chosen)):
        taken = (chosen[:row] == chosen[row]).any(0) & (row < counts)
        chosen[row, taken] = upper[row, taken] - 1
    return chosen


def ranges(starts: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """Row starts and the concatenation of range(start, start + count)."""
    indptr = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr, np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
