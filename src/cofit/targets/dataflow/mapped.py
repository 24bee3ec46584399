"""What a search for a mapping returns, whichever model it searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cofit.targets.dataflow.layer import Layer


@dataclass(frozen=True)
class Mapped:
    """A layer on an accelerator, mapped as well as the search could.

    Attributes:
        layer: the layer.
        cycles: of the layer.
        energy_pj: of the layer.
        utilisation: useful multiply-accumulates over those the array could do in `cycles`.
        bound: "compute", "noc" or the memory that decides the cycles.
        steps: cycles that the array alone would take.
        dram: elements to and from DRAM, by tensor.
        text: the mapping.
        points: mappings that were evaluated.
    """

    layer: Layer
    cycles: float
    energy_pj: float
    utilisation: float
    bound: str
    steps: float
    dram: Mapping[str, float]
    text: str
    points: int
