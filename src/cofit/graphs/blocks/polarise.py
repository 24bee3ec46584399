"""Which edges a trained network can do without, with those far from the diagonal going first.

With the network frozen, edges get values a, one per undirected edge, and

    min  task(a) + phi / M * sum |i - j| a_ij   s.t. at most (1 - share) of the edges are not zero

is solved by ADMM (`cofit.regimes`). M counts edges in both directions. The task is that of training
nodes only. Degrees stay those of the whole graph while values change, and are counted anew after.

Source: H. You et al., "GCoD", HPCA 2022, arXiv 2112.11594. Its public code takes the gradient of
the distance once, before the values change; here it is that of the present values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError, DataError
from cofit.graphs.aggregate import aggregate
from cofit.graphs.blocks.patches import keep_edges
from cofit.graphs.features import linear, sparse_rows
from cofit.graphs.graph import Graph
from cofit.graphs.layers import GCN
from cofit.graphs.loaders import training_parts
from cofit.graphs.models import GNN
from cofit.regimes import (
    ADMM,
    Batches,
    Checkpoint,
    Context,
    Handle,
    Recipe,
    Regime,
    RegimeStack,
    Slot,
    fit,
)
from cofit.structures import Unstructured
from cofit.structures.counting import observed_rate


class EdgeValued(nn.Module):
    """A frozen GCN as a function of the values of a graph's undirected edges.

    Called with node numbers (m,), it gives their outputs (m, classes). Self-loops have value one.

    Args:
        model: layers of `GCN`, without norms.
        graph: symmetric, without self-loops and parallel edges, with features.

    Raises:
        ConfigError: the model has other layers.
        DataError: the graph is not as above.
    """

    def __init__(self, model: GNN, graph: Graph) -> None:
        super().__init__()
        if len(model.norms) or not all(isinstance(layer, GCN) for layer in model.layers):
            raise ConfigError("edges have values in layers of GCN without norms only")
        if not graph.is_symmetric or graph.has_self_loops or graph.x is None:
            raise DataError("edge values need an undirected graph with features, no self-loops")
        source, target = graph.edge_index
        n = graph.num_nodes
        pairs, number = torch.unique(
            torch.minimum(source, target) * n + torch.maximum(source, target), return_inverse=True
        )
        if 2 * len(pairs) != graph.num_edges:
            raise DataError("parallel edges cannot have values; use graph.symmetrised()")
        self.number = number
        self.distance = (pairs // n - pairs % n).abs()
        self._edges = graph.adjacency.normalised
        # (v, u) finds its value through the edge of the graph; loops point one past the last
        key = self._edges.destinations * n + self._edges.indices
        _, order = torch.sort(torch.cat([target * n + source, torch.arange(n) * (n + 1)]))
        numbers = torch.cat([number, torch.full((n,), len(pairs))])[order]
        self._value_of = numbers[torch.argsort(torch.argsort(key))]
        self._layers = [
            (layer.weight.detach(), None if layer.bias is None else layer.bias.detach())
            for layer in model.layers
            if isinstance(layer, GCN)
        ]
        features = sparse_rows(graph.x)
        with torch.no_grad():
            self._first = linear(graph.x if features is None else features, self._layers[0][0])
        scale = self._edges.values(self._first.dtype)
        assert scale is not None
        self._scale = scale
        self.values = nn.Parameter(torch.ones(len(pairs), 1, dtype=self._first.dtype))

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        """Outputs of some nodes."""
        one = self.values.new_ones(1)
        weight = torch.cat([self.values[:, 0], one])[self._value_of] * self._scale
        h = self._first
        for index, (matrix, bias) in enumerate(self._layers):
            h = h if index == 0 else F.linear(F.relu(h), matrix)
            h = aggregate(self._edges, h, weight=weight)
            h = h if bias is None else h + bias
        return h[nodes]


class Distance(Regime):
    """Edges cost their distance from the diagonal; their values do not fall below zero.

    Args:
        distance: (N,) |i - j| of each undirected edge.
        phi: factor.
        parameter: name of the values (N, 1).
    """

    def __init__(self, distance: torch.Tensor, phi: float, parameter: str = "values") -> None:
        self._distance, self._phi, self._name = distance, phi, parameter
        self._values: nn.Parameter | None = None

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Find the values."""
        self._values = model.get_parameter(self._name)
        return Handle()

    def slots(self) -> frozenset[Slot]:
        """None: ADMM has the values, and this only adds to the loss."""
        return frozenset()

    def loss(self, context: Context) -> Mapping[str, torch.Tensor]:
        """The term "polarisation"; both directions of an edge count in the mean."""
        assert self._values is not None
        far = self._distance.to(self._values.dtype)
        return {"polarisation": self._phi * (far * self._values[:, 0]).sum() / len(far)}

    def after_step(self) -> None:
        """Back to values that are not negative."""
        assert self._values is not None
        with torch.no_grad():
            self._values.clamp_(min=0)


