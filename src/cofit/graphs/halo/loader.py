"""What one rank trains on and is scored by: its share of the nodes, counted with all others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from cofit.core import CommunicationError
from cofit.graphs.graph import MASKS, Graph
from cofit.graphs.halo.exchange import HaloExchange
from cofit.graphs.loaders import Step, training_parts
from cofit.graphs.scores import Metric, Scores, accuracy


class PartLoader:
    """One step per epoch, on one rank's share.

    Args:
        graph: the whole.
        part: (n,) rank of each node.
        exchange: of this rank.
        layers: of the model.
        first: layer from which on rows are exchanged: 0, or 1 to fetch the halo's features now.
        metric: of `evaluate`.

    Raises:
        CommunicationError: the ranks have features of different widths, or one is gone.
        DataError: the graph has no features, labels or training nodes.
    """

    def __init__(
        self,
        graph: Graph,
        part: torch.Tensor,
        exchange: HaloExchange,
        layers: int,
        first: int,
        metric: Metric = accuracy,
    ) -> None:
        x, y, rows = training_parts(graph)
        share = exchange.part
        self._exchange, self._layers, self._first = exchange, layers, first
        self._metric = metric
        self._part_digest = hashlib.sha256(part.numpy().tobytes()).hexdigest()[:16]
        mine = share.inner
        assert graph.train_mask is not None
        self._rows = torch.nonzero(graph.train_mask[mine]).squeeze(1)
        self._y = y[mine[self._rows]]
        self._divisor = len(rows)
        self._x = x[mine]
        self._verify()
        if first:
            self._x = exchange.exact(self._x, "setup")

    def _verify(self) -> None:
        transport, width = self._exchange.transport, self._x.shape[1]
        widths = torch.zeros(transport.size, dtype=torch.int64)
        widths[transport.rank] = width
        transport.all_reduce(widths)
        for peer, found in enumerate(widths.tolist()):
            if found != width:
                raise CommunicationError(
                    f"rank {transport.rank} has {width} features and rank {peer} has {found}; give "
                    "all ranks one graph"
                )

    @property
    def settings(self) -> dict[str, Any]:
        """The partition, the exchange, and this rank."""
        return {
            "loader": "part",
            "partition": self._part_digest,
            "rank": self._exchange.part.rank,
            "exchange": repr(self._exchange.policy),
            "first": self._first,
            "train": self._divisor,
        }

    def __len__(self) -> int:
        """One."""
        return 1

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Step]:
        """The one step, unless it has been done."""
        if first == 0:
            self._exchange.begin(epoch)
            whole = [self._exchange.part.adjacency] * self._first
            drawn = [self._exchange.adjacency] * (self._layers - self._first)
            yield Step((*whole, *drawn), self._x, self._y, self._rows, self._divisor)

    def evaluate(self, graph: Graph, model: nn.Module) -> Scores:
        """The metric over all ranks with the exact halo, in eval mode; the mode is restored.

        Raises:
            DataError: the metric does not suit the targets.
        """
        assert graph.y is not None
        was_training = model.training
        model.eval()
        with torch.no_grad():
            outputs = model([self._exchange.part.adjacency] * self._layers, self._x)
        model.train(was_training)
        masks = [getattr(graph, name) for name in MASKS]
        if self._metric is accuracy:
            return self._accuracy(outputs, graph.y, masks)
        whole = outputs.new_zeros(graph.num_nodes, outputs.shape[1])
        whole[self._exchange.part.inner] = outputs
        self._exchange.traffic.add("evaluation", [outputs])
        self._exchange.transport.all_reduce(whole)
        return Scores(*(self._metric(whole[mask], graph.y[mask]) for mask in masks))

    def _accuracy(
        self, outputs: torch.Tensor, targets: torch.Tensor, masks: list[torch.Tensor]
    ) -> Scores:
        """Counts of each rank are enough."""
        mine = self._exchange.part.inner
        y = targets[mine]
        right = (outputs > 0) == (y > 0.5) if y.dim() == 2 else (outputs.argmax(1) == y)[:, None]
        counts = torch.tensor(
            [[int(right[mask[mine]].sum()), int(mask.sum()) * right.shape[1]] for mask in masks]
        )
        counts[:, 1] *= int(self._exchange.part.rank == 0)
        self._exchange.transport.all_reduce(counts)
        return Scores(*(int(hits) / max(int(nodes), 1) for hits, nodes in counts))
