"""How good a graph network is on each part of the nodes, always on the whole graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from cofit.core import DataError
from cofit.graphs.graph import MASKS, Graph

Metric = Callable[[torch.Tensor, torch.Tensor], float]
"""Of outputs (m, classes) and targets; larger is better."""


@dataclass(frozen=True)
class Scores:
    """A metric on the three parts; choices are made by `validation`, never by `test`."""

    train: float
    validation: float
    test: float


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Share of the nodes whose largest output is at their class; of labels at the right sign."""
    right = (outputs > 0) == (targets > 0.5) if targets.dim() == 2 else outputs.argmax(1) == targets
    return float(right.double().mean())


def roc_auc(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Area under the ROC curve of class 1 against class 0; ties count half.

    It is the probability that a node of class 1 has the larger margin (output 1 less output 0).

    Raises:
        DataError: the targets are not of two classes, both present.
    """
    positive = targets == 1
    if outputs.shape[1] != 2 or not positive.any() or positive.all():
        raise DataError("the area under the ROC curve needs nodes of two classes; use accuracy")
    margin = outputs[:, 1] - outputs[:, 0]
    _, place, counts = torch.unique(margin, return_inverse=True, return_counts=True)
    above = counts.cumsum(0).double()
    rank = (above - (counts - 1) / 2)[place]  # mean rank among equal margins, from 1
    p, n = int(positive.sum()), int((~positive).sum())
    return float((rank[positive].sum() - p * (p + 1) / 2) / (p * n))


def evaluate(model: nn.Module, graph: Graph, metric: Metric = accuracy) -> Scores:
    """The metric on each part, in eval mode and without sampling; the mode is restored.

    Raises:
        DataError: the graph lacks features, labels or a mask.
    """
    missing = [name for name in ("x", "y", *MASKS) if getattr(graph, name) is None]
    if missing:
        raise DataError(f"the graph has no {', '.join(missing)}; evaluation needs them")
    was_training = model.training
    model.eval()
    with torch.no_grad():
        outputs = model(graph.adjacency, graph.x)
    model.train(was_training)
    assert graph.y is not None
    return Scores(
        *(metric(outputs[mask], graph.y[mask]) for mask in (getattr(graph, m) for m in MASKS))
    )
