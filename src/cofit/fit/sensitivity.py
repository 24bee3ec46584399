"""How much each layer's loss grows when its weights move onto a structure, before training.

The damage of putting weight W of layer l onto a structure is modelled as

    damage(l, s) = slope(l) * error(l, s) / (1 - error(l, s))
    error(l, s)  = E ||(W - W_s) (x - E x)||^2 / E ||W (x - E x)||^2

where x is a window of the layer's input over a sample of validation images, and W_s the kept
weights solved anew for the least error, as `reconstruct` does before training; the bias makes up
for the mean. Layers with groups, and those too large to solve for every option, take the projected
weights and their inputs for uncorrelated: error = sum_c E[x_c^2] ||(W - W_s)_c||^2 over the same of
W, with x_c an input channel.

slope(l) is measured: the divergence of the network's outputs from the dense network's at mild
perturbations of that layer alone, per unit of noise to signal, error / (1 - error). Near zero that
is the error; at high rates it grows without bound, where a measured divergence saturates although
training no longer recovers the layer, so that damage is spread over layers, not heaped on one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from cofit.fit.least_squares import Matrix, solve_kept, windows
from cofit.fit.products import Product, products
from cofit.fit.progress import Progress
from cofit.ir import Graph, Op
from cofit.ir.execute import apply, run_float

MOST_UNKNOWNS = 640
"""Weights per output up to which layers are solved anew for every option."""


MOST_ERROR = 0.999
"""A layer that loses all it says is as bad as this, so that damages stay finite."""


@dataclass(frozen=True)
class Spread:
    """Mean (n,) and covariance (n, n) of the windows of a layer's input."""

    mean: Matrix
    covariance: Matrix

    @staticmethod
    def of(op: Op, shape: tuple[int, ...], x: torch.Tensor) -> Spread:
        """Of the inputs (N, ...) of a plain layer with a weight of this shape."""
        rows, _ = windows(op, shape, x)
        rows = rows.double()
        mean = rows.mean(dim=1, keepdim=True)
        centred = rows - mean
        covariance = (centred @ centred.T) / rows.shape[1]
        return Spread(mean.ravel().numpy(), covariance.numpy())

    def energy(self, weight: torch.Tensor) -> float:
        """E ||W (x - E x)||^2 of a weight (K, ...)."""
        flat = weight.flatten(1).double().numpy()
        return float(((flat @ self.covariance) * flat).sum())


