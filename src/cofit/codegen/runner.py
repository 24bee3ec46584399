"""What can run a generated program: this machine's CPU, or an emulated Cortex-M."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cofit.core import Basis

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Measurement:
    """Time of one inference, batch 1.

    Attributes:
        basis: measured (a clock) or emulated (a cycle model).
        latency_s: mean over the repeats around the median.
        minimum_s: least of the repeats.
        p95_s: 95th percentile of the repeats.
        spread: (max - min) / latency_s over the repeats.
        repeats: number of timed runs.
        per_step_s: seconds of the same repeats by step name, in execution order; they add up.
        instructions: retired instructions by step name; empty where they are not counted.
    """

    basis: Basis
    latency_s: float
    minimum_s: float
    p95_s: float
    spread: float
    repeats: int
    per_step_s: Mapping[str, float]
    instructions: Mapping[str, int] = field(default_factory=dict)


class Runner(Protocol):
    """Executes one built program; arrays are as the program's C interface has them.

    Inputs and outputs are float32 NCHW where the machine's io is "float", else the tensor's dtype
    in memory order (NHWC); the batch is the first axis and is run one by one.
    """

    def run(self, x: Array) -> Array:
        """Outputs (N, ...) of inputs (N, ...)."""
        ...

    def load(self, x: Array, poison: int) -> None:
        """Fill the arena with the byte `poison`, then write one input (1, ...)."""
        ...

    def step(self, index: int) -> None:
        """Run one step of the source."""
        ...

    def read(self, name: str) -> Array:
        """Elements of an activation tensor in the arena, in its logical shape."""
        ...

    def overrun(self) -> str | None:
        """None while the bytes around the arena are intact, else where they changed."""
        ...

    def measure(self, repeats: int | None = None) -> Measurement:
        """Time it on a fixed input; `repeats` None lets the runner choose."""
        ...
