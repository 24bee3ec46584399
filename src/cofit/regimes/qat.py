"""Quantisation-aware training: the forward pass computes on the integer graph's own grids.

Activations lie on the fixed affine grids that calibration chose; weights lie on symmetric grids per
output channel whose scale follows the largest magnitude, as it will when they are quantised for
good. Gradients pass straight through the rounding (Jacob et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cofit.core import ConfigError, ModelError
from cofit.ir import Graph, Op, Quantisation, Tensor
from cofit.ir.module import GraphModule
from cofit.ir.quantise_layer import weight_scales
from cofit.regimes.attachment import latent_weight, latents, parametrise
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.regimes.gates import straight_through

KEEP_GRID = ("reshape", "slice", "pad", "maxpool2d")
"""Kinds whose outputs are on their input's grid already."""


class QAT(Regime):
    """Trains a `GraphModule` through the rounding of an integer graph made from it.

    Zeros of weights stay zero (the grids are symmetric), so it composes after structures and masks.
    `finalize` gives the float module back; quantise it with the same ranges.

    Args:
        integer: the quantised graph; its op names are those of the module's graph.
    """

    def __init__(self, integer: Graph) -> None:
        if not integer.is_integer:
            raise ConfigError(
                f"QAT got the float graph {integer.name!r}; give it the quantised graph"
            )
        self._integer = integer
        self._rounded: dict[str, tuple[nn.Parameter, FakeQuantiseWeight]] = {}
        self._handle = Handle()

    @property
    def name(self) -> str:
        """See `Regime`."""
        return "qat"

    def slots(self) -> frozenset[Slot]:
        """A quantise slot for each weight and activation."""
        names = [weight.name for _, weight in self._integer.weighted()]
        names += self._activations()
        return frozenset(Slot(name, Role.QUANTISE) for name in names)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Parametrise the weights and put a rounding on each activation.

        Raises:
            ModelError: the model is not a `GraphModule`.
            UnknownNameError: it is one of another graph.
            StructureError: a weight is not finite, naming it.
        """
        if not isinstance(model, GraphModule):
            raise ModelError(f"QAT trains a GraphModule, not a {type(model).__name__}; trace it")
        self._rounded = {}
        for op, weight in self._integer.weighted():
            name = _float_name(model, op, weight)
            parameter = latent_weight(model, name)
            rounding = FakeQuantiseWeight(len(parameter), _grid(weight).bits)
            self._rounded.setdefault(name, (parameter, rounding))
        undo = [parametrise(model, name, r) for name, (_, r) in self._rounded.items()]
        for name, tensor in self._activations().items():
            undo.append(_put_edge(model, name, _FakeQuantise(tensor)))
        self._handle = Handle(*undo)
        return self._handle

    def on_epoch(self, epoch: int) -> None:
        """Fit the clips of 4-bit weights to the present weights."""
        for parameter, rounding in self._rounded.values():
            rounding.fit(parameter.detach())

    def finalize(self, model: nn.Module) -> nn.Module:
        """The float module: its latent weights round to the trained grid points."""
        self._handle.remove()
        return model

    def _activations(self) -> dict[str, Tensor]:
        integer = self._integer
        names = [*integer.inputs, *(op.output for op in integer.ops if op.kind not in KEEP_GRID)]
        return {name: integer.tensors[name] for name in names}


class FakeQuantiseWeight(nn.Module):
    """Rounds output channels to the symmetric grids that `ir.quantise` will choose.

    The scale is clip * max|w| / (2^(bits-1) - 1), max|w| of the channel at each call. `clip` is 1
    at 8 bits; below it is fitted now and then, for the search is too slow for every step. The
    gradient is the identity, so that clipped weights can come back.

    Args:
        channels: K.
        bits: of a weight.
    """

    clip: torch.Tensor

    def __init__(self, channels: int, bits: int) -> None:
        super().__init__()
        self._bits = bits
        self._top = 2 ** (bits - 1) - 1
        self.register_buffer("clip", torch.ones(channels))

    def fit(self, weight: torch.Tensor) -> None:
        """Choose the clips for a weight (K, ...)."""
        if self._bits == 8:
            return
        top = weight.flatten(1).abs().amax(dim=1)
        scales = torch.from_numpy(weight_scales(weight.double().numpy(), self._bits))
        self.clip.copy_(torch.where(top > 0, scales * self._top / top, 1.0))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Weight (K, ...) on the grids, same shape."""
        latent = weight.detach()
        scale = self.clip * latent.flatten(1).abs().amax(dim=1) / self._top
        scale = torch.where(scale > 0, scale, 1.0)  # a channel of zeros lies on any grid
        zero = torch.zeros(len(scale), dtype=torch.int32)
        rounded = torch.fake_quantize_per_channel_affine(
            latent, scale, zero, 0, -self._top, self._top
        )
        return straight_through(weight, rounded)


class _FakeQuantise:
    """Rounds an activation to its affine grid, with the gradient zero outside the range."""

    def __init__(self, tensor: Tensor) -> None:
        grid = _grid(tensor)
        bits = 8 * tensor.dtype.nbytes
        self._scale = grid.scale[0]
        self._zero_point = grid.zero_point
        self._range = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self._scale, self._zero_point, *self._range)


def _grid(tensor: Tensor) -> Quantisation:
    if tensor.quantisation is None:
        raise ModelError(f"tensor {tensor.name!r} of the integer graph has no quantisation")
    return tensor.quantisation


def _float_name(model: GraphModule, op: Op, weight: Tensor) -> str:
    """Name in the float graph: quantising gives each reader of a shared weight its own copy."""
    known = weight.name in latents(model)
    return weight.name if known else weight.name.removeprefix(f"{op.output}.")


def _put_edge(model: GraphModule, name: str, edge: _FakeQuantise) -> Callable[[], None]:
    earlier = model.edges.get(name)
    model.edges[name] = edge if earlier is None else (lambda x: edge(earlier(x)))

    def undo() -> None:
        if earlier is None:
            model.edges.pop(name, None)
        else:
            model.edges[name] = earlier

    return undo
