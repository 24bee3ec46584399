"""Packed checkpoints: a trained network as one file, and the network that the file alone gives.

Batch norm is folded into scales and biases, both rounded to 16 bits; what is evaluated is what the
file gives back, never the network that was trained.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from cofit.core import FileError, ModelError
from cofit.regimes.learned_steps import InputGrid, LearnedSteps, round_inputs
from cofit.structures import Encoding, from_bytes, to_bytes
from cofit.structures.formats import packed
from cofit.structures.unify import half

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Packed:
    """A network as bytes.

    Attributes:
        blob: the file: each layer's encoding behind its length, in the order of the layers.
        payload_bytes: those of codes, scales, biases and steps; the rest are headers.
    """

    blob: bytes
    payload_bytes: int


def pack(model: nn.Module, regime: LearnedSteps) -> Packed:
    """Pack a network whose training is finalised.

    Raises:
        ModelError: a layer that was not trained with the regime, naming it.
    """
    parts, payload = [], 0
    for name, layer, norm in layers(model):
        if f"{name}.weight" not in regime.levels:
            raise ModelError(f"layer {name!r} has no trained levels; give it bits and train")
        encoding = _encoded(layer, norm, regime, f"{name}.weight")
        blob = to_bytes(encoding)
        parts += [_LENGTH.pack(len(blob)), blob]
        payload += encoding.nbytes
    return Packed(b"".join(parts), payload)


def unpack(blob: bytes, build: Callable[[], nn.Module]) -> nn.Module:
    """The network of a packed file, in eval mode.

    Args:
        blob: see `Packed`.
        build: makes a network of the same widths.

    Raises:
        FileError: the bytes are damaged, or of another network.
    """
    model = build().eval()
    at = 0
    for name, layer, norm in layers(model):
        if at + _LENGTH.size > len(blob):
            raise FileError(f"the packed network ends before layer {name!r}")
        (length,) = _LENGTH.unpack_from(blob, at)
        encoding = from_bytes(blob[at + _LENGTH.size : at + _LENGTH.size + length])
        at += _LENGTH.size + length
        if encoding.shape != tuple(layer.weight.shape):
            raise FileError(
                f"layer {name!r} has shape {tuple(layer.weight.shape)}, the packed network "
                f"{encoding.shape}; build it with the same width"
            )
        layer.weight.data = torch.from_numpy(encoding.decode())
        layer.bias = nn.Parameter(torch.from_numpy(packed.from_half(encoding.arrays["bias"])))
        if norm is not None:
            _replace(model, norm[0], nn.Identity())
        round_inputs(model, f"{name}.weight", _input_grid(encoding))
    if at != len(blob):
        raise FileError(f"{len(blob) - at} bytes behind the last layer of the packed network")
    return model


def layers(
    model: nn.Module,
) -> list[tuple[str, Any, tuple[str, nn.BatchNorm2d] | None]]:
    """Convolutions and linear layers by name, each with the batch norm that directly follows it."""
    found: list[tuple[str, Any, tuple[str, nn.BatchNorm2d] | None]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            found.append((name, module, None))
        elif isinstance(module, nn.BatchNorm2d):
            before, layer, _ = found[-1]
            if layer.weight.shape[0] != module.num_features:
                raise ModelError(f"batch norm {name!r} does not follow a layer of its width")
            found[-1] = (before, layer, (name, module))
    return found


def _encoded(
    layer: Any, norm: tuple[str, nn.BatchNorm2d] | None, regime: LearnedSteps, name: str
) -> Encoding:
    levels = regime.levels[name]
    scale = levels.scale.detach().double()
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.detach().double()
    if norm is not None:
        batch = norm[1]
        assert batch.running_mean is not None and batch.running_var is not None
        gain = batch.weight.detach().double() / (batch.running_var.double() + batch.eps).sqrt()
        bias = (bias - batch.running_mean.double()) * gain + batch.bias.detach().double()
        scale = scale * gain
    grid = regime.inputs[name]
    step = np.array([float(grid.step.detach())], np.float32)
    more = {"bias": packed.to_half(half(bias).float().numpy()), "step": step}
    encoding = packed.encode(levels.level.numpy(), half(scale).float().numpy(), levels.bits, more)
    ends = {"low": int(grid.low), "high": int(grid.high)}
    parameters = {**encoding.parameters, **ends}
    return Encoding(encoding.format, encoding.shape, encoding.arrays, parameters, encoding.decoder)


def _input_grid(encoding: Encoding) -> InputGrid:
    grid = InputGrid(8)
    with torch.no_grad():
        grid.step.fill_(float(encoding.arrays["step"][0]))
        grid.low.fill_(encoding.parameters["low"])
        grid.high.fill_(encoding.parameters["high"])
    grid.measured = True
    return grid


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, module)
