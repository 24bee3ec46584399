"""Where the time of a program goes, as data: what `cofit explain --json` prints.

Times are seconds, sizes bytes, shares fractions of one.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from cofit.core import Basis


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LevelRow(_Row):
    """A level of memory; `capacity_bytes` None holds everything."""

    name: str
    capacity_bytes: int | None
    bytes_per_s: float
    spread: float


class Limits(_Row):
    """What the machine can do at most (see `cofit.targets.Ceilings`).

    `macs_per_s` is the peak of the program's precision, reached with `instruction`; `over_fp32` is
    the int8 peak over the fp32 peak, None of an fp32 program; `step_s` is an empty step. `clock` is
    the best peak seen while the program was timed over that of the ceilings, None where nothing is
    timed.
    """

    basis: Basis
    machine: str
    macs_per_s: float
    macs_spread: float
    over_fp32: float | None = None
    instruction: str
    levels: tuple[LevelRow, ...]
    step_s: float
    clock: float | None


class Instructions(_Row):
    """Retired instructions of a layer by purpose."""

    multiply: int
    memory: int
    arithmetic: int
    branch: int


class Alone(_Row):
    """The layer as a program of its own, as it is and as a dense layer of its precision."""

    latency_s: float
    kernel: str
    dense_s: float
    dense_kernel: str


class Advice(_Row):
    """What would make a layer faster.

    Attributes:
        structure: of the weight, None for dense.
        precision: of the layer.
        bits: of a stored weight.
        rate: dense weights for each one kept.
        latency_s: predicted inside the program: the layer's time by the ratio of the two layers
            alone.
        gain_s: the time saved.
        exact: whether the weights stay as they are, so that no accuracy is at stake.
        basis: how the times of the layers alone were obtained.
        text: one sentence.
    """

    structure: str | None
    precision: str
    bits: int
    rate: float
    latency_s: float
    gain_s: float
    exact: bool
    basis: Basis
    text: str


class Layer(_Row):
    """One step of a program: its time, its limits and why they differ.

    Attributes:
        op: name of the step.
        kind: of the op.
        kernel: kernel family and variant.
        structure: that the weight was compiled with.
        zeros: structure that the zeros of a weight satisfy which was compiled without one.
        density: part of the weights that is not zero; 1 without weights.
        weight_shape: empty without weights.
        latency_s: its time in the program.
        share: of the program's time.
        macs_dense, macs_kept, macs_executed: multiply-adds without zeros left out, by weights that
            are not zero, and that the kernel does.
        weight_bytes, index_bytes, parameter_bytes, input_bytes, output_bytes: that must move.
        traffic_bytes: by the level of memory they come from; of the nearest, with loads repeated.
        intensity: multiply-adds done per byte that must move.
        compute_s, memory_s: least time of the multiply-adds, and of the bytes by level.
        limit_s: least time of all.
        overhead_s: time that no ceiling explains; never negative.
        reached: part of the time that the limit explains.
        binds: "compute", a level, or "overhead".
        instructions: of an emulated program.
        alone: measured apart, of layers worth it.
        why: sentences.
        considered: how many other forms were priced.
        advice: forms that would be faster, those that change no weight first.
    """

    op: str
    kind: str
    kernel: str
    structure: str | None = None
    zeros: str | None = None
    density: float = 1.0
    weight_shape: tuple[int, ...] = ()
    latency_s: float
    share: float
    macs_dense: int = 0
    macs_kept: int = 0
    macs_executed: int = 0
    weight_bytes: int = 0
    index_bytes: int = 0
    parameter_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    traffic_bytes: dict[str, int] = {}
    intensity: float | None = None
    compute_s: float = 0.0
    memory_s: dict[str, float] = {}
    limit_s: float = 0.0
    overhead_s: float
    reached: float
    binds: str
    instructions: Instructions | None = None
    alone: Alone | None = None
    why: tuple[str, ...] = ()
    considered: int = 0
    advice: tuple[Advice, ...] = ()

    @property
    def rate(self) -> float:
        """Dense multiply-adds for each one with a weight that is not zero."""
        return self.macs_dense / self.macs_kept if self.macs_kept else 1.0


class Explanation(_Row):
    """Where the time of a program goes. `latency_s` is the sum over the layers."""

    format: Literal["cofit.explanation"] = "cofit.explanation"
    version: Literal[1] = 1
    program: str
    target: str
    precision: str
    basis: Basis
    latency_s: float
    spread: float | None
    limit_s: float
    macs_executed: int
    limits: Limits
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
