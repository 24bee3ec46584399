"""Edges grouped by destination (CSR, pull): what layers, samplers and halo engines aggregate over.

An adjacency may be bipartite. Sources are numbered so that the destinations come first: source i is
destination i for i < num_dst. A whole graph, a sampled block and the local graph of a rank
([inner ; halo] sources, inner destinations) are all of this one kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from cofit.core import DataError
from cofit.graphs.ordering import group_by


@dataclass(frozen=True, eq=False)
class Transpose:
    """The same edges grouped by source (CSC), for backward passes and for pushing.

    Attributes:
        indptr: (num_src + 1,).
        indices: (E,) destination of each edge.
        edges: (E,) position of each edge in the CSR arrays.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    edges: torch.Tensor


@dataclass(frozen=True, eq=False)
class Adjacency:
    """A sparse matrix of `num_dst` rows and `num_src` columns; entry (v, u) is the edge u -> v.

    The fields are trusted: `Graph` checks what comes from outside.

    Args:
        indptr: (num_dst + 1,) int64; the edges into v are indptr[v] to indptr[v + 1].
        indices: (E,) int64, the source of each edge.
        num_src: sources; the first `num_dst` of them are the destinations.
        weight: (E,) factor of each edge in sums and means, for example one over the probability
            with which it was sampled; None is one.
        degree: (num_src,) in-degree of every source in the whole graph. None where these edges are
            all there are: the degrees are then counted.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    num_src: int
    weight: torch.Tensor | None = None
    degree: torch.Tensor | None = None

    @property
    def num_dst(self) -> int:
        """Destinations."""
        return len(self.indptr) - 1

    @property
    def num_edges(self) -> int:
        """Edges, parallel ones counted each."""
        return len(self.indices)

    @cached_property
    def counts(self) -> torch.Tensor:
        """(num_dst,) int64: edges present into each destination."""
        return self.indptr.diff()

    @cached_property
    def destinations(self) -> torch.Tensor:
        """(E,) int64: the destination of each edge."""
        return torch.repeat_interleave(torch.arange(self.num_dst), self.counts)

    @cached_property
    def transpose(self) -> Transpose:
        """The CSC twin, made once."""
        indptr, edges = group_by(self.indices, self.num_src)
        return Transpose(indptr, self.destinations[edges], edges)

    @cached_property
    def divisor(self) -> torch.Tensor:
        """(num_dst,) float64 divisor of a mean: the degree in the whole graph, at least one."""
        degree = self.counts if self.degree is None else self.degree[: self.num_dst]
        return degree.double().clamp(min=1)

    @cached_property
    def normalised(self) -> Adjacency:
        """D^-1/2 (A + I) D^-1/2 with float64 weights: self-loops are replaced by one per node.

        D counts the in-edges in the whole graph and the new loop, for both ends of an edge. Where
        `degree` is given it is taken as counted without self-loops.
        Source: T. Kipf, M. Welling, "Semi-Supervised Classification with Graph Convolutional
        Networks", ICLR 2017.

        Raises:
            DataError: bipartite without the degrees of its sources.
        """
        if self.degree is None and self.num_src != self.num_dst:
            raise DataError(
                f"an adjacency of {self.num_dst} destinations and {self.num_src} sources has no "
                "degrees to normalise by; give `degree`, counted in the whole graph"
            )
        loops = torch.arange(self.num_dst)
        kept = torch.nonzero(self.indices != self.destinations).squeeze(1)
        targets = torch.cat([self.destinations[kept], loops])
        sources = torch.cat([self.indices[kept], loops])
        indptr, order = group_by(targets, self.num_dst)
        targets, sources = targets[order], sources[order]
        degree = self._degree_without_loops(kept)
        scale = (degree + 1).rsqrt()
        weight = scale[targets] * scale[sources]
        if self.weight is not None:
            own = torch.ones(self.num_dst, dtype=self.weight.dtype)
            weight = weight * torch.cat([self.weight[kept], own])[order]
        return Adjacency(indptr, sources, self.num_src, weight, self.degree)

    def _degree_without_loops(self, kept: torch.Tensor) -> torch.Tensor:
        if self.degree is not None:
            return self.degree.double()
        return torch.bincount(self.destinations[kept], minlength=self.num_dst).double()
