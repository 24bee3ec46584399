"""How much each layer's loss grows when its weights move onto a structure, before training.

The damage of putting weight W of layer l onto a structure is modelled as

    damage(l, s) = slope(l) * error(l, s)
    error(l, s)  = sum_c E[x_c^2] ||(W - P_s(W))_c||^2 / sum_c E[x_c^2] ||W_c||^2

where x_c is input channel c of the layer over a sample of validation images (the layer's relative
output error if its inputs were uncorrelated), and slope(l) is measured: the divergence of the
network's outputs from the dense network's at mild perturbations of that layer alone, per unit of
error. The linear extension is on purpose pessimistic at high rates, where a measured divergence
saturates although training no longer recovers the layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from cofit.fit.progress import Progress
from cofit.ir import Graph, Op
from cofit.ir.execute import apply, run_float


@dataclass(frozen=True)
class Probe:
    """Activations of the dense network on a sample of validation inputs.

    Attributes:
        graph: the dense float graph.
        values: every activation (N, ...) and constant by tensor name.
        moments: per weight name, the mean square of each input channel of its layer.
    """

    graph: Graph
    values: Mapping[str, torch.Tensor]
    moments: Mapping[str, torch.Tensor]

    @staticmethod
    def run(graph: Graph, inputs: torch.Tensor) -> Probe:
        """Run the dense graph on inputs (N, ...) and keep what sensitivities need."""
        with torch.no_grad():
            values = run_float(graph, {graph.inputs[0]: inputs}, keep=True)
        moments = {weight.name: _moments(graph, op, values) for op, weight in graph.weighted()}
        return Probe(graph, values, moments)

    def error(self, weight: str, changed: torch.Tensor) -> float:
        """Relative output error of a layer whose weight becomes `changed` (see the module)."""
        dense = torch.from_numpy(self.graph.tensors[weight].data)
        moments = self.moments[weight].reshape(dense.shape[0], -1, *[1] * (dense.dim() - 2))
        total = float((moments * dense.square()).sum())
        return float((moments * (dense - changed).square()).sum()) / max(total, 1e-30)

    def divergence(self, op: Op, changed: torch.Tensor) -> float:
        """Mean divergence of the outputs when one layer's weight becomes `changed`."""
        weight = op.inputs[1]
        replaced = {weight: changed}
        with torch.no_grad():
            for later in self.graph.ops:
                if later.output == op.output or any(name in replaced for name in later.inputs):
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
    """Measured divergence per unit of error, by weight name.

    Args:
        probe: activations of the dense network.
        anchors: per weight name, mildly perturbed versions of it; the steepest slope counts.
        progress: told the stage, layers done and layers in all.
    """
    found: dict[str, float] = {}
    layers = [(op, weight.name) for op, weight in probe.graph.weighted() if weight.name in anchors]
    for index, (op, name) in enumerate(layers):
        progress("sensitivity", index, len(layers))
        steepest = 0.0
        for changed in anchors[name]:
            error = probe.error(name, changed)
            if error > 0:
                steepest = max(steepest, probe.divergence(op, changed) / error)
        found[name] = steepest
    progress("sensitivity", len(layers), len(layers))
    return found


def _moments(graph: Graph, op: Op, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean square of each input channel, laid out (K, C per group) to match the weight."""
    x = values[op.inputs[0]]
    weight = graph.tensors[op.inputs[1]]
    channels_last = op.kind == "linear"
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
