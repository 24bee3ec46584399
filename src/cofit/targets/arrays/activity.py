"""What inputs make an array do: cycles until a group has no bit left, and rows driven."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cofit.core import ConfigError
from cofit.targets.arrays.planes import driven, planes_of
from cofit.targets.arrays.spec import ArraySpec


def group_bits(words: torch.Tensor, m: int) -> torch.Tensor:
    """Bits (P, G) of the largest of each group of `m` unsigned words (P, N)."""
    padded = pad(words, (0, -words.shape[1] % m))
    largest = padded.reshape(len(words), -1, m).amax(2)
    return torch.frexp(largest.double()).exponent


def input_cycles(inputs: torch.Tensor, m: int) -> torch.Tensor:
    """Cycles (P, G) until no input of a group of `m` rows has a bit left: the EIC of FORMS.

    A group ends with the highest bit of its largest input; zero planes below it are not skipped.

    Args:
        inputs: (P, N) unsigned integers, rows in the order of the crossbar.
        m: rows of a group.

    Raises:
        ConfigError: an input is negative or no integer.
    """
    if bool((inputs < 0).any()) or inputs.is_floating_point():
        raise ConfigError(
            "bit-serial inputs are unsigned integers; encode negative ones with an offset first"
        )
    return group_bits(inputs, m)


@dataclass(frozen=True)
class Activity:
    """Means over positions of what one product makes the rows do.

    Attributes:
        cycles: planes driven, of all groups together.
        drives: rows of a plane that are driven with something other than zero.
    """

    cycles: float
    drives: float


def activity(inputs: torch.Tensor, spec: ArraySpec) -> Activity:
    """Activity of inputs (P, N).

    Raises:
        ConfigError: they do not fit the spec.
    """
    words = driven(inputs, spec)
    groups = spec.groups(inputs.shape[1])
    if spec.skipping:
        cycles = float((-(-group_bits(words, spec.group) // spec.dac_bits)).sum()) / len(words)
    else:
        cycles = float(spec.planes * groups)
    return Activity(cycles, float(planes_of(words, spec).count_nonzero()) / len(words))


def full_activity(rows: int, spec: ArraySpec) -> Activity:
    """Activity where nothing is known of the inputs: every plane read, every row driven."""
    return Activity(float(spec.planes * spec.groups(rows)), float(spec.planes * rows))