@dataclass(frozen=True)
class Probe:
    """Activations of the dense network on a sample of validation inputs.

    Attributes:
        graph: the dense float graph.
        values: every activation (N, ...) and constant by tensor name.
        moments: per weight name, the mean square of each input channel of its layer.
        spreads: per weight name, for layers that can be solved anew.
    """

    graph: Graph
    values: Mapping[str, torch.Tensor]
    moments: Mapping[str, torch.Tensor]
    spreads: Mapping[str, Spread]

    @staticmethod
    def run(graph: Graph, inputs: torch.Tensor) -> Probe:
        """Run the dense graph on inputs (N, ...) and keep what sensitivities need."""
        with torch.no_grad():
            values = run_float(graph, {graph.inputs[0]: inputs}, keep=True)
        found = products(graph)
        moments = {product.weight: _moments(graph, product, values) for product in found}
        readers = Counter(product.weight for product in found)
        spreads = {
            product.weight: Spread.of(product.op, shape, product.reads(values))
            for product in found
            if product.is_plain
            and readers[product.weight] == 1
            and math.prod((shape := graph.tensors[product.weight].shape)[1:]) <= MOST_UNKNOWNS
        }
        return Probe(graph, values, moments, spreads)

    def recovered(self, weight: str, pruned: torch.Tensor) -> torch.Tensor:
        """A pruned weight with what it keeps solved anew, where the layer can be."""
        if weight not in self.spreads:
            return pruned
        dense, start = (
            w.reshape(w.shape[0], -1).astype(np.float64)
            for w in (np.asarray(self.graph.tensors[weight].data), pruned.numpy())
        )
        covariance = self.spreads[weight].covariance
        solution = solve_kept(start, start != 0, covariance, dense @ covariance)
        return torch.from_numpy(solution.astype(np.float32)).reshape(pruned.shape)

    def error(self, weight: str, changed: torch.Tensor) -> float:
        """Relative output error of a layer whose weight becomes `changed` (see the module)."""
        dense = torch.from_numpy(self.graph.tensors[weight].data)
        if weight in self.spreads:
            spread = self.spreads[weight]
            return spread.energy(dense - changed) / max(spread.energy(dense), 1e-30)
        moments = self.moments[weight].reshape(dense.shape[0], -1, *[1] * (dense.dim() - 2))
        total = float((moments * dense.square()).sum())
        return float((moments * (dense - changed).square()).sum()) / max(total, 1e-30)

    def noise(self, weight: str, changed: torch.Tensor) -> float:
        """Noise to signal of a layer whose weight becomes `changed`: error / (1 - error)."""
        error = min(self.error(weight, changed), MOST_ERROR)
        return error / (1 - error)

    def divergence(self, product: Product, changed: torch.Tensor) -> float:
        """Mean divergence of the outputs when one product's weight becomes `changed`.

        Where its `spreads` are known, its bias makes up for the mean of what it loses.
        """
        weight = product.weight
        replaced = {weight: changed}
        if weight in self.spreads:
            dense, bias = (
                torch.from_numpy(self.graph.tensors[n].data) for n in (weight, product.bias)
            )
            lost = (dense - changed).flatten(1).double().numpy() @ self.spreads[weight].mean
            replaced[product.bias] = bias + torch.from_numpy(lost.astype(np.float32))
        with torch.no_grad():
            for later in self.graph.ops:
                if any(name in replaced for name in later.inputs):
                    args = [replaced.get(name, self.values[name]) for name in later.inputs]
                    replaced[later.output] = apply(later, args)
            name = self.graph.outputs[0]
            return output_divergence(self.values[name], replaced.get(name, self.values[name]))


def output_divergence(dense: torch.Tensor, other: torch.Tensor) -> float:
    """KL(dense || other), mean over samples, of class scores (N, classes).

    Outputs that already are probabilities are taken as such.
    """
    p, q = _log_probabilities(dense), _log_probabilities(other)
    return max(0.0, float((p.exp() * (p - q)).sum(dim=1).mean()))


def slopes(
    probe: Probe,
    anchors: Mapping[str, Iterable[torch.Tensor]],
    progress: Progress,
) -> dict[str, float]:
    """Measured divergence per unit of noise to signal, by weight name.

    Args:
        probe: activations of the dense network.
        anchors: per weight name, mildly perturbed versions of it; the steepest slope counts.
        progress: told the stage, layers done and layers in all.
    """
    found: dict[str, float] = {}
    layers = [product for product in products(probe.graph) if product.weight in anchors]
    for index, product in enumerate(layers):
        name = product.weight
        progress("sensitivity", index, len(layers))
        steepest = 0.0
        for changed in anchors[name]:
            noise = probe.noise(name, changed)
            if noise > 0:
                steepest = max(steepest, probe.divergence(product, changed) / noise)
        found[name] = steepest
    progress("sensitivity", len(layers), len(layers))
    return found


def _moments(graph: Graph, product: Product, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean square of each input channel, laid out (K, C per group) to match the weight."""
    x = product.reads(values)
    weight = graph.tensors[product.weight]
    channels_last = product.op.kind != "conv2d"
    axes = tuple(range(x.dim() - 1)) if channels_last else (0, 2, 3)
    mean = x.square().mean(dim=axes)
    groups = 1 if channels_last else mean.numel() // weight.shape[1]
    per_filter = weight.shape[0] // groups
    return mean.reshape(groups, 1, -1).expand(-1, per_filter, -1).reshape(weight.shape[0], -1)


def _log_probabilities(scores: torch.Tensor) -> torch.Tensor:
    sums = scores.sum(dim=1)
    if bool((scores >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        return scores.clamp_min(1e-9).log()
    return torch.log_softmax(scores, dim=1)
