"""DGCNN for point clouds, as published and with its edge convolutions rewritten exactly.

Source: Y. Wang et al., "Dynamic Graph CNN for Learning on Point Clouds", TOG 2019, the classifier.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cofit.graphs.nearest import nearest
from cofit.graphs.points.execution import begin
from cofit.graphs.points.messages import messages
from cofit.graphs.points.network import SLOPE, Combine

EDGE_WIDTHS = (64, 64, 128, 256)
EMBEDDING = 1024


class EdgeBlock(nn.Module):
    """max over neighbours j of LeakyReLU(norm(W [x_i ; x_j - x_i])).

    Rewritten, W is applied to points instead of edges: (W1 - W2) x_i + W2 x_j. In evaluation the
    maximum goes before the normalisation too: where its scale is negative, the minimum takes its
    place. The result is the same but for rounding.

    Args:
        d_in: width of a point.
        d_out: width of the result.
        rewritten: see above.
    """

    def __init__(self, d_in: int, d_out: int, rewritten: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * d_in, d_out, bias=False)
        self.norm = nn.BatchNorm1d(d_out)
        self.rewritten = rewritten

    def forward(self, x: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        """(points, d_in) and (points, k) to (points, d_out)."""
        if not self.rewritten:
            edges = self.linear(messages(x, neighbours, ("target", "relative")))
            return self._normalised(edges).amax(1)
        of_target, of_relative = self.linear.weight.tensor_split(2, 1)
        own = F.linear(x, of_target - of_relative)
        others = messages(F.linear(x, of_relative), neighbours, ("source",))
        if self.training:  # the statistics are those of the edges
            return self._normalised(others + own[:, None]).amax(1)
        largest = others.amax(1)
        if (self.norm.weight < 0).any():
            largest = torch.where(self.norm.weight < 0, others.amin(1), largest)
        return self._normalised(largest + own)

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.norm(x.reshape(-1, x.shape[-1]))
        return F.leaky_relu(rows, SLOPE).view(x.shape)


class DGCNN(nn.Module):
    """Four edge convolutions, each on the neighbours in its own input, and a classifier.

    Args:
        classes: outputs.
        k: neighbours per point, itself included.
        inputs: width of a point.
        rewritten: see `EdgeBlock`.
    """

    def __init__(
        self, classes: int, k: int = 20, inputs: int = 3, *, rewritten: bool = False
    ) -> None:
        super().__init__()
        self.k = k
        self.edges = nn.ModuleList(
            EdgeBlock(d_in, d_out, rewritten)
            for d_in, d_out in zip((inputs, *EDGE_WIDTHS), EDGE_WIDTHS, strict=False)
        )
        self.embedding = Combine(sum(EDGE_WIDTHS), EMBEDDING)
        self.hidden = Combine(2 * EMBEDDING, 512)
        self.narrow = nn.Linear(512, 256)
        self.norm = nn.BatchNorm1d(256)
        self.scores = nn.Linear(256, classes)

    def rewrite(self, rewritten: bool) -> DGCNN:
        """Choose the form of the edge convolutions; weights stay."""
        for block in self.edges:
            assert isinstance(block, EdgeBlock)
            block.rewritten = rewritten
        return self

    def forward(self, clouds: torch.Tensor) -> torch.Tensor:
        """(clouds, n, inputs) to (clouds, classes).

        Raises:
            DataError: see `execution.begin`.
        """
        number, n, _ = clouds.shape
        x = begin(clouds, self.k).x
        first = torch.arange(0, number * n, n)[:, None, None]
        found = []
        for block in self.edges:
            within = nearest(x.detach().view(number, n, -1), self.k, loops=True)
            x = block(x, (within + first).view(number * n, self.k))
            found.append(x)
        embedded = self.embedding(torch.cat(found, 1)).view(number, n, EMBEDDING)
        x = self.hidden(torch.cat([embedded.amax(1), embedded.mean(1)], 1))
        x = F.leaky_relu(self.norm(self.narrow(F.dropout(x, training=self.training))), SLOPE)
        scores: torch.Tensor = self.scores(F.dropout(x, training=self.training))
        return scores
