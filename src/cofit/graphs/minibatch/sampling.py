"""Samplers that prefer cached nodes, with the probabilities that keep sums unbiased."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.graphs.adjacency import Adjacency
from cofit.graphs.graph import Graph
from cofit.graphs.minibatch.configuration import Configuration
from cofit.graphs.sampling import NeighbourSampler, Numbers, Sample, floyd, ranges

Flags = NDArray[np.bool_]
Reals = NDArray[np.float64]


class CacheBiasedSampler(NeighbourSampler):
    """Up to `fanouts[l]` neighbours per node, without replacement, cached ones more often.

    Of all subsets of that size one is drawn with a probability in proportion to the product of its
    members' odds (conditional Poisson sampling): the number of cached members follows Fisher's
    noncentral hypergeometric law, and within cached and uncached neighbours all subsets are
    equally likely. With odds of one this is the uniform law of `NeighbourSampler`. An edge's
    probability is the law's mean over the number of neighbours of its kind, exactly.

    Args:
        graph: without self-loops.
        fanouts: see `NeighbourSampler`.
        odds: of a cached neighbour; at least one.
        cached: gives (n,) flags of what is cached now; a new array whenever they change.
        unbiased: weigh each edge by the inverse of its probability; otherwise by degree over
            fan-out, as if it had been drawn uniformly.

    Raises:
        DataError: the graph has self-loops.
        ConfigError: no or non-positive fan-outs.
    """

    def __init__(
        self,
        graph: Graph,
        fanouts: tuple[int | None, ...],
        odds: float,
        cached: Callable[[], Flags],
        unbiased: bool,
    ) -> None:
        super().__init__(graph, fanouts)
        self._odds, self._cached, self._unbiased = odds, cached, unbiased
        self._flags: Flags | None = None
        self._kinds: tuple[tuple[Numbers, Numbers], ...] = ()

    def draw(
        self, nodes: Numbers, fanout: int | None, generator: np.random.Generator
    ) -> tuple[Numbers, Numbers, Reals | None]:
        """See `NeighbourSampler`; a node's cached neighbours come first."""
        starts = self._indptr[nodes]
        degrees = self._indptr[nodes + 1] - starts
        if fanout is None:
            return *ranges(starts, degrees), None
        counts = np.minimum(degrees, fanout)
        large = degrees > fanout
        indptr, edges = ranges(starts, counts)
        weight = np.repeat(np.where(large, degrees / np.maximum(counts, 1), 1.0), counts)
        if not large.any():
            return indptr, edges, weight
        (near, first), (far, second) = self._split()
        owners = nodes[large]
        inside = first[owners + 1] - first[owners]
        outside = degrees[large] - inside
        law = CachedCount(inside, outside, fanout, self._odds)
        taken = law.draw(generator)
        places = indptr[:-1][large][:, None] + np.arange(fanout)
        rank = np.arange(fanout)
        is_near = rank < taken[:, None]
        chosen = np.empty((len(owners), fanout), np.int64)
        for flags, positions, begin, sizes, amounts in (
            (is_near, near, first, inside, taken),
            (~is_near, far, second, outside, fanout - taken),
        ):
            numbers = floyd(sizes, amounts, generator).T
            chosen[flags] = positions[(numbers + begin[owners][:, None])[numbers >= 0]]
        edges[places] = chosen
        if self._unbiased:
            weight[places] = np.where(is_near, law.weight_inside[:, None],
                                      law.weight_outside[:, None])  # fmt: skip
        return indptr, edges, weight

    def _split(self) -> tuple[tuple[Numbers, Numbers], ...]:
        """Positions of edges from cached and from other sources, and where each node's begin."""
        flags = self._cached()
        if flags is not self._flags:
            self._flags = flags
            of_edge = flags[self._indices]
            self._kinds = tuple(
                (np.flatnonzero(kind), np.concatenate([[0], np.cumsum(kind)])[self._indptr])
                for kind in (of_edge, ~of_edge)
            )
        return self._kinds


class CachedCount:
    """Fisher's noncentral hypergeometric law: cached members among `count` drawn neighbours.

    Source: A. Fog, "Calculation Methods for Wallenius' Noncentral Hypergeometric Distribution",
    2008, which defines both.

    Args:
        inside: (m,) cached neighbours.
        outside: (m,) other ones; together more than `count`.
        count: drawn of each.
        odds: of a cached one.
    """

    def __init__(self, inside: Numbers, outside: Numbers, count: int, odds: float) -> None:
        x = np.arange(count)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            # law(x + 1) / law(x); zero or infinite at the ends of what is possible
            ratio = odds * (inside - x) * (count - x) / ((x + 1) * (outside - count + x + 1.0))
            steps = np.where(outside - count + x + 1 > 0, np.log(np.maximum(ratio, 0)), 0.0)
        logs = np.concatenate([np.zeros((1, len(inside))), np.cumsum(steps, 0)])
        possible = np.arange(count + 1)[:, None] >= count - outside
        law = np.where(possible, np.exp(logs - np.where(possible, logs, -np.inf).max(0)), 0.0)
        self.law = law / law.sum(0)
        """(count + 1, m) probability of each number."""
        self._cumulative = np.cumsum(self.law, 0)
        mean = (np.arange(count + 1)[:, None] * self.law).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.weight_inside: Reals = inside / mean
            """(m,) inverse probability of a cached neighbour; infinite or NaN where none is."""
            self.weight_outside: Reals = outside / (count - mean)
            """(m,) that of another one."""

    def draw(self, generator: np.random.Generator) -> Numbers:
        """(m,) numbers of cached members."""
        uniform = generator.random(self._cumulative.shape[1]) * self._cumulative[-1]
        found: Numbers = (self._cumulative <= uniform).sum(0)
        return found


