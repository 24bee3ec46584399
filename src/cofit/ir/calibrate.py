"""Ranges of activations, observed on calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import DataError
from cofit.ir.execute import run_float
from cofit.ir.types import Graph

Batch = torch.Tensor | NDArray[np.float32] | Mapping[str, torch.Tensor]
"""Inputs (N, ...) by name; the values alone where a graph has one input."""


@dataclass(frozen=True)
class Ranges:
    """Least and greatest value of every activation (inputs included), by tensor name."""

    lower: Mapping[str, float]
    upper: Mapping[str, float]


def calibrate(graph: Graph, batches: Iterable[Batch]) -> Ranges:
    """Observe the range of every activation of a float graph.

    Args:
        graph: a float graph.
        batches: inputs; take them from training data only.

    Raises:
        DataError: there is no data, or an activation is NaN or infinite (naming it).
    """
    lower: dict[str, float] = {}
    upper: dict[str, float] = {}
    with torch.no_grad():
        for batch in batches:
            for name, values in run_float(graph, named(graph, batch), keep=True).items():
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


def named(graph: Graph, batch: Batch) -> dict[str, torch.Tensor]:
    """A batch by input name."""
    if isinstance(batch, Mapping):
        return dict(batch)
    if len(graph.inputs) != 1:
        raise DataError(
            f"graph {graph.name!r} has the inputs {', '.join(graph.inputs)}; give batches by name"
        )
    return {graph.inputs[0]: torch.as_tensor(batch)}
