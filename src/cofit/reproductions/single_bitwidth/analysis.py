"""Why few bits suit layers of large fan-in: noise of rounding, and how many filters are left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cofit.reproductions.single_bitwidth.allocation import rounded


@dataclass(frozen=True)
class LayerStatistics:
    """What rounding does to the weight (K, ...) of one layer.

    Attributes:
        fan_in: weights of an output channel; 9 in a 3x3 depthwise layer.
        snr_db: power of the weight over that of the rounding error, by bits.
        distinct: share of the output channels whose sign patterns differ at one bit; no more than
            2^fan_in can.
    """

    fan_in: int
    snr_db: Mapping[int, float]
    distinct: float


def layer_statistics(weight: torch.Tensor, bits: Sequence[int]) -> LayerStatistics:
    """Statistics of a weight (K, ...) at each number of bits."""
    rows = weight.flatten(1)
    power = float(rows.double().square().sum())
    noise = {b: float((rounded(weight, b) - weight).double().square().sum()) for b in bits}
    ratios = {b: power / error if error else math.inf for b, error in noise.items()}
    return LayerStatistics(
        fan_in=rows.shape[1],
        snr_db={b: 10 * math.log10(ratio) for b, ratio in ratios.items()},
        distinct=len((rows < 0).unique(dim=0)) / len(rows),
    )
