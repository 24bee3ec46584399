"""What a training step sees: the whole graph, or sampled blocks around some nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from cofit.core import ConfigError, DataError, numpy_generator, torch_generator
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.graph import Graph
from cofit.graphs.sampling import NeighbourSampler


@dataclass(frozen=True, eq=False)
class Step:
    """The input of one step and what should come out.

    Attributes:
        adjacency: of all layers, or one block per layer.
        x: features of the sources.
        y: targets.
        rows: rows of the output that `y` is for, ascending; None where it is for all of them.
        divisor: of the summed loss: usually the targets, in distributed training those of all
            ranks together.
    """

    adjacency: Adjacency | tuple[Adjacency, ...]
    x: torch.Tensor
    y: torch.Tensor
    rows: torch.Tensor | None
    divisor: int


class Loader(Protocol):
    """Gives the steps of each epoch, the same ones whenever it is asked."""

    @property
    def settings(self) -> dict[str, Any]:
        """JSON scalars that fix the steps; compared when a training is resumed."""
        ...

    def __len__(self) -> int:
        """Steps in an epoch."""
        ...

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Step]:
        """The steps of an epoch from step `first` on."""
        ...


class FullGraph:
    """One step per epoch, on the whole graph.

    Raises:
        DataError: the graph has no features, labels or training nodes.
    """

    def __init__(self, graph: Graph) -> None:
        x, y, rows = training_parts(graph)
        self._step = Step(graph.adjacency, x, y[rows], rows, len(rows))

    @property
    def settings(self) -> dict[str, Any]:
        """Its kind and sizes."""
        return {"loader": "full", "nodes": len(self._step.x), "train": self._step.divisor}

    def __len__(self) -> int:
        """One."""
        return 1

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Step]:
        """The one step, unless it has been done."""
        yield from (self._step,)[first:]


class Sampled:
    """Blocks around the training nodes, shuffled each epoch; the last batch may be smaller.

    The batches and their neighbours depend on (seed, epoch, batch) only.

    Args:
        graph: without self-loops.
        fanouts: neighbours per node and layer, the first layer's first; None takes all.
        batch_size: training nodes per step.
        seed: of the order and of the draws.

    Raises:
        DataError: the graph has no features, labels or training nodes, or it has self-loops.
        ConfigError: a fan-out or the batch size is not positive.
    """

    def __init__(
        self, graph: Graph, fanouts: Sequence[int | None], batch_size: int, seed: int = 0
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch size {batch_size}; it must be positive")
        self._x, self._y, self._rows = training_parts(graph)
        self._sampler = NeighbourSampler(graph, fanouts)
        self._size, self._seed = batch_size, seed

    @property
    def settings(self) -> dict[str, Any]:
        """Its kind, sizes and seed."""
        return {
            "loader": "sampled",
            "nodes": len(self._x),
            "train": len(self._rows),
            "fanouts": list(self._sampler.fanouts),
            "batch": self._size,
            "seed": self._seed,
        }

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._rows) // self._size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Step]:
        """The batches of an epoch from batch `first` on."""
        shuffle = torch_generator(self._seed, "shuffle", epoch)
        order = self._rows[torch.randperm(len(self._rows), generator=shuffle)]
        for batch in range(first, len(self)):
            seeds = order[batch * self._size : (batch + 1) * self._size]
            generator = numpy_generator(self._seed, "neighbours", epoch, batch)
            sample = self._sampler.sample(seeds, generator)
            x = self._x.index_select(0, sample.nodes)
            yield Step(sample.blocks, x, self._y[seeds], None, len(seeds))


def training_parts(graph: Graph) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, labels, and the numbers of the training nodes.

    Raises:
        DataError: saying which of them is missing.
    """
    if graph.x is None or graph.y is None or graph.train_mask is None:
        missing = [name for name in ("x", "y", "train_mask") if getattr(graph, name) is None]
        raise DataError(f"the graph has no {' and no '.join(missing)}; training needs them")
    rows = torch.nonzero(graph.train_mask).squeeze(1)
    if not len(rows):
        raise DataError("no node is in train_mask; give at least one")
    return graph.x, graph.y, rows
