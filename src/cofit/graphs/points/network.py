"""A point network from its sequence of operations; runs whole, or operation by operation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError, DataError
from cofit.graphs.points.execution import State, begin, execute, needs
from cofit.graphs.points.genotype import Gene, canonical, widths

SLOPE = 0.2
"""Of LeakyReLU, in all point networks."""
HEAD = (512, 256)
"""Hidden widths of the classifier."""


class Combine(nn.Module):
    """Linear, batch normalisation, LeakyReLU: (rows, d_in) to (rows, d_out)."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_in, d_out, bias=False)
        self.norm = nn.BatchNorm1d(d_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One row per row."""
        return F.leaky_relu(self.norm(self.linear(x)), SLOPE)


class Classifier(nn.Sequential):
    """The fixed head: d to 512, 256 and the classes."""

    def __init__(self, d: int, classes: int, dropout: float = 0.5) -> None:
        super().__init__(
            Combine(d, HEAD[0]),
            nn.Dropout(dropout),
            Combine(HEAD[0], HEAD[1]),
            nn.Dropout(dropout),
            nn.Linear(HEAD[1], classes),
        )


class PointNetwork(nn.Module):
    """The network of a sequence of operations, in canonical form.

    Args:
        genes: the sequence; `self.genes` is its canonical form.
        classes: outputs.
        k: neighbours per point, itself included.
        inputs: width of a point.

    Raises:
        ConfigError: `k`, `classes` or `inputs` below 1.
    """

    def __init__(self, genes: Sequence[Gene], classes: int, k: int = 20, inputs: int = 3) -> None:
        super().__init__()
        if min(classes, k, inputs) < 1:
            raise ConfigError(f"classes {classes}, k {k}, inputs {inputs}; give at least 1 each")
        self.genes, self.k = canonical(genes, inputs), k
        self.widths = widths(self.genes, inputs)
        self.layers = nn.ModuleList(
            Combine(d, int(gene.attribute)) if gene.op == "combine" else nn.Identity()
            for gene, d in zip(self.genes, self.widths, strict=False)
        )
        self.classifier = Classifier(self.widths[-1], classes)
        self.needs = tuple(needs(self.genes[i:]) for i in range(len(self.genes) + 1))
        """What the state before each operation holds; the last is that before the classifier."""

    def begin(self, clouds: torch.Tensor) -> State:
        """The state before the first operation, from (clouds, n, inputs).

        Raises:
            DataError: points of another width, or see `execution.begin`.
        """
        if clouds.shape[-1] != self.widths[0]:
            raise DataError(
                f"points of width {clouds.shape[-1]}; this network takes {self.widths[0]}"
            )
        return begin(clouds, self.k).only(self.needs[0])

    def step(self, position: int, state: State) -> State:
        """The state after one operation, without what no later one needs."""
        after = execute(self.genes[position], state, self.k, self.layers[position])
        return after.only(self.needs[position + 1])

    def finish(self, state: State) -> torch.Tensor:
        """(clouds, classes) scores of the state after the last operation."""
        scores: torch.Tensor = self.classifier(state.x)
        return scores

    def forward(self, clouds: torch.Tensor) -> torch.Tensor:
        """(clouds, n, inputs) to (clouds, classes)."""
        state = self.begin(clouds)
        for position in range(len(self.genes)):
            state = self.step(position, state)
        return self.finish(state)