class LayerSampler(NeighbourSampler):
    """Per layer, `fanouts[l]` source nodes per seed, shared by all destinations.

    A candidate's chance is in proportion to its edges into the destinations, times the odds if it
    is cached; systematic sampling in random order gives each its exact probability, and all edges
    between what is drawn and the destinations are kept. Destinations are always sources too.

    Source: the idea of D. Zou et al., "LADIES", NeurIPS 2019, without replacement.

    Args:
        graph: without self-loops.
        fanouts: see above; None takes all neighbours.
        odds: of a cached node; at least one.
        cached: see `CacheBiasedSampler`.
        unbiased: see `CacheBiasedSampler`.
    """

    def __init__(
        self,
        graph: Graph,
        fanouts: tuple[int | None, ...],
        odds: float,
        cached: Callable[[], Flags],
        unbiased: bool,
    ) -> None:
        super().__init__(graph, fanouts)
        self._odds, self._cached, self._unbiased = odds, cached, unbiased
        self._seeds = 0

    def sample(self, seeds: torch.Tensor, generator: np.random.Generator) -> Sample:
        """See `NeighbourSampler`."""
        self._seeds = len(seeds)
        return super().sample(seeds, generator)

    def draw(
        self, nodes: Numbers, fanout: int | None, generator: np.random.Generator
    ) -> tuple[Numbers, Numbers, Reals | None]:
        """See `NeighbourSampler`."""
        starts = self._indptr[nodes]
        indptr, edges = ranges(starts, self._indptr[nodes + 1] - starts)
        if fanout is None:
            return indptr, edges, None
        candidates, place, asked = np.unique(
            self._indices[edges], return_inverse=True, return_counts=True
        )
        chance: Reals = np.where(self._cached()[candidates], self._odds, 1.0) * asked
        probability = inclusion(chance, fanout * self._seeds)
        drawn = systematic(probability, generator)
        kept = drawn[place]
        fair = probability
        if not self._unbiased:
            fair = inclusion(asked.astype(np.float64), fanout * self._seeds)
        before = np.concatenate([[0], np.cumsum(kept)])
        return before[indptr], edges[kept], 1 / fair[place[kept]]


class SubgraphSampler(NeighbourSampler):
    """All edges among the nodes that another sampler draws; every layer sees the same ones.

    Source: the idea of H. Zeng et al., "Decoupling the Depth and Scope of Graph Neural Networks",
    NeurIPS 2021.

    Args:
        inner: draws the nodes.
    """

    def __init__(self, inner: NeighbourSampler) -> None:
        super().__init__(inner.graph, inner.fanouts)
        self._inner = inner

    def sample(self, seeds: torch.Tensor, generator: np.random.Generator) -> Sample:
        """See `NeighbourSampler`; a mean is that of the neighbours in the subgraph."""
        order = self._inner.sample(seeds, generator).nodes
        nodes: Numbers = order.numpy()
        starts = self._indptr[nodes]
        degrees = self._indptr[nodes + 1] - starts
        indptr, edges = ranges(starts, degrees)
        self._number[nodes] = np.arange(len(nodes))
        sources = self._number[self._indices[edges]]
        self._number[nodes] = -1
        kept = sources >= 0
        rows = torch.from_numpy(np.concatenate([[0], np.cumsum(kept)])[indptr])
        columns = torch.from_numpy(sources[kept])
        counts = rows.diff()
        weight = torch.from_numpy(degrees) / counts.clamp(min=1).double()
        weight = weight.repeat_interleave(counts)
        degree = self._degree[order]
        inside = Adjacency(rows, columns, len(nodes), weight, degree)
        few, last = len(seeds), int(rows[len(seeds)])
        final = Adjacency(rows[: few + 1], columns[:last], len(nodes), weight[:last], degree)
        return Sample(order, (*[inside] * (len(self.fanouts) - 1), final))


def inclusion(chance: Reals, count: float) -> Reals:
    """Probabilities in proportion to `chance`, none above one, that sum to `count` if they can."""
    if count >= len(chance):
        return np.ones(len(chance))
    probability: Reals = chance * (count / chance.sum())
    while (probability > 1).any():
        sure = probability >= 1
        rest = chance[~sure]
        probability = np.ones(len(chance))
        probability[~sure] = rest * ((count - sure.sum()) / rest.sum())
    return probability


def systematic(probability: Reals, generator: np.random.Generator) -> Flags:
    """Members drawn with exactly these probabilities, as many as their sum (rounded either way)."""
    order = generator.permutation(len(probability))
    bounds = np.concatenate([[0.0], np.cumsum(probability[order])]) + generator.random()
    drawn = np.empty(len(probability), bool)
    drawn[order] = np.diff(np.floor(bounds)) > 0
    return drawn


def build_sampler(
    graph: Graph, configuration: Configuration, cached: Callable[[], Flags]
) -> NeighbourSampler:
    """The sampler of a configuration; the plain one where nothing is preferred."""
    if configuration.family == "subgraph":
        return SubgraphSampler(build_sampler(graph, replace(configuration, family="node"), cached))
    if configuration.family == "node" and configuration.bias == 0:
        return NeighbourSampler(graph, configuration.fanouts)
    kind = CacheBiasedSampler if configuration.family == "node" else LayerSampler
    return kind(graph, configuration.fanouts, configuration.odds, cached, configuration.unbiased)
