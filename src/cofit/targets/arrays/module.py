"""Torch layers whose products come from simulated arrays; gradients are those of rounded layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ModelError
from cofit.structures.formats.matrix import grouped
from cofit.targets.arrays.multiply import Programmed
from cofit.targets.arrays.schemes import weight_range
from cofit.targets.arrays.spec import ArraySpec

Write = Callable[[torch.Tensor, ArraySpec], Programmed]
"""Writes a matrix (N, K) of integers into arrays of a coding, for example `program`."""


@dataclass(frozen=True)
class InputGrid:
    """Integers of a layer's input: x = step * q, q from `low` to `high`.

    Attributes:
        step: real value of 1.
        low: least q.
        high: largest q.
    """

    step: float
    low: int
    high: int

    def words(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest q of each element, as they are (float)."""
        return (x / self.step).round().clamp(self.low, self.high)


def input_grid(x: torch.Tensor, spec: ArraySpec) -> InputGrid:
    """The grid that spans what was seen of a layer's input.

    Args:
        x: inputs of calibration examples.
        spec: of the array; unsigned inputs lose what is negative.
    """
    if spec.inputs == "unsigned":
        low, high = 0, (1 << spec.input_bits) - 1
        top = float(x.max())
    else:
        low, high = 1 - (1 << (spec.input_bits - 1)), (1 << (spec.input_bits - 1)) - 1
        top = float(x.abs().max())
    return InputGrid(top / high if top > 0 else 1.0, low, high)


