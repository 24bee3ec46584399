"""Batch normalisation for networks whose own was folded away, for the time of a training.

Fitting works on graphs, in which normalisation is folded into weights. Training far from the given
weights is easier with it, so this regime puts a batch normalisation behind each convolution that
starts as the identity (mean and variance of the sample batch, undone by its affine part) and folds
it back in `finalize`. Supports of weights survive, because folding scales whole output channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cofit.core import ModelError
from cofit.ir import Graph, Op, Tensor
from cofit.ir import attributes as at
from cofit.ir.module import GraphModule
from cofit.regimes.contract import Handle, Regime

LINEAR_PART = "{}:linear"
"""Name of a convolution's output before the activation that was fused into it."""

EPSILON = 1e-5


def unfuse(graph: Graph) -> Graph:
    """The same network with each convolution's fused activation as an op of its own.

    The activation keeps the name; the convolution's own output is called `LINEAR_PART`.
    """
    ops: list[Op] = []
    tensors = dict(graph.tensors)
    for op in graph.ops:
        if isinstance(op.attributes, at.Conv2d) and op.attributes.fused != "none":
            inner = LINEAR_PART.format(op.output)
            tensors[inner] = Tensor(inner, graph.tensors[op.output].shape)
            ops.append(Op(inner, replace(op.attributes, fused="none"), op.inputs))
            ops.append(Op(op.output, at.Activation(op.attributes.fused), (inner,)))
        else:
            ops.append(op)
    return Graph.build(graph.name, graph.inputs, graph.outputs, tuple(ops), tensors)


class Renormalise(Regime):
    """Normalises every convolution of a `GraphModule` of an unfused graph while it trains.

    Args:
        graph: the unfused graph that the module executes.
    """

    def __init__(self, graph: Graph) -> None:
        self._convolutions = [op for op in graph.ops if op.kind == "conv2d"]
        fused = [
            op.output
            for op in self._convolutions
            if isinstance(op.attributes, at.Conv2d) and op.attributes.fused != "none"
        ]
        if fused:
            raise ModelError(f"convolution {fused[0]!r} has a fused activation; unfuse the graph")
        self._norms = {
            op.output: nn.BatchNorm2d(graph.tensors[op.output].shape[1], eps=EPSILON)
            for op in self._convolutions
        }
        self._model: GraphModule | None = None

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Measure the sample batch and put an identity normalisation behind each convolution.

        Raises:
            ModelError: the model is not a `GraphModule`, or a convolution gives NaN or infinity,
                naming it.
        """
        if not isinstance(model, GraphModule):
            raise ModelError(f"Renormalise trains a GraphModule, not a {type(model).__name__}")
        self._model = model
        for name, norm in self._norms.items():
            model.edges[name] = _Measure(norm)
        with torch.no_grad():
            model(sample)
        for name, norm in self._norms.items():
            if not bool(torch.isfinite(norm.weight).all()):
                raise ModelError(
                    f"convolution {name!r} gives NaN or infinite values on the sample; look at its "
                    "weights and its input"
                )
            model.edges[name] = norm

        def undo() -> None:
            for name in self._norms:
                model.edges.pop(name, None)

        return Handle(undo)

    def param_groups(self) -> list[dict[str, Any]]:
        """Scale and shift of the normalisations, without weight decay."""
        parameters = [p for norm in self._norms.values() for p in norm.parameters()]
        return [{"params": parameters, "weight_decay": 0.0}]

    def before_step(self, step: int, total: int) -> None:
        """Batch statistics while training."""
        for norm in self._norms.values():
            norm.train()

    def finalize(self, model: nn.Module) -> nn.Module:
        """Fold the normalisations into the convolutions, in float64, and take them away."""
        if self._model is None:
            raise ModelError("Renormalise is not attached to a model")
        with torch.no_grad():
            for op in self._convolutions:
                self._fold(self._model, op)
        return model

    def state_dict(self) -> dict[str, Any]:
        """Parameters and running statistics by convolution."""
        return {
            name: {key: value.clone() for key, value in norm.state_dict().items()}
            for name, norm in self._norms.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for name, norm in self._norms.items():
            norm.load_state_dict(state[name])

    def _fold(self, model: GraphModule, op: Op) -> None:
        norm = self._norms[op.output].eval()
        weight, bias = (model.get_parameter(name) for name in op.inputs[1:])
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
        weight.copy_(weight.double() * scale.reshape(-1, 1, 1, 1))
        bias.copy_((bias.double() - mean) * scale + norm.bias)
        model.edges.pop(op.output, None)


class _Measure:
    """Sets a normalisation to the identity on the activation that passes."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        self._norm = norm

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        norm = self._norm
        assert norm.running_mean is not None and norm.running_var is not None
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)
        return x
