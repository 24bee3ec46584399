"""Quantisation with learned steps: weights of 1 to 8 bits per channel, inputs of layers in 8 bits.

Two bits and more: w -> s clip(round(w / s), -Q, Q) with Q = 2^(bits-1) - 1 and one step s for each
output channel, trained with (Esser et al., "Learned Step Size Quantization", ICLR 2020, eq. 3, 5)

    dw^/ds = round(w/s) - w/s inside the range, -Q or Q outside, scaled by 1 / sqrt(n Q),
    dw^/dw = 1 inside the range, 0 outside.

One bit: w -> mean|w| sign(w) per output channel, the least-squares scale; the gradient passes where
|w| <= 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cofit.core import ConfigError
from cofit.regimes.attachment import latent_weight, parametrise
from cofit.regimes.contract import Handle, Regime, Role, Slot
from cofit.regimes.gates import straight_through

BITS = (1, 2, 3, 4, 5, 6, 7, 8)
LEAST_STEP = 1e-8
BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
GRID = "input_grid"


def most_level(bits: int) -> int:
    """Q, the largest level of a weight: 1 at one and two bits."""
    return max((1 << (bits - 1)) - 1, 1)


@dataclass(frozen=True)
class Levels:
    """A weight as it is stored: `scale[k] * level`.

    Attributes:
        level: int8, shape of the weight; -1 and 1 at one bit.
        scale: (K,), float32.
        bits: of a level.
    """

    level: torch.Tensor
    scale: torch.Tensor
    bits: int

    @property
    def weight(self) -> torch.Tensor:
        """The weight, float32; exact products."""
        scale = self.scale.reshape(-1, *[1] * (self.level.dim() - 1))
        return self.level.to(scale.dtype) * scale


class LearnedSteps(Regime):
    """Trains any module through the rounding of its weights and of the inputs of their layers.

    Steps and clips are part of the model until `finalize`, which writes the rounded weights.

    Args:
        bits: of each weight, by parameter name, 1 to 8.
        activations: bits of the inputs of these layers; the same for every weight.

    Attributes:
        levels: of each weight, after `finalize`.
        inputs: grid of each layer's input, by the name of its weight.
    """

    def __init__(self, bits: Mapping[str, int], activations: int = 8) -> None:
        for name, number in bits.items():
            if number not in BITS:
                raise ConfigError(f"{name!r} with {number} bits; give 1 to {BITS[-1]}")
        if activations not in BITS[1:]:
            raise ConfigError(f"activations of {activations} bits; give 2 to {BITS[-1]}")
        self.levels: dict[str, Levels] = {}
        self.inputs: dict[str, InputGrid] = {}
        self._bits = dict(bits)
        self._activations = activations
        self._rounded: dict[str, WeightGrid] = {}
        self._weights: dict[str, nn.Parameter] = {}
        self._handle = Handle()

    @property
    def name(self) -> str:
        """See `Regime`."""
        return "steps"

    def slots(self) -> frozenset[Slot]:
        """One quantise slot per weight."""
        return frozenset(Slot(name, Role.QUANTISE) for name in self._bits)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Parametrise weights, and round inputs of their layers on grids that suit the sample.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a parameter that is no weight or not finite, naming it.
        """
        self._weights = {name: latent_weight(model, name) for name in self._bits}
        self.inputs = {
            name: InputGrid(self._activations).to(weight.device)
            for name, weight in self._weights.items()
        }
        undo = [round_inputs(model, name, grid) for name, grid in self.inputs.items()]
        _measure(model, sample)
        for grid in self.inputs.values():
            grid.measured = True
        self._rounded = {
            name: WeightGrid(self._weights[name].detach(), bits)
            for name, bits in self._bits.items()
        }
        undo += [parametrise(model, name, grid) for name, grid in self._rounded.items()]
        self._handle = Handle(*undo)
        return self._handle

    def after_step(self) -> None:
        """Keep steps positive."""
        steps = [grid.step for grid in self._rounded.values()]
        steps += [grid.step for grid in self.inputs.values()]
        with torch.no_grad():
            for step in steps:
                step.clamp_(min=LEAST_STEP)

    def finalize(self, model: nn.Module) -> nn.Module:
        """Write the rounded weights; inputs are no longer rounded."""
        with torch.no_grad():
            self.levels = {
                name: grid.quantised(self._weights[name]) for name, grid in self._rounded.items()
            }
            self._handle.remove()
            for name, levels in self.levels.items():
                self._weights[name].copy_(levels.weight)
        return model


