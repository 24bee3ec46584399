"""A few mini-batches of a configuration, run and measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
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
    """Per step, in the mean over an epoch, whose last batch may be smaller, but for the named ones.

    Attributes:
        steps: per epoch.
        step_s: wall time; this and all times: of medians.
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
        batches: measured, after one that is not: the last ones of an epoch, whose end may be a
            smaller batch, or more than one epoch where it has fewer.
        seed: of batches and weights; choose another than that of the training to come.

    Raises:
        TargetError: the device's memory is exceeded.
    """
    loader = CachedLoader(graph, configuration, device, derive_seed(seed, "measure"))
    loader.warm(WARM_EPOCH, WARM_BATCHES)
    model = network(graph, configuration, seed)
    few = _Few(loader, batches + 1)
    train_graph(model, few, GraphRecipe(1), regime=Metered(loader))
    assert loader.now is not None  # the last step, which the loader never hears the end of
    steps, log = len(loader), [*loader.log, loader.now][1:]
    size = max(few.sizes)
    full, rest = ([p for p, s in zip(log, few.sizes[1:], strict=True) if (s == size) is whole]
                  for whole in (True, False))  # fmt: skip

    def over_epoch(of: Callable[[Iterable[float]], float], name: str) -> float:
        most = of(getattr(phases, name) for phases in full)
        if not rest:
            return most
        return most + (of(getattr(phases, name) for phases in rest) - most) / steps

    mean = partial(over_epoch, statistics.fmean)
    typical = partial(over_epoch, statistics.median)
    return Measurement(
        steps=steps,
        step_s=typical("wall_s"),
        sample_s=typical("sample_s"),
        transfer_s=typical("transfer_s"),
        replace_s=typical("replace_s"),
        compute_s=typical("compute_s"),
        rows=mean("rows"),
        edges=mean("edges"),
        hit_rate=hit_rate(log),
        feature_bytes=mean("feature_bytes"),
        row_bytes=loader.row_bytes,
        peak_bytes=loader.arena.peak_bytes,
    )


class _Few:
    """So many batches as one epoch: the last ones of one, or from as many epochs as that needs.

    Attributes:
        sizes: targets of each batch that was asked for since the epoch began.
    """

    def __init__(self, loader: CachedLoader, batches: int) -> None:
        self._loader, self._batches = loader, batches
        self.settings = {**loader.settings, "batches": batches}
        self.sizes: list[int] = []

    def __len__(self) -> int:
        return self._batches

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Step]:
        self.sizes = []
        begin = max(len(self._loader) - self._batches, 0)
        every = chain.from_iterable(
            self._loader.epoch(number, 0 if number else begin) for number in count()
        )
        for step in islice(every, self._batches):
            self.sizes.append(len(step.y))
            yield step


def network(graph: Graph, configuration: Configuration, seed: int) -> GNN:
    """The network of a configuration for a graph's features and classes."""
    assert graph.x is not None
    hidden = (configuration.hidden,) * (configuration.layers - 1)
    widths = (graph.x.shape[1], *hidden, graph.num_classes)
    return build_gnn(configuration.model, widths, seed=seed)
