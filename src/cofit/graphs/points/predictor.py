"""Latency or memory of a design from its graph of operations, learned from measurements.

Source: A. Zhou et al., GCoDE, DAC 2024, arXiv 2404.05605: a graph of 18 nodes, three GIN layers,
mean over neighbours, sum over nodes, MAPE as loss. Narrower here; attributes are features too, as
in HGNAS (DAC 2023), and the network gives a logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau
from torch import nn

from cofit.core import ConfigError
from cofit.graphs.points.genotype import ATTRIBUTES, MESSAGES, POOLS, REDUCERS, Gene, Genes, widths

NODE_KINDS = (*ATTRIBUTES, "global", "input", "output")
_NAMES = (*MESSAGES, *REDUCERS, "random", *(f"pool {pool}" for pool in POOLS))
FEATURES = len(NODE_KINDS) + len(_NAMES) + 3
"""Kind and attribute one-hot; logarithms of both widths; the operation's own measured time."""
_CLASSIFIER = 3


def encode(
    genes: Genes, op_times_s: Sequence[float], length: int, n: int, k: int, inputs: int = 3
) -> torch.Tensor:
    """Features of the nodes: the whole, the input, `length` positions, the classifier, the output.

    Args:
        genes: a canonical design; positions it does not need are identities.
        op_times_s: time of each of its operations and of the classifier, from a table.
        length: positions.
        n: points.
        k: neighbours.
        inputs: width of a point.

    Returns:
        (length + 6, FEATURES) float32.

    Raises:
        ConfigError: a design longer than `length`, or another number of times.
    """
    if len(genes) > length or len(op_times_s) != len(genes) + 1:
        raise ConfigError(
            f"{len(genes)} operations with {len(op_times_s)} times; give at most {length}, a time "
            "each and the classifier's"
        )
    x = torch.zeros(length + 3 + _CLASSIFIER, FEATURES)
    sizes = widths(genes, inputs)
    padded = [*genes, *[Gene("connect", "identity")] * (length - len(genes))]
    for row, gene in enumerate(padded):
        used = row < len(genes)
        d_in, d_out = (sizes[row], sizes[row + 1]) if used else (sizes[-1], sizes[-1])
        time_s = op_times_s[row] if used else 0.0
        x[2 + row] = _node(gene.op, _attributes(gene), d_in, d_out, time_s)
    x[0] = _node("global", (), n, k, 0.0)
    x[1] = _node("input", (), inputs, inputs, 0.0)
    for row in range(2 + length, 2 + length + _CLASSIFIER):
        x[row] = _node("combine", (), sizes[-1], sizes[-1], op_times_s[-1] / _CLASSIFIER)
    x[-1] = _node("output", (), sizes[-1], sizes[-1], sum(op_times_s))
    return x


def _attributes(gene: Gene) -> tuple[str, ...]:
    if gene.op == "aggregate":
        return tuple(gene.attribute.split("/"))
    if gene.op == "pool":
        return (f"pool {gene.attribute}",)
    return ("random",) if gene.attribute == "random" else ()


def _node(kind: str, names: tuple[str, ...], a: int, b: int, time_s: float) -> torch.Tensor:
    row = torch.zeros(FEATURES)
    row[NODE_KINDS.index(kind)] = 1
    for name in names:
        row[len(NODE_KINDS) + _NAMES.index(name)] = 1
    row[-3:] = torch.tensor([math.log2(a) / 8, math.log2(b) / 8, time_s])
    return row


class DesignPredictor(nn.Module):
    """Three GIN layers on the graph of a design; call it with (designs, nodes, FEATURES).

    Nodes form a chain with self-loops, and each is linked to the whole, both ways. Outputs are
    positive, in units of the scale that `standardise` finds.

    Args:
        width: of the hidden layers.
        dropout: before the output.
    """

    shift: torch.Tensor
    scale: torch.Tensor
    unit: torch.Tensor

    def __init__(self, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        sizes = (FEATURES, width, width, width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(a, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, b),
                nn.BatchNorm1d(b), nn.ReLU(),
            )
            for a, b in pairwise(sizes)
        )  # fmt: skip
        self.output = nn.Sequential(
            nn.Linear(width, width), nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(width, 1)
        )
        for name, start in (("shift", 0.0), ("scale", 1.0), ("unit", 1.0)):
            self.register_buffer(name, torch.tensor(start))

    def standardise(self, x: torch.Tensor, values: torch.Tensor) -> None:
        """Take units from the training designs: of the operations' times, and of the values."""
        times = x[..., -1]
        self.shift.copy_(times.mean())
        self.scale.copy_(times.std().clamp_min(1e-12))
        self.unit.copy_(values.log().mean().exp())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(designs,) values in units of `unit`."""
        times = (x[..., -1:] - self.shift) / self.scale
        h = torch.cat([x[..., :-1], times], -1)
        for layer in self.layers:
            h = layer((h + _links(h.shape[1]) @ h).flatten(0, 1)).view(*h.shape[:2], -1)
        found: torch.Tensor = self.output(h.mean(1))[:, 0]
        return found.clamp(-10, 10).exp()

    @torch.no_grad()
    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """(designs,) values in the unit of what was measured, in evaluation."""
        self.eval()
        found: torch.Tensor = self(x) * self.unit
        return found


@lru_cache(maxsize=4)
def _links(nodes: int) -> torch.Tensor:
    """Rows that average over a node, the one before it, and the whole; the whole over all."""
    found = torch.eye(nodes) + torch.diag(torch.ones(nodes - 1), -1)
    found[0, :] = found[:, 0] = 1
    return found / found.sum(1, keepdim=True)


def mape(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Mean of |predicted - true| / true; the loss of training."""
    return ((predicted - true).abs() / true).mean()


@dataclass(frozen=True)
class PredictorReport:
    """How predictions compare with measurements.

    Attributes:
        mape: mean absolute relative error.
        within: share of designs with an error of at most 10 %.
        tau: Kendall's rank correlation.
        pairs: share of pairs in the right order, ties apart.
    """

    mape: float
    within: float
    tau: float
    pairs: float


def report(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> PredictorReport:
    """Of predictions for designs that were not trained on, (designs,) each."""
    errors = np.abs(predicted - true) / true
    tau = float(kendalltau(predicted, true).statistic)
    one, other = np.triu_indices(len(true), 1)
    order = np.sign(predicted[one] - predicted[other]) * np.sign(true[one] - true[other])
    decided = order != 0
    right = float((order[decided] > 0).mean()) if decided.any() else 0.0
    return PredictorReport(float(errors.mean()), float((errors <= 0.1).mean()), tau, right)


def linear_fit(
    train: NDArray[np.float64], true: NDArray[np.float64], held: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The baselines: a line through one predictor (MACs, or the sum of a table), for `held`.

    Weighted by 1 / true, so that it minimises squared relative errors; never below a tenth of the
    least latency seen.
    """
    rows = np.stack([train, np.ones_like(train)], 1) / true[:, None]
    found, *_ = np.linalg.lstsq(rows, np.ones_like(true), rcond=None)
    line: NDArray[np.float64] = found[0] * held + found[1]
    return line.clip(true.min() / 10)
