"""Stacks of graph layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError, UnknownNameError, derive_seed
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.features import Features, SparseRows, dropout, sparse_rows
from cofit.graphs.layers import GAT, GCN, GIN, SAGE


class GNN(nn.Module):
    """Layers with dropout before each, and norm and ReLU after each but the last.

    Args:
        layers: called as `layer(adjacency, x)`.
        dropout: probability, of the input of each layer.
        norms: one per layer but the last; none if empty.
    """

    def __init__(
        self, layers: Iterable[nn.Module], *, dropout: float = 0.0, norms: Iterable[nn.Module] = ()
    ) -> None:
        super().__init__()
        self.layers, self.norms = nn.ModuleList(layers), nn.ModuleList(norms)
        self.dropout = dropout
        self._known: tuple[torch.Tensor, int, SparseRows | None] | None = None
        if len(self.norms) not in (0, len(self.layers) - 1):
            raise ConfigError(
                f"{len(self.norms)} norms for {len(self.layers)} layers; give one per layer but "
                "the last, or none"
            )

    def forward(self, adjacency: Adjacency | Sequence[Adjacency], x: torch.Tensor) -> torch.Tensor:
        """Features (num_src, d) to outputs (num_dst, classes).

        Args:
            adjacency: one for all layers, or one per layer (blocks of a sample).
            x: features of the sources of the first.

        Raises:
            ConfigError: as many blocks as layers were not given.
        """
        features: Features = x
        if isinstance(adjacency, Adjacency):
            features = self._features(adjacency, x)
            adjacency = [adjacency] * len(self.layers)
        if len(adjacency) != len(self.layers):
            raise ConfigError(
                f"{len(adjacency)} blocks for {len(self.layers)} layers; sample with one fan-out "
                "per layer"
            )
        for index, (layer, edges) in enumerate(zip(self.layers, adjacency, strict=True)):
            x = layer(edges, dropout(features, self.dropout, self.training))
            if index < len(self.layers) - 1:
                x = F.relu(self.norms[index](x) if self.norms else x)
            features = x
        return x

    def _features(self, adjacency: Adjacency, x: torch.Tensor) -> Features:
        """The features of a whole graph, without their zeros where that is faster."""
        takes_sparse = getattr(self.layers[0], "takes_sparse", False)
        constant = not (x.requires_grad or x.is_inference())
        if not (takes_sparse and constant and adjacency.num_src == adjacency.num_dst):
            return x
        known = self._known
        if known is None or known[0] is not x or known[1] != x._version:
            known = self._known = (x, x._version, sparse_rows(x))  # a training's x is always one
        return x if known[2] is None else known[2]


def _gat(d_in: int, d_out: int, heads: int, last: bool) -> nn.Module:
    if last:
        return GAT(d_in, d_out, heads, concat=False)
    if d_out % heads:
        raise ConfigError(f"width {d_out} in {heads} heads; give a multiple of the heads")
    return GAT(d_in, d_out // heads, heads)


def _gin(d_in: int, d_out: int) -> nn.Module:
    return GIN(nn.Sequential(nn.Linear(d_in, d_out), nn.ReLU(), nn.Linear(d_out, d_out)))


_KINDS: dict[str, Callable[[int, int, int, bool], nn.Module]] = {
    "gcn": lambda d_in, d_out, heads, last: GCN(d_in, d_out),
    "sage": lambda d_in, d_out, heads, last: SAGE(d_in, d_out),
    "gin": lambda d_in, d_out, heads, last: _gin(d_in, d_out),
    "gat": _gat,
}

_NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "layer": nn.LayerNorm,
    "batch": nn.BatchNorm1d,
}


def build_gnn(
    kind: str,
    widths: Sequence[int],
    *,
    seed: int,
    dropout: float = 0.0,
    norm: str = "none",
    heads: int = 1,
) -> GNN:
    """A GNN with weights drawn from `seed`; the global generator is left as it was.

    Args:
        kind: "gcn", "sage", "gat" or "gin".
        widths: of the features, of each hidden layer, and the classes: [1433, 16, 7] is two layers.
        seed: of the weights.
        dropout: see `GNN`.
        norm: "layer" (LayerNorm) or "batch" (BatchNorm1d) after each layer but the last; "none".
        heads: of "gat": side by side in hidden layers (whose width they share), averaged in the
            last.

    Raises:
        UnknownNameError: another kind or norm.
        ConfigError: fewer than two widths, or not a multiple of the heads.
    """
    if kind not in _KINDS:
        raise UnknownNameError("kind of layer", kind, _KINDS)
    if norm not in _NORMS:
        raise UnknownNameError("norm", norm, _NORMS)
    if len(widths) < 2:
        raise ConfigError(f"widths {list(widths)}; give those of the features and of the classes")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "gnn", kind))
        final = len(widths) - 2
        layers = [
            _KINDS[kind](d_in, d_out, heads, index == final)
            for index, (d_in, d_out) in enumerate(pairwise(widths))
        ]
        make = _NORMS[norm]
        norms = [] if make is None else [make(width) for width in widths[1:-1]]
    return GNN(layers, dropout=dropout, norms=norms)
