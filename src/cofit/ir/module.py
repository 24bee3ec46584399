"""A float graph as a trainable torch module, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from cofit.core import ModelError
from cofit.ir.execute import apply
from cofit.ir.types import Graph

_TRAINED = frozenset({"conv2d", "linear", "layernorm", "embedding", "gru", "lstm"})

Edge = Callable[[torch.Tensor], torch.Tensor]


class GraphModule(nn.Module):
    """Executes a float graph; its state dict is keyed by the graph's tensor names.

    Weights and biases are parameters, other constants are buffers. A dot in a tensor name makes a
    nested module, so `get_parameter("layer1.0.conv1.weight")`, parametrisations and regimes find a
    tensor of the graph under its own name.

    Args:
        graph: a float graph; it is not changed by training.

    Attributes:
        edges: functions applied to activations, by tensor name, as soon as the tensor exists (the
            inputs included). Empty unless a regime put one there; not part of the state dict.

    Raises:
        ModelError: the graph is an integer graph, or its names cannot be nested.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        if graph.is_integer:
            raise ModelError(
                f"graph {graph.name!r} computes in integers; train the float graph it came from"
            )
        self.edges: dict[str, Edge] = {}
        self._graph = graph
        self._owners: dict[str, tuple[nn.Module, str]] = {}
        trained = {name for op in graph.ops if op.kind in _TRAINED for name in op.inputs[1:]}
        for name, tensor in graph.tensors.items():
            if tensor.data is not None:
                self._register(name, torch.tensor(np.asarray(tensor.data)), name in trained)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run a batch.

        Args:
            inputs: one tensor (N, ...) per graph input, in order.

        Returns:
            The output (N, ...), or a tuple if the graph has several.
        """
        graph, edges = self._graph, self.edges
        values = dict(zip(graph.inputs, inputs, strict=True))
        for name in edges.keys() & values.keys():
            values[name] = edges[name](values[name])
        for op in graph.ops:
            args = [values[n] if n in values else self.parameter(n) for n in op.inputs]
            y = apply(op, args)
            values[op.output] = edges[op.output](y) if op.output in edges else y
        outputs = tuple(values[name] for name in graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def parameter(self, name: str) -> torch.Tensor:
        """The constant of a tensor name as the forward pass sees it (parametrised, if it is)."""
        owner, attribute = self._owners[name]
        value: torch.Tensor = getattr(owner, attribute)
        return value

    def to_graph(self) -> Graph:
        """The graph with the present values; quantisations and structures are kept."""
        changed = {
            name: replace(
                self._graph.tensors[name],
                data=np.ascontiguousarray(self.parameter(name).detach().cpu().numpy()).copy(),
            )
            for name in self._owners
        }
        return self._graph.with_tensors(changed)

    def _register(self, name: str, value: torch.Tensor, trained: bool) -> None:
        owner: nn.Module = self
        *path, attribute = name.split(".")
        try:
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            if trained:
                owner.register_parameter(attribute, nn.Parameter(value))
            else:
                owner.register_buffer(attribute, value)
        except KeyError as error:
            raise ModelError(
                f"tensor name {name!r} collides with another name of graph {self._graph.name!r}; "
                "rename the module it comes from"
            ) from error
        self._owners[name] = (owner, attribute)
