"""Edges grouped by destination (CSR, pull): what layers, samplers and halo engines aggregate over.

An adjacency may be bipartite. Sources are numbered so that the destinations come first: source i is
destination i for i < num_dst. A whole graph, a sampled block and the local graph of a rank
([inner ; halo] sources, inner destinations) are all of this one kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from cofit.core import DataError
from cofit.graphs.ordering import group_by


@dataclass(frozen=True)
class Compact:
    """Row starts (the last one is E) and column numbers as kernels read them: int32 if they fit."""

    indptr: torch.Tensor
    indices: torch.Tensor


def _compact(indptr: torch.Tensor, indices: torch.Tensor, width: int) -> Compact:
    if max(len(indices), len(indptr), width) < 2**31:
        return Compact(indptr.int(), indices.int())
    return Compact(indptr, indices)


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

    @cached_property
    def compact(self) -> Compact:
        """What kernels read, made once."""
        return _compact(self.indptr, self.indices, len(self.indices))


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
    def compact(self) -> Compact:
        """What kernels read, made once."""
        return _compact(self.indptr, self.indices, self.num_src)

    def values(self, dtype: torch.dtype) -> torch.Tensor | None:
        """(E,) weights as `dtype`, converted once; None where all are one."""
        weight = self.weight
        if weight is None:
            return None
        return self._once("values", dtype, lambda: weight.to(dtype))

    def transposed_values(self, dtype: torch.dtype) -> torch.Tensor | None:
        """(E,) weights as `dtype` in the order of `transpose`, converted once."""
        weight = self.weight
        if weight is None:
            return None
        return self._once("transposed", dtype, lambda: weight[self.transpose.edges].to(dtype))

    def pattern(self, dtype: torch.dtype) -> torch.Tensor:
        """The edges as a `torch.sparse_csr` matrix of ones, made once per `dtype`."""
        return self._once("pattern", dtype, lambda: self._ones(dtype))

    def _ones(self, dtype: torch.dtype) -> torch.Tensor:
        rows, shape = self.compact, (self.num_dst, self.num_src)
        ones = torch.ones(self.num_edges, dtype=dtype)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            # neighbours may come in any order, which the invariants of the type forbid
            return torch.sparse_csr_tensor(
                rows.indptr, rows.indices, ones, shape, check_invariants=False
            )

    def _once(
        self, what: str, dtype: torch.dtype, make: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        key = (what, dtype)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @cached_property
    def _made(self) -> dict[tuple[str, torch.dtype], torch.Tensor]:
        return {}

    @cached_property
    def edgewise(self) -> Adjacency:
        """The adjacency whose sources are the edges themselves, made once."""
        return Adjacency(self.indptr, torch.arange(self.num_edges), self.num_edges)

    @cached_property
    def divisor(self) -> torch.Tensor:
        """(num_dst,) float64 divisor of a mean: the degree in the whole graph, at least one."""
        degree = self.counts if self.degree is None else self.degree[: self.num_dst]
        return degree.double().clamp(min=1)

    @cached_property
    def looped(self) -> Adjacency:
        """The edges with each destination's self-loops replaced by one, of weight one."""
        loops = torch.arange(self.num_dst)
        kept = torch.nonzero(self.indices != self.destinations).squeeze(1)
        indptr, order = group_by(torch.cat([self.destinations[kept], loops]), self.num_dst)
        weight = None
        if self.weight is not None:
            weight = torch.cat([self.weight[kept], self.weight.new_ones(self.num_dst)])[order]
        indices = torch.cat([self.indices[kept], loops])[order]
        return Adjacency(indptr, indices, self.num_src, weight, self.degree)

    @cached_property
    def normalised(self) -> Adjacency:
        """D^-1/2 (A + I) D^-1/2 with float64 weights, from `looped`.

        D counts the in-edges in the whole graph and the loop, for both ends of an edge. Where
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
        looped = self.looped
        degree = looped.counts if self.degree is None else self.degree + 1
        scale = degree.double().rsqrt()
        weight = scale[looped.destinations] * scale[looped.indices]
        if looped.weight is not None:
            weight = weight * looped.weight
        return replace(looped, weight=weight)
