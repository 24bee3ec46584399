"""Inputs as planes of a few bits, driven one after the other."""

from __future__ import annotations

import torch

from cofit.core import ConfigError
from cofit.targets.arrays.spec import ArraySpec


def input_range(spec: ArraySpec) -> tuple[int, int]:
    """Least and largest input."""
    if spec.inputs == "unsigned":
        return 0, (1 << spec.input_bits) - 1
    half = 1 << (spec.input_bits - 1)
    return -half, half - 1


def driven(inputs: torch.Tensor, spec: ArraySpec) -> torch.Tensor:
    """Inputs as unsigned words of `input_bits`, shape as given.

    Raises:
        ConfigError: they are no integers, or one does not fit.
    """
    if inputs.is_floating_point():
        raise ConfigError(f"inputs of an array are integers, not {inputs.dtype}; round them first")
    low, high = input_range(spec)
    least, most = (int(inputs.min()), int(inputs.max())) if inputs.numel() else (0, 0)
    if least < low or most > high:
        advice = (
            "encode negative ones with inputs='offset'"
            if least < 0 and spec.inputs == "unsigned"
            else "round them to a coarser grid"
        )
        raise ConfigError(
            f"inputs from {least} to {most} do not fit {spec.input_bits} bits {spec.inputs} "
            f"({low} to {high}); {advice}"
        )
    if spec.inputs == "offset":
        return inputs - low
    return inputs & ((1 << spec.input_bits) - 1)


def plane_factors(spec: ArraySpec) -> list[int]:
    """What each plane counts, low ones first; the top one of two's complement is negative."""
    factors = [1 << (spec.dac_bits * t) for t in range(spec.planes)]
    if spec.inputs == "twos_complement":
        factors[-1] *= -1
    return factors


def planes_of(words: torch.Tensor, spec: ArraySpec) -> torch.Tensor:
    """Unsigned words (P, N) as planes (T, P, N), float32."""
    drive = (1 << spec.dac_bits) - 1
    small = words.int()
    planes = [(small >> (spec.dac_bits * t)) & drive for t in range(spec.planes)]
    return torch.stack(planes).float()
