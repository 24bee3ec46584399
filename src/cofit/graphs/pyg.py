"""The bridge to PyTorch Geometric: its data in and out, its modules as ours."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cofit.core import DataError, MissingDependencyError
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.graph import MASKS, Graph


def from_pyg(data: Any) -> Graph:
    """A graph of a `torch_geometric.data.Data`; what a `Graph` has no place for is left out.

    Integer features become float32; a column of labels (n, 1) of integers becomes (n,).

    Raises:
        DataError: it has no `edge_index` (call `ToUndirected` and the like first), several splits,
            or does not fit (see `Graph`).
    """
    edges = getattr(data, "edge_index", None)
    if edges is None:
        raise DataError(
            f"{type(data).__name__} has no edge_index; give a homogeneous Data with one"
        )
    x, y = data.x, data.y
    if x is not None and not x.is_floating_point():
        x = x.float()
    if y is not None and not y.is_floating_point() and y.dim() == 2 and y.shape[1] == 1:
        y = y.squeeze(1)
    train, val, test = (getattr(data, name, None) for name in MASKS)
    for name, mask in zip(MASKS, (train, val, test), strict=True):
        if mask is not None and mask.dim() == 2:
            raise DataError(
                f"{name} holds {mask.shape[1]} splits; choose one: data.{name} = data.{name}[:, 0]"
            )
    graph = Graph.from_edges(edges, data.num_nodes, x=x, y=y, edge_attr=data.edge_attr)
    return replace(graph, train_mask=train, val_mask=val, test_mask=test)


def to_pyg(graph: Graph) -> Any:
    """A `torch_geometric.data.Data` with the same tensors.

    Raises:
        MissingDependencyError: PyG is not installed.
    """
    try:
        from torch_geometric.data import Data
    except ImportError as error:
        raise MissingDependencyError("torch_geometric", "graphs", "to_pyg") from error
    names = ("x", "y", "edge_attr", *MASKS)
    present = {name: value for name in names if (value := getattr(graph, name)) is not None}
    return Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes, **present)


class PygModule(nn.Module):
    """A PyG module, called as `module(x, edge_index)`, in the place of one of ours.

    Of a sample it gets the union of the edges of all blocks, each once, and gives the rows of the
    seeds: what PyG's own loader feeds. Weights of edges are not passed on.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._last: tuple[Adjacency | Sequence[Adjacency], torch.Tensor] | None = None

    def forward(self, adjacency: Adjacency | Sequence[Adjacency], x: torch.Tensor) -> torch.Tensor:
        """Features of the sources to outputs of the destinations."""
        if self._last is None or self._last[0] is not adjacency:
            self._last = adjacency, _edge_index(adjacency)  # a whole graph is always the same one
        seeds = adjacency if isinstance(adjacency, Adjacency) else adjacency[-1]
        outputs: torch.Tensor = self.module(x, self._last[1])
        return outputs[: seeds.num_dst]


def adapted(model: nn.Module) -> nn.Module:
    """The model, wrapped if it is called in PyG's way: with an `edge_index`."""
    called = inspect.signature(model.forward).parameters
    return PygModule(model) if "edge_index" in called else model


def _edge_index(adjacency: Adjacency | Sequence[Adjacency]) -> torch.Tensor:
    if isinstance(adjacency, Adjacency):
        return torch.stack([adjacency.indices, adjacency.destinations])
    # sources of every block are numbered alike, so edges of all blocks are those of one graph
    sources = torch.cat([block.indices for block in adjacency])
    targets = torch.cat([block.destinations for block in adjacency])
    nodes = adjacency[0].num_src
    unique = torch.unique(targets * nodes + sources)
    return torch.stack([unique % nodes, unique // nodes])
