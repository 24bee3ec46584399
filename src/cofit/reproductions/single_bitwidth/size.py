"""Sizes of packed networks, and the width at which a bit-width takes a given size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cofit.core import InfeasibleError
from cofit.structures.formats import packed

HALF_BYTES = 2
STEP_BYTES = 4
TOLERANCE = 0.005
LEAST, MOST = 1e-2, 64.0
RESOLUTION = 1e-4
"""Relative step of multipliers, below that of a channel in a thousand."""


@dataclass(frozen=True)
class Width:
    """A width multiplier and what the network then takes.

    Attributes:
        multiplier: of the channels.
        nbytes: size, exactly.
        nearest: whether no multiplier comes within the tolerance, for channels are whole numbers.
    """

    multiplier: float
    nbytes: int
    nearest: bool


class _NoValues(TorchFunctionMode):
    """Leaves out initialisation, which on the meta device costs most of building a network."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def layer_shapes(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of a network, by name, without making or initialising it."""
    with torch.device("meta"), _NoValues():
        model = build()
    return {name: tuple(p.shape) for name, p in model.named_parameters() if p.dim() > 1}


def packed_bytes(shapes: Mapping[str, tuple[int, ...]], bits: Mapping[str, int] | int) -> int:
    """Bytes of the packed network: codes, and 16-bit scale and bias per channel, an input step.

    Batch norm is folded into scales and biases, so nothing else is stored.
    """
    total = 0
    for name, shape in shapes.items():
        count = 1
        for side in shape:
            count *= side
        of_layer = bits if isinstance(bits, int) else bits[name]
        total += packed.nbytes(count, of_layer) + 2 * HALF_BYTES * shape[0] + STEP_BYTES
    return total


def width_for(
    size: Callable[[float], int], budget: int, tolerance: float = TOLERANCE, hard: bool = False
) -> Width:
    """The multiplier whose size is nearest to a budget.

    Channels are whole numbers, so sizes come in steps; where none lies within the tolerance the
    nearest is given and says so.

    Args:
        size: bytes by multiplier; does not fall as the multiplier grows.
        budget: bytes.
        tolerance: relative.
        hard: never above the budget.

    Raises:
        InfeasibleError: even the narrowest network exceeds a hard budget, or the narrowest and
            widest lie on one side of it by more than the tolerance; says what they take.
    """
    least, most = size(LEAST), size(MOST)
    margin = 0.0 if hard else tolerance
    if least > budget * (1 + margin) or most < budget * (1 - tolerance):
        nearest = least if least > budget else most
        raise InfeasibleError(
            f"no width takes {budget} bytes; the nearest size is {nearest} bytes, of "
            f"the {'narrowest' if nearest == least else 'widest'} network; change the budget or "
            "the bits"
        )
    low, high = LEAST, MOST
    while high / low > 1 + RESOLUTION:
        middle = (low * high) ** 0.5
        if size(middle) <= budget:
            low = middle
        else:
            high = middle
    below, above = size(low), size(high)
    over = hard or below > budget or budget - below <= above - budget
    multiplier, found = (low, below) if over else (high, above)
    return Width(multiplier, found, abs(found - budget) > tolerance * budget)
