"""Closed forms of memory and time of a configuration, from expected visits and a few rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import nnls

from cofit.graphs.graph import Graph
from cofit.graphs.minibatch.configuration import DYNAMIC, Configuration
from cofit.graphs.minibatch.device import Device
from cofit.graphs.minibatch.expectation import Expectation
from cofit.graphs.minibatch.measure import Measurement
from cofit.graphs.models import build_gnn

LIVE_ACTIVATIONS = 3.0
"""Copies of a layer's output that are alive at the peak; a first guess that data correct."""
LIVE_EDGE_BYTES = 24
"""Of an edge's copies for kernels, both ways; a first guess that data correct."""


@dataclass(frozen=True)
class Terms:
    """Of one step, but for `steps`.

    Attributes:
        steps: per epoch.
        rows: feature rows of a batch.
        edges: of all blocks.
        hit_rate: of the cache.
        transfer_bytes: of features over the link.
        flops: forward and backward.
        gather_bytes: read by aggregations, forward and backward.
        replaced_rows: written to a dynamic cache.
        prefetch: whether preparing overlaps computing.
        model_bytes: weights, gradients and both moments of Adam.
        cache_bytes: rows of the cache.
        runtime_bytes: batches and what lives while one computes.
    """

    steps: int
    rows: float
    edges: float
    hit_rate: float
    transfer_bytes: float
    flops: float
    gather_bytes: float
    replaced_rows: float
    prefetch: bool
    model_bytes: int
    cache_bytes: int
    runtime_bytes: float

    @property
    def memory_bytes(self) -> float:
        """On the device at the peak."""
        return self.model_bytes + self.cache_bytes + self.runtime_bytes


