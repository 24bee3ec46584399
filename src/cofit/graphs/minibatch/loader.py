"""Mini-batches as a device sees them: sampled, looked up in its cache, the rest sent over the link.

A `CachedLoader` is a `Loader` of `train_graph`: every variable of a `Configuration` is switched
here, and every phase is timed and counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cofit.core import numpy_generator, torch_generator
from cofit.graphs.graph import Graph
from cofit.graphs.loaders import Step, training_parts
from cofit.graphs.minibatch.cache import Cache, build_cache
from cofit.graphs.minibatch.configuration import DYNAMIC, Configuration
from cofit.graphs.minibatch.device import Arena, Device
from cofit.graphs.minibatch.sampling import build_sampler
from cofit.graphs.sampling import NeighbourSampler, Numbers, Sample

PRESAMPLED_EPOCHS = 2
"""Epochs sampled before training to count visits, for the "frequency" policy."""


@dataclass
class Phases:
    """What one step took and moved.

    Attributes:
        sample_s: drawing neighbours.
        transfer_s: looking rows up, gathering them and the link.
        replace_s: writing rows to a dynamic cache.
        wait_s: for the batch; less than the first three where they overlap with computing.
        compute_s: forward, backward and update.
        layers: nodes of each layer's input, the first layer's first; the seeds last.
        edges: of all blocks.
        hits: rows found in the cache.
        feature_bytes: that crossed the link.
        index_bytes: of the blocks; the device holds them, their transfer is not emulated.
    """

    sample_s: float
    transfer_s: float
    replace_s: float
    layers: tuple[int, ...]
    edges: int
    hits: int
    feature_bytes: int
    index_bytes: int
    wait_s: float = 0.0
    compute_s: float = 0.0

    @property
    def wall_s(self) -> float:
        """Of the step."""
        return self.wait_s + self.compute_s

    @property
    def rows(self) -> int:
        """Of features that the batch needs."""
        return self.layers[0]


def hit_rate(log: Sequence[Phases]) -> float:
    """Hits over rows of some steps."""
    return sum(step.hits for step in log) / max(sum(step.rows for step in log), 1)


@dataclass(frozen=True)
class _Batch:
    sample: Sample
    x: torch.Tensor
    seeds: torch.Tensor
    held_bytes: int
    phases: Phases


class CachedLoader:
    """The batches of a configuration on a device.

    Batches and uniform draws depend on (seed, epoch, batch) only. With a bias towards a dynamic
    cache, draws also depend on what it holds, and a training that is resumed begins with an
    empty one.

    Args:
        graph: without self-loops, with features, labels and training nodes.
        configuration: how.
        device: where to.
        seed: of the order and the draws.
        record: keep the rows of every batch in `trace`.

    Raises:
        DataError: see `training_parts`, or the graph has self-loops.
        TargetError: the cache alone does not fit.
    """

    def __init__(
        self,
        graph: Graph,
        configuration: Configuration,
        device: Device,
        seed: int = 0,
        record: bool = False,
    ) -> None:
        x, self._y, self._rows = training_parts(graph)
        self.graph, self.configuration, self.device = graph, configuration, device
        self._seed, self._record = seed, record
        host = x.half() if configuration.feature_bits == 16 else x
        self.row_bytes = host.shape[1] * host.element_size()
        """Of one node's features as they travel."""
        self.arena = Arena(device.memory_bytes)
        self.cache = self._filled()
        held, n = self.cache.contents, graph.num_nodes
        # the cache lies behind the host's rows, so that one gather assembles a batch of both
        self._table = host if not self.cache.lines else torch.cat(
            [host, host.new_zeros(self.cache.lines, host.shape[1])]
        )  # fmt: skip
        self.arena.hold(self.cache.lines * self.row_bytes)
        self._place: Numbers = np.arange(n)
        self._place[held] = np.arange(n, n + len(held))
        self._table[n : n + len(held)] = host[torch.from_numpy(held)]
        self.fill_bytes = self.row_bytes * len(held)
        """Sent before training, by a static cache."""
        self._sampler = build_sampler(graph, configuration, lambda: self.cache.flags)
        self.log: list[Phases] = []
        """Of every step that was done."""
        self.trace: list[Numbers] = []
        self.now: Phases | None = None
        """Of the step that computes, or did last."""

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration, the sizes and the seed."""
        words = {k: str(v) for k, v in self.configuration.document().items()}
        sizes = {"nodes": self.graph.num_nodes, "train": len(self._rows), "seed": self._seed}
        return {"loader": "cached", **words, **sizes}

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._rows) // self.configuration.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Step]:
        """The batches of an epoch from `first` on; each is computed between two of them.

        Raises:
            TargetError: the device's memory is exceeded.
        """
        batches = self._batches(epoch, range(first, len(self)))
        try:
            while True:
                begin = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    break
                x, y = batch.x.float(), self._y[batch.seeds]
                self.now = batch.phases
                self.now.wait_s = time.perf_counter() - begin
                try:
                    yield Step(batch.sample.blocks, x, y, None, len(y))
                finally:
                    self.arena.release(batch.held_bytes)
                self.log.append(batch.phases)
        finally:
            batches.close()

    def warm(self, epoch: int, batches: int) -> None:
        """Let a dynamic cache see some batches without computing or waiting for the link."""
        if self.configuration.cache_policy in DYNAMIC:
            for batch in range(batches):
                sample, _ = self._sample(epoch + batch // len(self), batch % len(self))
                before = self.cache.contents
                self.cache.access(sample.nodes.numpy())
                self._store(before)

    def _batches(self, epoch: int, numbers: Iterable[int]) -> Generator[_Batch, None, None]:
        """Prepared one after another, or ahead of their use by another thread."""
        if self.configuration.prefetch == 0:
            for number in numbers:
                yield self._prepare(epoch, number)
            return
        ahead: deque[Future[_Batch]] = deque()
        with ThreadPoolExecutor(1) as pool:
            try:
                for number in numbers:
                    ahead.append(pool.submit(self._prepare, epoch, number))
                    if len(ahead) > self.configuration.prefetch:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:  # the epoch may end early
                for future in ahead:
                    if not future.cancel() and future.exception() is None:
                        self.arena.release(future.result().held_bytes)

    def _prepare(self, epoch: int, batch: int) -> _Batch:
        begin = time.perf_counter()
        sample, seeds = self._sample(epoch, batch)
        nodes = sample.nodes.numpy()
        if self._record:
            self.trace.append(nodes)
        drawn = time.perf_counter()
        before = self.cache.contents
        hits = self.cache.access(nodes)
        places = torch.from_numpy(self._place[nodes])  # before they change
        index_bytes = block_bytes(sample)
        width = 4 * self._table.shape[1]
        copies = self.row_bytes + (width if self.row_bytes < width else 0)  # computed in fp32
        held = index_bytes + len(nodes) * copies
        self.arena.hold(held)
        x = self._table.new_empty(len(nodes), self._table.shape[1])
        torch.index_select(self._table, 0, places, out=x)  # several times faster than without out
        found = int(hits.sum())
        sent = (len(nodes) - found) * self.row_bytes
        self.device.send(sent)
        moved = time.perf_counter()
        self._store(before)
        end = time.perf_counter()
        phases = Phases(
            sample_s=drawn - begin,
            transfer_s=moved - drawn,
            replace_s=end - moved,
            layers=(*(block.num_src for block in sample.blocks), sample.num_seeds),
            edges=sum(block.num_edges for block in sample.blocks),
            hits=found,
            feature_bytes=sent,
            index_bytes=index_bytes,
        )
        return _Batch(sample, x, seeds, held, phases)

    def _sample(self, epoch: int, batch: int) -> tuple[Sample, torch.Tensor]:
        size = self.configuration.batch_size
        shuffle = torch_generator(self._seed, "shuffle", epoch)
        order = self._rows[torch.randperm(len(self._rows), generator=shuffle)]
        seeds = order[batch * size : (batch + 1) * size]
        generator = numpy_generator(self._seed, "neighbours", epoch, batch)
        return self._sampler.sample(seeds, generator), seeds

    def _store(self, before: Numbers) -> None:
        """Copy rows that are new in the cache to the places of those that have left."""
        now, n = self.cache.contents, self.graph.num_nodes
        if now is before:
            return
        came = now[self._place[now] < n]
        left = before[~self.cache.flags[before]]
        free = np.concatenate([self._place[left], np.arange(n + len(before), n + len(now))])
        self._place[left], self._place[came] = left, free
        rows = self._table.index_select(0, torch.from_numpy(came))
        self._table.index_copy_(0, torch.from_numpy(free), rows)

    def _filled(self) -> Cache:
        configuration, n = self.configuration, self.graph.num_nodes
        lines = round(configuration.cache_ratio * n)
        visits = None
        if configuration.cache_policy == "frequency":
            visits = presampled_visits(self.graph, configuration, self._seed)
        return build_cache(configuration.cache_policy, lines, self.graph, visits)


def presampled_visits(
    graph: Graph, configuration: Configuration, seed: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n,) how often each node is in a batch of `PRESAMPLED_EPOCHS` unbiased epochs.

    The batches are others than those of training.
    """
    visits = np.zeros(graph.num_nodes)
    _, _, rows = training_parts(graph)
    sampler = NeighbourSampler(graph, configuration.fanouts)
    for epoch in range(PRESAMPLED_EPOCHS):
        shuffle = torch_generator(seed, "pre-sampling", epoch)
        order = rows[torch.randperm(len(rows), generator=shuffle)]
        for batch, seeds in enumerate(order.split(configuration.batch_size)):
            generator = numpy_generator(seed, "pre-sampling", epoch, batch)
            visits[sampler.sample(seeds, generator).nodes.numpy()] += 1
    return visits


def block_bytes(sample: Sample) -> int:
    """Of the numbers, weights and degrees of a sample's blocks."""
    total = 2 * sample.nodes.nbytes  # numbers and degrees of the nodes
    for block in sample.blocks:
        total += block.indptr.nbytes + block.indices.nbytes
        total += 0 if block.weight is None else block.weight.nbytes
    return total
