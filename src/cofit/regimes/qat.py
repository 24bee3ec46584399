"""Quantisation-aware training: the forward pass computes on the integer graph's own grids.

Activations lie on the fixed affine grids that calibration chose; weights lie on symmetric grids per
output channel whose scale follows the largest magnitude, as it will when they are quantised for
good. Gradients pass straight through inside the range and are zero outside (Jacob et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cofit.core import ConfigError, ModelError
from cofit.ir import DType, Graph, Quantisation, Tensor
from cofit.ir.module import GraphModule
from cofit.regimes.attachment import parametrise
from cofit.regimes.contract import Handle, Regime, Role, Slot

KEEP_GRID = ("reshape", "slice", "pad", "maxpool2d")
"""Kinds whose outputs are on their input's grid already."""


class QAT(Regime):
    """Trains a `GraphModule` through the rounding of an integer graph made from it.

    Zeros of weights stay zero (the grids are symmetric), so it composes after structures and masks.
    `finalize` gives the float module back; quantise it with the same activation quantisations.

    Args:
        integer: the quantised graph; its tensor names are those of the module's graph.
    """

    def __init__(self, integer: Graph) -> None:
        if not integer.is_integer:
            raise ConfigError(
                f"QAT got the float graph {integer.name!r}; give it the quantised graph"
            )
        self._integer = integer
        self._weights = {weight.name: weight for _, weight in integer.weighted()}
        self._handle = Handle()

    def slots(self) -> frozenset[Slot]:
        """A quantise slot for each weight and activation."""
        names = [*self._weights, *self._activations()]
        return frozenset(Slot(name, Role.QUANTISE) for name in names)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Parametrise the weights and put a rounding on each activation.

        Raises:
            ModelError: the model is not a `GraphModule`, or of another graph.
        """
        if not isinstance(model, GraphModule):
            raise ModelError(f"QAT trains a GraphModule, not a {type(model).__name__}; trace it")
        undo: list[Callable[[], None]] = []
        for name, tensor in self._weights.items():
            undo.append(parametrise(model, name, FakeQuantiseWeight(_grid(tensor).bits)))
        for name, tensor in self._activations().items():
            undo.append(_put_edge(model, name, _FakeQuantise(tensor)))
        self._handle = Handle(*undo)
        return self._handle

    def finalize(self, model: nn.Module) -> nn.Module:
        """The float module: its latent weights round to the trained grid points."""
        self._handle.remove()
        return model

    def _activations(self) -> dict[str, Tensor]:
        integer = self._integer
        names = [*integer.inputs, *(op.output for op in integer.ops if op.kind not in KEEP_GRID)]
        return {name: integer.tensors[name] for name in names}


class FakeQuantiseWeight(nn.Module):
    """Rounds each output channel to its symmetric grid, scale = max|w| / (2^(bits-1) - 1)."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._most = 2 ** (bits - 1) - 1

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Weight (K, ...) on the grid, same shape."""
        scale = weight.detach().flatten(1).abs().amax(dim=1) / self._most
        scale = torch.where(scale > 0, scale, 1.0)  # an empty channel has any grid
        zero = torch.zeros(len(scale), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weight, scale, zero, 0, -self._most, self._most
        )


class _FakeQuantise:
    """Rounds an activation to its affine grid, with the gradient clipped to the range."""

    def __init__(self, tensor: Tensor) -> None:
        grid = _grid(tensor)
        bits = 8 * tensor.dtype.nbytes
        self._scale = grid.scale[0]
        self._zero_point = grid.zero_point
        self._range = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self._scale, self._zero_point, *self._range)


def _grid(tensor: Tensor) -> Quantisation:
    if tensor.quantisation is None or tensor.dtype is DType.F32:
        raise ModelError(f"tensor {tensor.name!r} of the integer graph has no quantisation")
    return tensor.quantisation


def _put_edge(model: GraphModule, name: str, edge: _FakeQuantise) -> Callable[[], None]:
    earlier = model.edges.get(name)
    model.edges[name] = edge if earlier is None else (lambda x: edge(earlier(x)))

    def undo() -> None:
        if earlier is None:
            model.edges.pop(name, None)
        else:
            model.edges[name] = earlier

    return undo
