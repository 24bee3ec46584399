"""Partition-parallel training by two dense matrices in one process, without any communication.

A = A_in + A_x, edges within parts and across them. Per destination part i, exact: (A_in + A_x) H;
sampled: A_in H + A_x diag(m_i / p) H; stale: A_in H + A_x H~, where H~ is a leaf holding the
previous step's H, and the previous leaf's gradient G~ enters as the loss term <H, G~>. Networks of
GIN and batch norms are torch's own, on all nodes at once.
"""

import copy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from cofit.graphs import GIN, GNN, Graph
from cofit.graphs.halo import PartitionedGraph, Policy


def propagation(graph: Graph, kind: str) -> torch.Tensor:
    """(n, n) float64: D^-1/2 (A + I) D^-1/2, the mean or the sum over neighbours; by loops."""
    n = graph.num_nodes
    matrix = torch.zeros(n, n, dtype=torch.float64)
    for v in range(n):
        for u in graph.indices[graph.indptr[v] : graph.indptr[v + 1]].tolist():
            matrix[v, u] += 1
    if kind == "gin":
        return matrix
    if kind == "sage":
        return matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    matrix += torch.eye(n, dtype=torch.float64)
    scale = matrix.sum(1).rsqrt()
    return scale[:, None] * matrix * scale


@dataclass
class Oracle:
    """Ten or so steps of Adam on copies of a model's weights; dropout must be off."""

    graph: Graph
    part: torch.Tensor
    model: nn.Module
    kind: str
    policy: Policy
    learning_rate: float
    first: int = 1
    losses: list[float] = field(default_factory=list)
    before: dict[int, torch.Tensor] = field(default_factory=dict)
    leaves: dict[int, torch.Tensor] = field(default_factory=dict)
    slopes: dict[int, torch.Tensor] = field(default_factory=dict)
    averages: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.graph.x is not None
        self.dtype = self.graph.x.dtype
        matrix = propagation(self.graph, self.kind).to(self.dtype)
        same = self.part[:, None] == self.part
        self.inside, self.across = matrix * same, matrix * ~same
        self.model = copy.deepcopy(self.model)
        self.weights = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.Adam(self.weights.values(), self.learning_rate)
        self.shares = PartitionedGraph.build(self.graph, self.part).shares

    def mask(self, step: int) -> torch.Tensor:
        """(n, n): factor of source u for destination v, of what was drawn at `step`."""
        factors = torch.ones(self.graph.num_nodes, self.graph.num_nodes, dtype=self.dtype)
        for share in self.shares:
            for owner, nodes in enumerate(share.halo):
                drawn = self.policy.rows(step, owner, share.rank, len(nodes))
                if owner == share.rank or drawn is None:
                    continue
                row = torch.zeros(len(nodes), dtype=self.dtype)
                row[drawn] = self.policy.factor(len(nodes), len(drawn))
                block = factors[share.inner]
                block[:, nodes] = row
                factors[share.inner] = block
        return factors

    def smooth(self, name: str, new: torch.Tensor, gamma: float | None) -> torch.Tensor:
        if gamma is None:
            return new
        old = self.averages.get(name, torch.zeros_like(new))
        self.averages[name] = gamma * old + (1 - gamma) * new
        return self.averages[name]

    def spread(self, layer: int, h: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Aggregated rows and the term of stale gradients."""
        nothing = h.new_zeros(())
        if layer < self.first:
            return (self.inside + self.across) @ h, nothing
        across = self.across * self.mask(step - self.policy.delay)
        if not self.policy.delay:
            return self.inside @ h + across @ h, nothing
        received = self.before.get(layer)
        if received is None:
            leaf = torch.zeros_like(h)
        else:
            leaf = self.smooth(f"f{layer}", received, self.policy.gamma_feat).clone()
        leaf.requires_grad_()
        self.leaves[layer], self.before[layer] = leaf, h.detach()
        term = nothing
        if layer in self.slopes and h.requires_grad:
            slope = self.smooth(f"g{layer}", self.slopes[layer], self.policy.gamma_grad)
            term = (h * slope).sum()
        return self.inside @ h + across @ leaf, term

    def step(self, number: int) -> None:
        assert self.graph.x is not None and self.graph.y is not None
        w, h = self.weights, self.graph.x
        extra = h.new_zeros(())
        assert isinstance(self.model, GNN)
        layers = len(self.model.layers)
        for layer in range(layers):
            spread, term = self.spread(layer, h, number)
            extra = extra + term
            if self.kind == "gcn":
                h = spread @ w[f"layers.{layer}.weight"].T + w[f"layers.{layer}.bias"]
            elif self.kind == "gin":
                module = self.model.layers[layer]
                assert isinstance(module, GIN)
                h = module.network(spread + (1 + module.eps) * h)
            else:
                name = f"layers.{layer}.neighbours"
                h = (
                    spread @ w[f"{name}.weight"].T
                    + w[f"{name}.bias"]
                    + h @ w[f"layers.{layer}.own.weight"].T
                )
            if layer < layers - 1:
                h = torch.relu(self.model.norms[layer](h) if self.model.norms else h)
        mask = self.graph.train_mask
        task = F.cross_entropy(h[mask], self.graph.y[mask])
        self.optimiser.zero_grad()
        (task + extra).backward()
        self.slopes = {
            layer: leaf.grad for layer, leaf in self.leaves.items() if leaf.grad is not None
        }
        self.optimiser.step()
        self.losses.append(float(task.detach()))