def weight_levels(weight: torch.Tensor, spec: ArraySpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers (K, ...) and scale (K,) that span the largest weight of each filter.

    Where digits give odd numbers only, weights go to the nearest of those; the upper of two.
    """
    _, high = weight_range(spec)
    top = weight.detach().double().abs().flatten(1).amax(1)
    scale = torch.where(top > 0, top / high, 1.0)
    return levels_on(weight, scale, spec), scale


def levels_on(weight: torch.Tensor, scale: torch.Tensor, spec: ArraySpec) -> torch.Tensor:
    """Integers (K, ...) nearest to weight / scale (K,) that the scheme holds."""
    low, high = weight_range(spec)
    low = max(low, -high)
    real = weight.detach().double() / scale.double().reshape(-1, *[1] * (weight.ndim - 1))
    if spec.scheme == "bipolar":
        return (2 * (real / 2).floor() + 1).clamp(low, high).long()
    return real.round().clamp(low, high).long()


def layer_matrix(levels: torch.Tensor) -> torch.Tensor:
    """(K, C, R, S) or (K, C) -> (N, K), rows with channels fastest, as a crossbar holds them."""
    if levels.ndim == 2:
        return levels.T.contiguous()
    return grouped(levels, 1, "c").flatten(1).T.contiguous()


def patches(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """Inputs (B, C, H, W) as (B, G, L, N), rows of every group with channels fastest."""
    found = F.unfold(x, layer.kernel_size, layer.dilation, _padding(layer), layer.stride)
    channels = x.shape[1] // layer.groups
    found = found.reshape(len(x), layer.groups, channels, -1, found.shape[-1])
    return found.permute(0, 1, 4, 3, 2).flatten(3)


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    if isinstance(layer.padding, str):
        raise ModelError(f"padding {layer.padding!r} of a convolution; give it in numbers")
    rows, columns = layer.padding
    return rows, columns


class AnalogLayer(nn.Module):
    """A convolution or linear layer on arrays.

    The weight is rounded to integers and written; in training it is written anew in every pass, and
    gradients are those of the rounded layer (straight through rounding, converters and noise).

    Args:
        layer: what it stands for; weight and bias are shared with it.
        grid: of its inputs.
        spec: coding of its weights.
        write: puts a matrix into arrays.
        scale: (K,) of the weight's integers; None spans each filter's largest weight.
        reads: generator of what is drawn at each read.
    """

    def __init__(
        self,
        layer: nn.Conv2d | nn.Linear,
        grid: InputGrid,
        spec: ArraySpec,
        write: Write,
        scale: torch.Tensor | None = None,
        reads: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.grid = grid
        self.spec = spec
        self.scale = scale
        self.write = write
        self.reads = reads
        self._written: tuple[Programmed, ...] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the layer: (B, C, H, W) or (..., C)."""
        weight, bias = self.layer.weight, self.layer.bias
        if self.scale is None:
            levels, scale = weight_levels(weight, self.spec)
        else:
            levels, scale = levels_on(weight, self.scale, self.spec), self.scale.double()
        with torch.no_grad():
            found = self._products(self.grid.words(x), levels)
            found = found * (scale * self.grid.step).to(found.dtype)
            if bias is not None:
                found = found + bias.double()
            if isinstance(self.layer, nn.Conv2d):
                found = found.movedim(-1, 1)
        if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
            return found.to(x.dtype)
        rounded = (levels * scale.reshape(-1, *[1] * (weight.ndim - 1))).to(weight.dtype)
        inside = x.clamp(self.grid.low * self.grid.step, self.grid.high * self.grid.step)
        x = inside + (self.grid.words(x) * self.grid.step - inside).detach()
        smooth = self._smooth(x, weight + (rounded - weight).detach())
        return smooth + (found.to(x.dtype) - smooth).detach()

    def _smooth(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, self.layer.bias)
        smooth: torch.Tensor = self.layer._conv_forward(x, weight, self.layer.bias)
        return smooth

    def _products(self, words: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """(..., K) float64; of images (B, H', W', K)."""
        if isinstance(self.layer, nn.Linear):
            (chip,) = self._chips((levels,))
            flat = chip.multiply(words.flatten(0, -2).long(), self.reads)
            return flat.double().reshape(*words.shape[:-1], -1)
        rows = patches(words, self.layer)
        chips = self._chips(levels.chunk(self.layer.groups))
        found = [
            chip.multiply(rows[:, group].flatten(0, 1).long(), self.reads).double()
            for group, chip in enumerate(chips)
        ]
        sizes = zip(
            words.shape[2:], self.layer.kernel_size, self.layer.stride, self.layer.dilation,
            _padding(self.layer), strict=True,
        )  # fmt: skip
        height, width = (
            (n + 2 * pad - step * (kernel - 1) - 1) // stride + 1
            for n, kernel, stride, step, pad in sizes
        )
        return torch.cat(found, 1).reshape(len(words), height, width, -1)

    def _chips(self, parts: tuple[torch.Tensor, ...]) -> tuple[Programmed, ...]:
        """Written matrices, one per group; kept between passes while nothing is trained."""
        if self._written is None or self.training:
            self._written = tuple(self.write(layer_matrix(part), self.spec) for part in parts)
        return self._written


def on_arrays(
    model: nn.Module,
    samples: torch.Tensor,
    spec: ArraySpec,
    write: Callable[[str], Write],
    scales: Mapping[str, torch.Tensor] | None = None,
    grids: Mapping[str, InputGrid] | None = None,
    reads: torch.Generator | None = None,
) -> nn.Module:
    """A copy of a network with all convolutions and linear layers on arrays, in eval mode.

    Inputs of a layer are coded with an offset where samples show negative ones.

    Args:
        model: any; its weights are rounded, not changed.
        samples: inputs that give the ranges of the layers' inputs.
        spec: coding; `weight_bits` and `input_bits` as the layers shall have them.
        write: given a layer's name, what puts its matrices into arrays.
        scales: of weights, by layer name; see `AnalogLayer`.
        grids: of inputs, by layer name; one that is absent spans what samples show.
        reads: generator of what is drawn at each read.

    Raises:
        ModelError: the network has no such layer, or samples do not reach one.
    """
    copied = copy.deepcopy(model).eval()
    layers = {
        name: layer
        for name, layer in copied.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    if not layers:
        raise ModelError("the network has neither convolutions nor linear layers to put on arrays")
    seen = layer_inputs(copied, layers, samples)
    for name, layer in layers.items():
        if name not in seen:
            raise ModelError(f"layer {name!r} is not reached; give samples that run through it")
        coded = replace(spec, inputs="offset") if bool((seen[name] < 0).any()) else spec
        grid = (grids or {}).get(name) or input_grid(seen[name], coded)
        analog = AnalogLayer(layer, grid, coded, write(name), (scales or {}).get(name), reads)
        parent, _, last = name.rpartition(".")
        setattr(copied.get_submodule(parent), last, analog)
    return copied.eval()


def layer_inputs(
    model: nn.Module, layers: Mapping[str, nn.Module], samples: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What enters each layer, by name."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            found[name] = args[0].detach()

        return hook

    handles = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    with torch.no_grad():
        model(samples)
    for handle in handles:
        handle.remove()
    return found