class ClosedForm:
    """Terms of any configuration on one graph; each is computed once."""

    def __init__(self, graph: Graph) -> None:
        assert graph.x is not None
        self.expectation = Expectation(graph)
        self.features, self.classes = graph.x.shape[1], graph.num_classes
        self._model = lru_cache(maxsize=None)(model_bytes)
        self.terms = lru_cache(maxsize=None)(self._terms)
        self.memory_bytes = lru_cache(maxsize=None)(self._memory_bytes)

    def widths(self, configuration: Configuration) -> tuple[int, ...]:
        """Of the features, the hidden layers and the classes."""
        hidden = (configuration.hidden,) * (configuration.layers - 1)
        return (self.features, *hidden, self.classes)

    def _memory_bytes(self, configuration: Configuration) -> float:
        """Peak on the device; it never falls with batch, fan-outs, width, cache or prefetch.

        Bias is left out, as it draws fewer distinct nodes.
        """
        c = configuration
        n, itemsize = self.expectation.nodes, c.feature_bits // 8
        plain = Configuration(c.batch_size, c.fanouts, c.family, layers=c.layers)
        visits = self.expectation.visits(plain)
        widths = self.widths(c)
        copies = itemsize + (4 if itemsize < 4 else 0)
        index = 16 * visits.rows + sum(
            8 * v + 16 * e for v, e in zip(visits.layers[1:], visits.edges, strict=True)
        )
        batch = visits.rows * self.features * copies + index
        active = sum(
            LIVE_ACTIVATIONS * 4 * v * d for v, d in zip(visits.layers[1:], widths[1:], strict=True)
        )
        active += LIVE_EDGE_BYTES * sum(visits.edges)
        cache = round(c.cache_ratio * n) * self.features * itemsize
        return self._model(c.model, widths) + cache + (1 + c.prefetch) * batch + active

    def _terms(self, configuration: Configuration) -> Terms:
        c = configuration
        expected, itemsize = self.expectation, c.feature_bits // 8
        visits, hit_rate = expected.visits(c), expected.hit_rate(c)
        widths = self.widths(c)
        lines = round(c.cache_ratio * expected.nodes)
        missed = visits.rows * (1 - hit_rate)
        model, cache = self._model(c.model, widths), lines * self.features * itemsize
        flops = gathered = 0.0
        for layer, edges in enumerate(visits.edges):
            d_in, d_out = widths[layer], widths[layer + 1]
            narrow = min(d_in, d_out)
            flops += 3 * (2 * visits.layers[layer + 1] * d_in * d_out + 2 * edges * narrow)
            gathered += (2 if layer else 1) * 4 * edges * narrow
        return Terms(
            steps=-(-expected.training // c.batch_size),
            rows=visits.rows,
            edges=sum(visits.edges),
            hit_rate=hit_rate,
            transfer_bytes=missed * self.features * itemsize,
            flops=flops,
            gather_bytes=gathered,
            replaced_rows=min(missed, lines) if c.cache_policy in DYNAMIC else 0.0,
            prefetch=c.prefetch > 0,
            model_bytes=model,
            cache_bytes=cache,
            runtime_bytes=self.memory_bytes(c) - model - cache,
        )


def model_bytes(kind: str, widths: tuple[int, ...]) -> int:
    """Of weights, gradients and Adam's two moments in fp32; its counters stay on the host."""
    return 16 * sum(p.numel() for p in build_gnn(kind, widths, seed=0).parameters())


@dataclass(frozen=True)
class Rates:
    """Seconds per unit of work on this machine, found by least squares.

    Attributes:
        sample_step: of a batch's sampling, and per edge and row.
        sample_edge: see above.
        sample_row: see above.
        gather_byte: of a batch's rows in host memory and cache.
        compute_step: of a step, per flop, per byte gathered and per row.
        compute_flop: see above.
        compute_byte: see above.
        compute_row: see above.
        replace_row: of a dynamic cache.
    """

    sample_step: float
    sample_edge: float
    sample_row: float
    gather_byte: float
    compute_step: float
    compute_flop: float
    compute_byte: float
    compute_row: float
    replace_row: float

    def phases_s(self, terms: Terms, device: Device, row_bytes: float) -> dict[str, float]:
        """Of one step, by phase."""
        t = terms
        return {
            "sampling": self.sample_step + self.sample_edge * t.edges + self.sample_row * t.rows,
            "transfer": self.gather_byte * t.rows * row_bytes
            + device.transfer_s(t.transfer_bytes),
            "replacement": self.replace_row * t.replaced_rows,
            "computing": self.compute_step + self.compute_flop * t.flops
            + self.compute_byte * t.gather_bytes + self.compute_row * t.rows,
        }  # fmt: skip

    def step_s(self, terms: Terms, device: Device, row_bytes: float) -> float:
        """Of one step: the sum of its phases, or the longer side where they overlap."""
        parts = self.phases_s(terms, device, row_bytes)
        compute = parts["computing"]
        prepare = sum(parts.values()) - compute
        return max(prepare, compute) if terms.prefetch else prepare + compute


def fit_rates(terms: Sequence[Terms], measured: Sequence[Measurement], device: Device) -> Rates:
    """Non-negative least squares of relative errors, phase by phase.

    Args:
        terms: of the configurations.
        measured: what was measured of each; at least one.
        device: whose link time is known and subtracted.
    """

    def fit(columns: list[list[float]], seconds: list[float]) -> list[float]:
        matrix, aim = np.array(columns, float).T, np.maximum(np.array(seconds, float), 1e-7)
        scale = np.maximum(np.abs(matrix).max(0), 1e-30)
        found, _ = nnls(matrix / scale / aim[:, None], np.ones(len(aim)))
        return [float(v) for v in found / scale]

    ones = [1.0] * len(terms)
    sample = fit([ones, [t.edges for t in terms], [t.rows for t in terms]],
                 [m.sample_s for m in measured])  # fmt: skip
    gather = fit([[t.rows * m.row_bytes for t, m in zip(terms, measured, strict=True)]],
                 [m.transfer_s - device.transfer_s(m.feature_bytes) for m in measured])  # fmt: skip
    alone = list(zip(terms, measured, strict=True))
    compute = fit(
        [ones, [t.flops for t, _ in alone], [t.gather_bytes for t, _ in alone],
         [t.rows for t, _ in alone]],
        [m.compute_s for _, m in alone],
    )  # fmt: skip
    dynamic = [(t, m) for t, m in alone if t.replaced_rows > 0]
    replace = fit([[t.replaced_rows for t, _ in dynamic]],
                  [m.replace_s for _, m in dynamic]) if dynamic else [0.0]  # fmt: skip
    return Rates(*sample, *gather, *compute, *replace)
