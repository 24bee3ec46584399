"""Ranges of activations, observed on calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from cofit.core import DataError
from cofit.ir.execute import run_float
from cofit.ir.types import Graph


@dataclass(frozen=True)
class Ranges:
    """Least and greatest value of every activation (inputs included), by tensor name."""

    lower: Mapping[str, float]
    upper: Mapping[str, float]


def calibrate(graph: Graph, batches: Iterable[Mapping[str, torch.Tensor]]) -> Ranges:
    """Observe the range of every activation of a float graph.

    Args:
        graph: a float graph.
        batches: inputs by name, (N, ...); take them from training data only.

    Raises:
        DataError: there is no data, or an activation is NaN or infinite (naming it).
    """
    lower: dict[str, float] = {}
    upper: dict[str, float] = {}
    with torch.no_grad():
        for batch in batches:
            for name, values in run_float(graph, batch, keep=True).items():
                if graph.tensors[name].data is not None or values.numel() == 0:
                    continue
                least, greatest = (float(v) for v in torch.aminmax(values))
                if not (abs(least) < float("inf") and abs(greatest) < float("inf")):
                    raise DataError(
                        f"calibration gives NaN or infinite values in {name!r}; clean the data"
                    )
                lower[name] = min(lower.get(name, least), least)
                upper[name] = max(upper.get(name, greatest), greatest)
    if not lower:
        raise DataError("there is no calibration data; give at least one batch")
    return Ranges(lower, upper)