class WeightGrid(nn.Module):
    """Rounds a weight (K, ...) to levels of one step per output channel.

    Attributes:
        step: (K,), trained; at one bit it is not used, for the scale follows the weight.
    """

    def __init__(self, weight: torch.Tensor, bits: int) -> None:
        super().__init__()
        self._bits = bits
        top = most_level(bits)
        mean = weight.flatten(1).abs().mean(1)
        self.step = nn.Parameter((2 * mean / math.sqrt(top)).clamp(min=LEAST_STEP))
        self.step.requires_grad_(bits > 1)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The rounded weight, same shape."""
        if self._bits == 1:
            return sign_scaled(weight)
        step = self.step.reshape(-1, *[1] * (weight.dim() - 1))
        return step_round(weight, step, most_level(self._bits), weight[0].numel())

    def quantised(self, weight: torch.Tensor) -> Levels:
        """The rounded weight as levels and scales."""
        if self._bits == 1:
            scale = weight.flatten(1).abs().mean(1)
            return Levels(torch.where(weight < 0, -1, 1).to(torch.int8), scale.detach(), 1)
        top = most_level(self._bits)
        step = self.step.detach().clone()
        level = (weight / step.reshape(-1, *[1] * (weight.dim() - 1))).round().clamp(-top, top)
        return Levels(level.to(torch.int8), step, self._bits)


class InputGrid(nn.Module):
    """Rounds an activation to 2^bits levels of one learned step.

    Levels are 0 to 2^bits - 1 where the first sample has no negative value, else symmetric.

    Attributes:
        step: (), trained.
        low, high: levels at the ends.
        measured: whether step and ends are chosen; until then the input passes and chooses them.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._bits = bits
        self.step = nn.Parameter(torch.ones(()))
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.measured = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The rounded activation, same shape."""
        if not self.measured:
            signed = bool((x < 0).any())
            top = (1 << (self._bits - 1)) - 1 if signed else (1 << self._bits) - 1
            self.high.fill_(top)
            self.low.fill_(-top if signed else 0)
            self.step.copy_((x.abs().max() / top).clamp(min=LEAST_STEP))
            return x
        share = x[0].numel() * float(self.high)
        return _round(x, self.step, self.low, self.high, 1 / math.sqrt(share))


def step_round(weight: torch.Tensor, step: torch.Tensor, top: int, share: int) -> torch.Tensor:
    """Weight on the levels of its steps, with the gradients of the module's head.

    Args:
        weight: (K, ...).
        step: (K, 1, ...), or of any shape that broadcasts.
        top: Q.
        share: n, weights that share a step.
    """
    limit = weight.new_tensor(float(top))
    return _round(weight, step, -limit, limit, 1 / math.sqrt(share * top))


def _measure(model: nn.Module, sample: torch.Tensor) -> None:
    """Run a sample once, normalised by itself as in training; nothing of the model changes.

    Running statistics of a network that is not trained yet say nothing of its activations; a single
    example has none of its own, and takes them.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    for module in modes:
        if isinstance(module, BatchNorm) and len(sample) > 1:
            module.train()
    with torch.no_grad():
        model(sample)
        for name, buffer in model.named_buffers():
            if not name.rpartition(".")[0].endswith(GRID):
                buffer.copy_(buffers[name])
    for module, mode in modes.items():
        module.training = mode


def sign_scaled(weight: torch.Tensor) -> torch.Tensor:
    """mean|w| sign(w) per output channel of (K, ...); sign(0) = 1, gradient where |w| <= 1."""
    scale = weight.detach().flatten(1).abs().mean(1).reshape(-1, *[1] * (weight.dim() - 1))
    open_ = torch.where(weight.detach().abs() <= 1, weight, weight.detach())
    return straight_through(open_, torch.where(weight.detach() < 0, -scale, scale))


def round_inputs(model: nn.Module, weight: str, grid: InputGrid) -> Callable[[], None]:
    """Round the input of the layer that owns a weight; the grid is trained with it.

    Returns:
        The inverse.
    """
    owner = model.get_submodule(weight.rpartition(".")[0])
    owner.add_module(GRID, grid)
    hook = owner.register_forward_pre_hook(lambda _, inputs: (grid(inputs[0]), *inputs[1:]))

    def undo() -> None:
        hook.remove()
        if hasattr(owner, GRID):
            delattr(owner, GRID)

    return undo


def _round(
    x: torch.Tensor, step: torch.Tensor, low: torch.Tensor, high: torch.Tensor, scale: float
) -> torch.Tensor:
    out: torch.Tensor = _StepRound.apply(x, step, low, high, scale)  # type: ignore[no-untyped-call]
    return out


class _StepRound(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        step: torch.Tensor,
        low: torch.Tensor,
        high: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, step, low, high)
        ctx.scale = scale
        return (x / step).round().clamp(low, high) * step

    @staticmethod
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        x, step, low, high = ctx.saved_tensors
        place = x / step
        level = place.round().clamp(low, high)
        inside = (place >= low) & (place <= high)
        along = gradient * torch.where(inside, level - place, level)
        of_step = along.sum_to_size(step.shape) * ctx.scale
        return gradient * inside, of_step, None, None, None
