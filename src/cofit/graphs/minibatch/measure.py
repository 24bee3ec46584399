"""A few mini-batches of a configuration, run and measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from typing import Any

from cofit.core import derive_seed
from cofit.graphs.graph import Graph
from cofit.graphs.loaders import Step
from cofit.graphs.minibatch.configuration import Configuration
from cofit.graphs.minibatch.device import Device
from cofit.graphs.minibatch.loader import CachedLoader, hit_rate
from cofit.graphs.minibatch.metered import Metered
from cofit.graphs.models import GNN, build_gnn
from cofit.graphs.training import GraphRecipe, train_graph

WARM_EPOCH, WARM_BATCHES = 1000, 12
"""What a dynamic cache sees before it is measured."""


@dataclass(frozen=True)
class Measurement:
    """Per step, in the mean, but for the named ones.

    Attributes:
        steps: per epoch.
        step_s: median wall time.
        sample_s, transfer_s, replace_s, compute_s: see `Phases`.
        rows, edges: of a batch.
        hit_rate: of the warm cache.
        feature_bytes: over the link.
        row_bytes: of one node's features.
        peak_bytes: of the arena.
    """

    steps: int
    step_s: float
    sample_s: float
    transfer_s: float
    replace_s: float
    compute_s: float
    rows: float
    edges: float
    hit_rate: float
    feature_bytes: float
    row_bytes: int
    peak_bytes: int

    @property
    def epoch_s(self) -> float:
        """Of all steps."""
        return self.steps * self.step_s

    def document(self) -> dict[str, Any]:
        """JSON values by field."""
        return asdict(self)


def measure(
    graph: Graph, configuration: Configuration, device: Device, batches: int = 4, seed: int = 0
) -> Measurement:
    """Train for some batches of epochs that no training of another seed sees.

    Args:
        graph: without self-loops, with features, labels and training nodes.
        configuration: how.
        device: where.
        batches: measured, after one that is not; more than one epoch where it has fewer.
        seed: of batches and weights; choose another than that of the training to come.

    Raises:
        TargetError: the device's memory is exceeded.
    """
    loader = CachedLoader(graph, configuration, device, derive_seed(seed, "measure"))
    loader.warm(WARM_EPOCH, WARM_BATCHES)
    model = network(graph, configuration, seed)
    train_graph(model, _Few(loader, batches + 1), GraphRecipe(1), regime=Metered(loader))
    log = loader.log[1:]

    def mean(name: str) -> float:
        return statistics.fmean(getattr(phases, name) for phases in log)

    return Measurement(
        steps=len(loader),
        step_s=statistics.median(phases.wall_s for phases in log),
        sample_s=mean("sample_s"),
        transfer_s=mean("transfer_s"),
        replace_s=mean("replace_s"),
        compute_s=mean("compute_s"),
        rows=mean("rows"),
        edges=mean("edges"),
        hit_rate=hit_rate(log),
        feature_bytes=mean("feature_bytes"),
        row_bytes=loader.row_bytes,
        peak_bytes=loader.arena.peak_bytes,
    )


class _Few:
    """So many batches as one epoch, from as many epochs as that needs."""

    def __init__(self, loader: CachedLoader, batches: int) -> None:
        self._loader, self._batches = loader, batches
        self.settings = {**loader.settings, "batches": batches}

    def __len__(self) -> int:
        return self._batches

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Step]:
        every = chain.from_iterable(self._loader.epoch(number) for number in count())
        return islice(every, self._batches)


def network(graph: Graph, configuration: Configuration, seed: int) -> GNN:
    """The network of a configuration for a graph's features and classes."""
    assert graph.x is not None
    hidden = (configuration.hidden,) * (configuration.layers - 1)
    widths = (graph.x.shape[1], *hidden, graph.num_classes)
    return build_gnn(configuration.model, widths, seed=seed)
