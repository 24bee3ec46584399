"""Closed forms of a configuration's memory and work, from expected visits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from cofit.graphs.graph import Graph
from cofit.graphs.layers import order_macs
from cofit.graphs.minibatch.configuration import DYNAMIC, Configuration
from cofit.graphs.minibatch.expectation import Expectation, Visits
from cofit.graphs.models import build_gnn

LIVE_OUTPUTS = 4.0
"""Copies of a layer's output that are alive in the backward pass; a first guess that data
correct."""
LIVE_EDGE_BYTES = 8
"""Of an edge's number and weight as kernels read them."""
TWIN_EDGE_BYTES = 24
"""Of an edge in the transpose that a backward pass needs."""
DOUBTFUL = 0.1
"""By how much what an order of a layer's products saves must exceed what it adds, to be sure that
it is taken: sizes of drawn batches differ by a few per cent from the expected ones."""


@dataclass(frozen=True)
class Terms:
    """Of one step, but for `steps`.

    Attributes:
        steps: per epoch.
        rows: feature rows of a batch.
        row_bytes: of one, as it travels.
        edges: of all blocks.
        twin_edges: of those whose transpose the backward pass needs.
        draws: numbers drawn to choose neighbours.
        comparisons: between them.
        biased_draws: draws that prefer what is cached.
        split_edges: of the graph, told apart anew by whether their source is cached.
        hit_rate: of the cache.
        transfer_bytes: of features over the link.
        flops: of dense products, forward and backward.
        gather_bytes: read by aggregations, forward and backward.
        output_bytes: of layers and of what they aggregate.
        looked_up_rows: of a batch and a dynamic cache, one after another.
        replaced_rows: written to a dynamic cache.
        prefetch: whether preparing overlaps computing.
        model_bytes: weights, gradients and both moments of Adam.
        cache_bytes: rows of the cache.
        runtime_bytes: batches and what lives while one computes.
    """

    steps: int
    rows: float
    row_bytes: int
    edges: float
    twin_edges: float
    draws: float
    comparisons: float
    biased_draws: float
    split_edges: float
    hit_rate: float
    transfer_bytes: float
    flops: float
    gather_bytes: float
    output_bytes: float
    looked_up_rows: float
    replaced_rows: float
    prefetch: bool
    model_bytes: int
    cache_bytes: int
    runtime_bytes: float

    @property
    def memory_bytes(self) -> float:
        """On the device at the peak."""
        return self.model_bytes + self.cache_bytes + self.runtime_bytes


@dataclass(frozen=True)
class _Layer:
    """Of one step: sizes, widths, and the order of its two products."""

    sources: float
    destinations: float
    edges: float
    d_in: int
    d_out: int
    first: bool

    @property
    def macs(self) -> tuple[float, float]:
        """What transforming first saves and adds."""
        sizes = (self.sources, self.destinations, self.edges)
        return order_macs(sizes, (self.d_in, self.d_out), not self.first)

    @property
    def transforms_first(self) -> bool:
        """By expected sizes."""
        saved, added = self.macs
        return added < saved

    @property
    def surely_transforms_first(self) -> bool:
        """Also where sizes differ a little from the expected ones."""
        saved, added = self.macs
        return added < saved * (1 - DOUBTFUL)


