"""Assigning nodes to ranks: METIS, a grower that needs no library, and chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import ConfigError, UnknownNameError, derive_seed
from cofit.core import numpy_generator as generator_of
from cofit.graphs.graph import Graph
from cofit.graphs.metis import metis_parts

METHODS = ("metis", "grow", "random")
_TRIES = 4
"""Partitionings that METIS takes the best of; on Cora 10 % less volume than the first."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Which rank owns each node.

    Attributes:
        part: (n,) int64.
        objective: what METIS says that its communication volume is, the number of (node, other
            part) pairs, which is the sum of all halos; None of other methods.
    """

    part: torch.Tensor
    objective: int | None = None


def partition(graph: Graph, parts: int, method: str = "metis", seed: int = 0) -> Partition:
    """Assign the nodes of a graph to `parts` ranks, none of them empty.

    Directed graphs are partitioned as if undirected.

    Args:
        graph: isolated nodes and self-loops are allowed.
        parts: ranks.
        method: "metis", for the least communication volume; "grow", breadth-first growth of
            balanced regions; or "random", of equal sizes.
        seed: of the method.

    Raises:
        UnknownNameError: another method.
        ConfigError: not from 1 to n parts, or METIS left one empty.
        MissingDependencyError: "metis" without pymetis.
    """
    if method not in METHODS:
        raise UnknownNameError("partitioning method", method, METHODS)
    n = graph.num_nodes
    if not 1 <= parts <= n:
        raise ConfigError(f"{parts} parts of a graph of {n} nodes; choose from 1 to {n}")
    if parts == 1:
        return Partition(torch.zeros(n, dtype=torch.int64), 0)
    if method == "random":
        order = generator_of(seed, "partition").permutation(n)
        return Partition(torch.from_numpy(order % parts))
    undirected = graph.without_self_loops()
    if not undirected.is_symmetric:
        undirected = undirected.symmetrised()
    if method == "grow":
        return Partition(torch.from_numpy(_grow(undirected, parts, seed)))
    return _metis(undirected, parts, seed)


def _metis(graph: Graph, parts: int, seed: int) -> Partition:
    part, objective = metis_parts(
        graph, parts, objective="volume", seed=derive_seed(seed, "metis") % 2**31, tries=_TRIES
    )
    sizes = torch.bincount(part, minlength=parts)
    if (sizes == 0).any():
        raise ConfigError(
            f"METIS left part {int(sizes.argmin())} of {parts} empty; ask for fewer parts, or use "
            "the method 'grow'"
        )
    return Partition(part, objective)


def _grow(graph: Graph, parts: int, seed: int) -> NDArray[np.int64]:
    """Regions grown one after another, each breadth-first from an unassigned node.

    Sizes differ by at most one. A region that has no free neighbour goes on from another node.
    """
    n = graph.num_nodes
    indptr, indices = graph.indptr.numpy(), graph.indices.numpy()
    order = generator_of(seed, "partition").permutation(n)
    part = np.full(n, -1)
    sizes = np.diff(np.arange(parts + 1) * n // parts)
    next_start = 0
    for rank, size in enumerate(sizes):
        frontier = np.empty(0, np.int64)
        left = int(size)
        while left:
            if not len(frontier):
                while part[order[next_start]] >= 0:
                    next_start += 1
                frontier = order[next_start : next_start + 1]
            frontier = frontier[:left]
            part[frontier] = rank
            left -= len(frontier)
            neighbours = [indices[indptr[v] : indptr[v + 1]] for v in frontier]
            reached = np.unique(np.concatenate(neighbours))
            frontier = reached[part[reached] < 0]
    return part