@dataclass(frozen=True)
class Sparsifying:
    """How edges are chosen.

    Args:
        share: of undirected edges that goes; rounded down.
        phi: weight of the distance.
        rho: first penalty of ADMM.
        growth: of the penalty from stage to stage. The published one stays at 1e-3, at which
            values of one end nowhere near the structure; a residual below a fifth of the first
            needs a penalty that grows.
        stages: of ADMM.
        steps: per stage, with one round of ADMM at its end.
        learning_rate: of gradient descent, falling as a cosine.
    """

    share: float = 0.1
    phi: float = 10.0
    rho: float = 1e-3
    growth: float = 80.0
    stages: int = 4
    steps: int = 25
    learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.phi < 0:
            raise ConfigError(f"share {self.share}, phi {self.phi}; give a share between 0 and 1 "
                              "and phi not below 0")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sparsified:
    """The graph that is left, and how ADMM went.

    Attributes:
        graph: in the order that was given; features, classes and masks stay.
        removed: undirected edges.
        gaps: ||A - Z|| / ||A|| after each round.
    """

    graph: Graph
    removed: int
    gaps: tuple[float, ...]


def sparsify_edges(
    model: GNN, graph: Graph, settings: Sparsifying, checkpoint: Checkpoint | None = None
) -> Sparsified:
    """Remove a share of the edges; `model` stays as it is.

    Raises:
        ConfigError: the model has layers other than GCN, or no edge would go.
        DataError: the graph is not symmetric, has self-loops or parallel edges, or lacks features,
            classes or training nodes.
    """
    valued = EdgeValued(model, graph)
    edges = len(valued.values)
    removed = int(settings.share * edges)
    if not 0 < removed < edges:
        raise ConfigError(
            f"{settings.share} of {edges} edges removes {removed}; leave some of each"
        )
    _, y, rows = training_parts(graph)
    structure = Unstructured(observed_rate(edges, edges - removed))
    admm = ADMM(
        {"values": (structure,)}, rho=settings.rho, growth=settings.growth,
        stages=settings.stages, stage_epochs=settings.steps, round_steps=settings.steps,
    )  # fmt: skip
    recipe = Recipe(
        settings.stages * settings.steps, settings.learning_rate, momentum=0.0, weight_decay=0.0
    )
    batches = Batches(rows, y[rows], size=len(rows), channels_last=False)
    regime = RegimeStack([Distance(valued.distance, settings.phi), admm])
    fit(valued, batches, recipe, regime, checkpoint=checkpoint)
    kept = valued.values.detach()[:, 0] != 0
    short = edges - removed - int(kept.sum())
    if short > 0:  # values that reached zero by themselves tie with those that are removed
        zeros = torch.nonzero(~kept).squeeze(1)
        near = zeros[valued.distance[zeros].argsort(stable=True)[:short]]
        kept[near] = True
    gaps = tuple(row.gap for row in admm.history)
    return Sparsified(keep_edges(graph, kept[valued.number]), removed, gaps)