class ClosedForm:
    """Terms of any configuration on one graph; each is computed once."""

    def __init__(self, graph: Graph) -> None:
        assert graph.x is not None
        self.expectation = Expectation(graph)
        self.features, self.classes = graph.x.shape[1], graph.num_classes
        self._graph_edges = graph.num_edges
        self._model = lru_cache(maxsize=None)(model_bytes)
        self.terms = lru_cache(maxsize=None)(self._terms)
        self.memory_bytes = lru_cache(maxsize=None)(self._memory_bytes)

    def widths(self, configuration: Configuration) -> tuple[int, ...]:
        """Of the features, the hidden layers and the classes."""
        hidden = (configuration.hidden,) * (configuration.layers - 1)
        return (self.features, *hidden, self.classes)

    def tail(self, configuration: Configuration) -> Configuration | None:
        """The configuration with the size of an epoch's last batch, where that one is smaller."""
        size, nodes = configuration.batch_size, self.expectation.training
        if nodes < size or nodes % size == 0:
            return None
        return replace(configuration, batch_size=nodes % size)

    def least_bytes(self, configuration: Configuration) -> float:
        """Below the peak on the device: never falls with batch, fan-outs, width, cache, prefetch.

        It leaves out what depends on the order of a layer's products and on steps per epoch.
        """
        c, visits = configuration, self._plain_visits(configuration)
        return self._held(c) + self._batch_bytes(c, visits, 8) + self._active(c, visits)

    def _memory_bytes(self, configuration: Configuration) -> float:
        """Peak on the device, of the epoch's full batches or its last one.

        Either in the forward pass, where a layer that aggregates first holds its sums and its means
        at once, or in the backward pass, where its means still live. Bias is left out, as it draws
        fewer distinct nodes.
        """
        c = configuration
        last = self.tail(c)
        steps = -(-self.expectation.training // c.batch_size)
        most = 0.0
        for each in (c,) if last is None else (c, last):
            visits, batches = self._plain_visits(each), min(c.prefetch, steps - 1)
            waiting = self._batch_bytes(c, self._plain_visits(c), None) * batches
            sums, means = [0.0], 0.0
            for layer in self._layers(c, visits):
                wide = 4 * layer.destinations * layer.d_in
                if not layer.surely_transforms_first:
                    sums.append(2 * wide + means)
                    means += wide * layer.first  # of other layers it is counted as an output
            backward = means + self._active(c, visits)
            batch = self._batch_bytes(c, visits, None)
            most = max(most, waiting + batch + max(*sums, backward))
        return self._held(c) + most

    def _plain_visits(self, c: Configuration) -> Visits:
        return self.expectation.visits(
            Configuration(c.batch_size, c.fanouts, c.family, layers=c.layers)
        )

    def _layers(self, c: Configuration, visits: Visits) -> Iterator[_Layer]:
        widths = self.widths(c)
        for i, edges in enumerate(visits.edges):
            yield _Layer(
                visits.layers[i], visits.layers[i + 1], edges, widths[i], widths[i + 1], i == 0
            )

    def _held(self, c: Configuration) -> float:
        """Of the model and the cache."""
        cache = round(c.cache_ratio * self.expectation.nodes) * self.features * c.feature_bits // 8
        return self._model(c.model, self.widths(c)) + cache

    def _batch_bytes(self, c: Configuration, visits: Visits, edge_bytes: int | None) -> float:
        """Of features and blocks; edges drawn have weights, those of all neighbours have none."""
        itemsize = c.feature_bits // 8
        copies = itemsize + (4 if itemsize < 4 else 0)
        found = visits.rows * (self.features * copies + 16)
        each = zip(visits.layers[1:], visits.edges, c.fanouts, strict=True)
        for nodes, edges, fanout in each:
            known = 16 if fanout is not None or c.family == "subgraph" else 8
            found += 8 * nodes + (known if edge_bytes is None else edge_bytes) * edges
        return found

    def _active(self, c: Configuration, visits: Visits) -> float:
        """Of layers' outputs and of edges, in the backward pass."""
        found = 0.0
        for layer in self._layers(c, visits):
            found += LIVE_OUTPUTS * 4 * layer.destinations * layer.d_out
            found += (LIVE_EDGE_BYTES + (0 if layer.first else TWIN_EDGE_BYTES)) * layer.edges
        return found

    def _terms(self, configuration: Configuration) -> Terms:
        c = configuration
        expected, itemsize = self.expectation, c.feature_bits // 8
        visits, hit_rate = expected.visits(c), expected.hit_rate(c)
        lines = round(c.cache_ratio * expected.nodes)
        missed = visits.rows * (1 - hit_rate)
        model = self._model(c.model, self.widths(c))
        cache = lines * self.features * itemsize
        flops = gathered = outputs = twins = 0.0
        for layer in self._layers(c, visits):
            transforms = layer.transforms_first
            width = layer.d_out if transforms else layer.d_in
            nodes = layer.sources if transforms else layer.destinations
            products = 2 if layer.first else 3  # features need no gradient
            flops += 2 * products * (nodes + layer.destinations) * layer.d_in * layer.d_out
            passes = 2 if transforms or not layer.first else 1
            twins += (passes - 1) * layer.edges
            gathered += 4 * passes * layer.edges * width
            outputs += 4 * (nodes * width + layer.destinations * layer.d_out)
        dynamic = c.cache_policy in DYNAMIC
        return Terms(
            steps=-(-expected.training // c.batch_size),
            rows=visits.rows,
            row_bytes=self.features * itemsize,
            edges=sum(visits.edges),
            twin_edges=twins,
            draws=visits.draws,
            comparisons=visits.comparisons,
            biased_draws=visits.draws if c.bias else 0.0,
            split_edges=self._graph_edges if c.bias and dynamic else 0.0,
            hit_rate=hit_rate,
            transfer_bytes=missed * self.features * itemsize,
            flops=flops,
            gather_bytes=gathered,
            output_bytes=outputs,
            looked_up_rows=visits.rows + lines if dynamic else 0.0,
            replaced_rows=min(missed, lines) if dynamic else 0.0,
            prefetch=c.prefetch > 0,
            model_bytes=model,
            cache_bytes=cache,
            runtime_bytes=self.memory_bytes(c) - model - cache,
        )


def model_bytes(kind: str, widths: tuple[int, ...]) -> int:
    """Of weights, gradients and Adam's two moments in fp32; its counters stay on the host."""
    return 16 * sum(p.numel() for p in build_gnn(kind, widths, seed=0).parameters())
