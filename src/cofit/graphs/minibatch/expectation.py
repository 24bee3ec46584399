"""What a configuration will visit, in the mean and without drawing: nodes, edges, cache hits.

Every node's probability s to be in a batch is carried from layer to layer, as if nodes were
visited independently (mean field): 1 - s' = (1 - seed) * product over its destinations v of
(1 - w_v), where w_v is the probability that v has drawn it in this layer or an earlier one,
w' = w + (s - w) q, and q is the share of v's neighbours that is drawn. The size of a batch is the
sum of the s'. Two corrections matter where degrees are low: a node that draws anew in every layer
mostly finds neighbours that it has drawn before (hence w, not one factor per layer), and a node
that is here because u drew it may draw u, which is here already (the cavity method, first order;
M. Mezard, A. Montanari, "Information, Physics, and Computation", 2009, chapter 14).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cofit.graphs.graph import Graph
from cofit.graphs.loaders import training_parts
from cofit.graphs.minibatch.cache import degree_rank
from cofit.graphs.minibatch.configuration import DYNAMIC, Configuration

Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]
SURE = 1 - 1e-12
"""The largest probability that a logarithm is taken of."""
LEVELS = 256
LONG = 3.0
"""Batches beyond which the position within a batch no longer matters to a dynamic cache."""


@dataclass(frozen=True, eq=False)
class Visits:
    """Of one full batch, in the mean.

    Attributes:
        layers: nodes of each layer's input, the first layer's first; the seeds last.
        edges: of each layer's block.
        probability: (n,) of each node to be in the batch.
        draws: numbers drawn by nodes with more neighbours than the fan-out, all layers.
        comparisons: of a draw with the node's earlier ones, as Floyd's algorithm needs.
    """

    layers: tuple[float, ...]
    edges: tuple[float, ...]
    probability: Reals
    draws: float
    comparisons: float

    @property
    def rows(self) -> float:
        """Feature rows that a batch needs."""
        return self.layers[0]


class Expectation:
    """Visits and hit rates of a graph; each is computed once.

    Args:
        graph: with training nodes.
    """

    def __init__(self, graph: Graph) -> None:
        _, _, rows = training_parts(graph)
        n = graph.num_nodes
        self.nodes, self.training = n, len(rows)
        self._seeds = np.zeros(n)
        self._seeds[rows.numpy()] = 1 / len(rows)
        ones = np.ones(graph.num_edges)
        self._pull = csr_array((ones, graph.indices.numpy(), graph.indptr.numpy()), shape=(n, n))
        self._push = self._pull.T.tocsr()
        self._mutual = self._push * self._pull  # edges whose reverse is an edge too
        self._degree = graph.in_degree.double().numpy()
        self._rank = degree_rank(graph)
        self.visits = lru_cache(maxsize=None)(self._visits)
        self._hits = lru_cache(maxsize=None)(self._found)
        self._of = lru_cache(maxsize=None)(self._carried)

    @cached_property
    def degree_stats(self) -> tuple[float, float, float]:
        """Mean degree, coefficient of variation, and share of the edges of the top hundredth."""
        degree = np.sort(self._degree)[::-1]
        mean = max(degree.mean(), 1e-9)
        top = degree[: max(1, len(degree) // 100)].sum() / max(degree.sum(), 1e-9)
        return float(mean), float(degree.std() / mean), float(top)

    def _visits(self, configuration: Configuration) -> Visits:
        c = configuration
        batch = min(c.batch_size, self.training)
        policy, lines = c.cache_policy, round(c.cache_ratio * self.nodes)
        if c.bias == 0:
            return self._of(batch, c.fanouts, c.family, 1.0, "none", 0)
        kind = "degree" if policy == "degree" else "visited"
        return self._of(batch, c.fanouts, c.family, c.odds, kind, lines)

    def hit_rate(self, configuration: Configuration) -> float:
        """Of the configuration's cache once it is warm.

        Static caches: visits of what is held over all visits. LRU: H. Che's approximation (IEEE
        JSAC 2002); FIFO: its counterpart of R. Fagin's. Times count in batches.
        """
        c = configuration
        return self._hits(
            Configuration(
                c.batch_size, c.fanouts, c.family, c.bias, True, c.cache_policy, c.cache_ratio,
                layers=c.layers,
            )
        )  # fmt: skip

    def _found(self, c: Configuration) -> float:
        lines = round(c.cache_ratio * self.nodes)
        if lines == 0:
            return 0.0
        s = self.visits(c).probability
        if c.cache_policy in DYNAMIC:
            return lru_hit_rate(s, lines) if c.cache_policy == "lru" else fifo_hit_rate(s, lines)
        kind = "degree" if c.cache_policy == "degree" else "visited"
        held = self._held(min(c.batch_size, self.training), c.fanouts, kind, lines)
        return float(s[held].sum() / s.sum())

    def _held(self, batch: int, fanouts: tuple[int | None, ...], kind: str, lines: int) -> Flags:
        rank = self._rank
        if kind == "visited":
            rank = self._of(batch, fanouts, "node", 1.0, "none", 0).probability
        flags = np.zeros(self.nodes, bool)
        flags[np.argsort(-rank, kind="stable")[:lines]] = True
        return flags

    def _carried(
        self,
        batch: int,
        fanouts: tuple[int | None, ...],
        family: str,
        odds: float,
        kind: str,
        lines: int,
    ) -> Visits:
        held = None if kind == "none" else self._held(batch, fanouts, kind, lines)
        seeds = self._seeds * batch
        none = (np.zeros(self.nodes),) * (1 if held is None else 2)
        s, drawn = seeds, none
        layers, edges, draws, comparisons = [s.sum()], [], 0.0, 0.0
        for fanout in reversed(fanouts):
            if family != "layer" or fanout is None:
                many = 0.0 if fanout is None else float(s[self._degree > fanout].sum()) * fanout
                draws, comparisons = draws + many, comparisons + many * (fanout or 0) / 2
                edges.append(float((s * np.minimum(self._degree, fanout or np.inf)).sum()))
                s, drawn = self._by_node(seeds, s, drawn, self._shares(fanout, odds, held), held)
            else:
                draws += float((self._push @ s).sum())
                s, count = self._by_layer(s, fanout * batch, odds, held)
                seeds, drawn = s, none  # of a later layer that takes all neighbours
                edges.append(count)
            layers.append(s.sum())
        if family == "subgraph":  # every layer but the last sees all edges among its nodes
            final = float(self._seeds @ (self._pull @ s)) * batch
            layers = [layers[0], *[s.sum()] * len(fanouts)]
            edges = [final, *[float(s @ (self._pull @ s))] * (len(fanouts) - 1)]
        return Visits(tuple(map(float, layers[::-1])), tuple(map(float, edges[::-1])), s,
                      draws, comparisons)  # fmt: skip

    def _shares(self, fanout: int | None, odds: float, held: Flags | None) -> tuple[Reals, ...]:
        """(n,) probability that a node draws a given neighbour: any, or one held and another."""
        degree = np.maximum(self._degree, 1)
        taken = degree if fanout is None else np.minimum(degree, fanout)
        if held is None:
            return (taken / degree,)
        inside = self._pull @ held.astype(float)
        outside = self._degree - inside
        near = np.minimum(taken * odds / np.maximum(odds * inside + outside, 1e-9), 1)
        return near, np.clip((taken - near * inside) / np.maximum(outside, 1e-9), 0, 1)

    def _by_node(
        self,
        seeds: Reals,
        s: Reals,
        drawn: tuple[Reals, ...],
        shares: tuple[Reals, ...],
        held: Flags | None,
    ) -> tuple[Reals, tuple[Reals, ...]]:
        """The next s, and probabilities that a node has drawn a given neighbour of each kind."""
        now = tuple(w + (s - w) * q for w, q in zip(drawn, shares, strict=True))
        members: tuple[Reals, ...] = (np.ones(self.nodes),)
        if held is not None:
            members = (held.astype(np.float64), (~held).astype(np.float64))
        back = [w / np.maximum(1 - w, 1e-6) for w in drawn]  # odds of having drawn v oneself
        spared = []
        for w, q in zip(now, shares, strict=True):
            logs = self._push @ np.log1p(-np.minimum(w, SURE))
            gain = q * (1 - s) / np.maximum(1 - w, 1e-6)
            for odds, member in zip(back, members, strict=True):
                if odds.any():
                    logs = logs + odds * (self._mutual @ (gain * member))
            spared.append(np.minimum(logs, 0.0))
        logs = spared[0] if held is None else np.where(held, *spared)
        return np.maximum(1 - (1 - seeds) * np.exp(logs), s), now

    def _by_layer(
        self, s: Reals, count: int, odds: float, held: Flags | None
    ) -> tuple[Reals, float]:
        asked = self._push @ s
        candidate = 1 - np.exp(self._push @ np.log1p(-np.minimum(s, SURE)))
        weight = asked if held is None else asked * np.where(held, odds, 1.0)
        if candidate.sum() <= count:
            drawn = candidate
        else:
            scale = _root(partial(_surplus, candidate, weight, count))
            drawn = np.minimum(candidate, scale * weight)
        share = np.divide(drawn, candidate, out=np.zeros_like(drawn), where=candidate > 0)
        return 1 - (1 - s) * (1 - drawn), float((asked * share).sum())


def lru_hit_rate(s: Reals, lines: int) -> float:
    """Hits over accesses of an LRU cache, of rows that are in a batch with probability s."""
    s, count = _levels(s)

    def distinct(t: float) -> float:
        whole, part = np.floor(t), t % 1
        return float((count * (1 - (1 - s) ** whole * (1 - s * part))).sum())

    if lines >= count.sum():
        return 1.0
    t = _root(lambda t: distinct(t) - lines)
    if t > LONG:
        found = 1 - (1 - s) ** (t - 0.5)  # what the sum below tends to
    else:
        # rows of a batch are distinct: g batches later a row comes g + d later, d being the
        # difference of two uniform positions
        found = np.asarray(sum(s * (1 - s) ** (g - 1) * _triangular(t - g) for g in range(1, 5)))
    return float((count * s * found).sum() / (count * s).sum())


def fifo_hit_rate(s: Reals, lines: int) -> float:
    """As `lru_hit_rate`, of a FIFO cache: one miss, then the hits until the row has left."""
    s, count = _levels(s)
    if lines >= count.sum():
        return 1.0

    def hits(t: float) -> float:
        """Requests at every batch that come while a row stays."""
        return sum(_triangular(t - g) for g in range(1, 5)) if t < LONG else t - 0.5

    def held(t: float) -> Reals:
        cycle = (1 + s * hits(t)) / s  # batches between two misses
        return np.minimum(t / cycle, 1)

    t = _root(lambda t: float((count * held(t)).sum()) - lines)
    found = s * hits(t) / (1 + s * hits(t))
    return float((count * s * found).sum() / (count * s).sum())


def _surplus(most: Reals, weight: Reals, count: int, scale: float) -> float:
    return float(np.minimum(most, scale * weight).sum()) - count


def _levels(s: Reals) -> tuple[Reals, Reals]:
    """At most `LEVELS` levels of positive probability, and how many rows have each."""
    ordered = np.sort(s[s > 0])
    starts = np.unique(np.linspace(0, len(ordered), LEVELS, endpoint=False).astype(int))
    count = np.diff(np.append(starts, len(ordered))).astype(float)
    return np.add.reduceat(ordered, starts) / count, count


def _triangular(x: float) -> float:
    """P(d < x) of the difference d of two uniform numbers."""
    if x <= -1:
        return 0.0
    if x >= 1:
        return 1.0
    return (1 + x) ** 2 / 2 if x < 0 else 1 - (1 - x) ** 2 / 2


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of a positive number becomes zero; 1e9 if it does not."""
    low, high = 1e-9, 1.0
    while rising(high) < 0 and high < 1e9:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return high
