"""One network that holds the weights of all designs, trained one random design at a time.

Source: Z. Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling",
ECCV 2020, as HGNAS uses it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError
from cofit.graphs.points.execution import begin, execute, needs
from cofit.graphs.points.genotype import Genes
from cofit.graphs.points.network import SLOPE, Classifier, Combine, PointNetwork


class Supernet(nn.Module):
    """Weights shared per position, allocated at the largest widths and sliced.

    A batch is normalised by its own statistics, since those of different designs differ. In
    training, each batch goes through the design that `draw` gives for its number.

    Args:
        length: most operations of a canonical design, pooling included.
        d_in: largest width before a combine or the classifier.
        d_out: largest width of a combine.
        classes: outputs.
        k: neighbours per point, itself included.
        draw: canonical design of each training step.
        inputs: width of a point.
    """

    steps: torch.Tensor

    def __init__(
        self,
        length: int,
        d_in: int,
        d_out: int,
        classes: int,
        k: int,
        draw: Callable[[int], Genes],
        inputs: int = 3,
    ) -> None:
        super().__init__()
        self.classes, self.k, self.draw, self.inputs = classes, k, draw, inputs
        self.positions = nn.ModuleList(Combine(d_in, d_out) for _ in range(length))
        self.classifier = Classifier(d_in, classes, dropout=0.0)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, clouds: torch.Tensor) -> torch.Tensor:
        """A training step of the next design: (clouds, n, inputs) to (clouds, classes)."""
        genes = self.draw(int(self.steps))
        self.steps += self.training
        return self.path(genes, clouds)

    def path(self, genes: Genes, clouds: torch.Tensor) -> torch.Tensor:
        """Scores of one canonical design, normalised by the batch.

        Raises:
            ConfigError: it has too many operations.
        """
        if len(genes) > len(self.positions):
            raise ConfigError(f"{len(genes)} operations; this supernet has {len(self.positions)}")
        state = begin(clouds, self.k)
        for position, gene in enumerate(genes):

            def combine(x: torch.Tensor, d: int = position) -> torch.Tensor:
                return _sliced(self._at(d), x, int(genes[d].attribute))

            state = execute(gene, state, self.k, combine).only(needs(genes[position + 1 :]))
        first, *others = [m for m in self.classifier if not isinstance(m, nn.Dropout)]
        assert isinstance(first, Combine)
        x = _sliced(first, state.x, len(first.norm.weight))
        for layer in others:
            x = (
                _sliced(layer, x, len(layer.norm.weight))
                if isinstance(layer, Combine)
                else layer(x)
            )
        return x

    @torch.no_grad()
    def extract(self, genes: Genes) -> PointNetwork:
        """A network of its own with copies of the design's weights; its statistics are unset."""
        network = PointNetwork(genes, self.classes, self.k, self.inputs)
        pairs = [
            (layer, self._at(position))
            for position, layer in enumerate(network.layers)
            if isinstance(layer, Combine)
        ]
        ours = [m for m in network.classifier if isinstance(m, Combine)]
        theirs = [m for m in self.classifier if isinstance(m, Combine)]
        pairs += list(zip(ours, theirs, strict=True))
        for layer, shared in pairs:
            d_out, d_in = layer.linear.weight.shape
            layer.linear.weight.copy_(shared.linear.weight[:d_out, :d_in])
            layer.norm.weight.copy_(shared.norm.weight[:d_out])
            layer.norm.bias.copy_(shared.norm.bias[:d_out])
        network.classifier[-1].load_state_dict(self.classifier[-1].state_dict())
        return network

    def _at(self, position: int) -> Combine:
        found = self.positions[position]
        assert isinstance(found, Combine)
        return found


def _sliced(layer: Combine, x: torch.Tensor, d_out: int) -> torch.Tensor:
    weight = layer.linear.weight[:d_out, : x.shape[1]].contiguous()
    rows, norm = F.linear(x, weight), layer.norm
    if len(rows) > 1:  # a single row has no statistics
        scale, shift = norm.weight[:d_out], norm.bias[:d_out]
        rows = F.batch_norm(rows, None, None, scale, shift, training=True, eps=norm.eps)
    return F.leaky_relu(rows, SLOPE)


@torch.no_grad()
def calibrate(network: nn.Module, clouds: torch.Tensor) -> nn.Module:
    """Set the statistics of all normalisations to those of a batch; the network is left in eval."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
    kept = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = 1.0
    network(clouds)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    return network.eval()
