"""The result of a fit as data: what `summary.json` holds and what the report shows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cofit.core import Basis, read_json, write_json


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Side(_Row):
    """One program (dense or fitted) on the target; accuracy is on the test split."""

    accuracy: float
    correct: int
    precision: str
    latency_s: float
    flash_bytes: int
    ram_bytes: int
    energy_j: float | None
    instructions: int | None
    macs: int
    parameters: int
    basis: Basis
    spread: float | None


class LimitRow(_Row):
    """One limit of the budget; `limit` is absolute, in SI units."""

    metric: str
    dimension: Literal["time", "bytes", "energy", "fraction"]
    limit: float
    dense: float
    fitted: float
    met: bool


class PlanRow(_Row):
    """One weighted layer: what was chosen and how the prediction held."""

    op: str
    kind: str
    weight_shape: tuple[int, ...]
    structure: str | None
    rate: float
    bits: int
    macs: int
    kept_macs: int
    loss: float
    considered: int
    note: str
    basis: Basis
    latency_dense_s: float
    latency_predicted_s: float
    latency_measured_s: float
    flash_dense_bytes: int
    flash_predicted_bytes: int
    flash_measured_bytes: int


class Tried(_Row):
    """One network that was compiled and evaluated on the validation split."""

    label: str
    latency_s: float
    flash_bytes: int
    ram_bytes: int
    accuracy: float


class MemoryBlock(_Row):
    """One buffer of the arena, live from step `first` to step `last`."""

    name: str
    offset_bytes: int
    nbytes: int
    first: int
    last: int


class Memory(_Row):
    """The arena of the fitted program over time."""

    arena_bytes: int
    steps: tuple[str, ...]
    blocks: tuple[MemoryBlock, ...]


class Verification(_Row):
    """How the fitted program was compared with its reference.

    `samples` inputs were run on the target itself; `bit_exact` says that every output of an integer
    program equalled the integer reference; a float program states its error instead. Where the
    target is modelled, nothing `ran` on it: the accuracy on `samples` is that of the reference, and
    the weights of `layers` layers were checked against their structures and bits.
    """

    bit_exact: bool
    max_abs_error: float | None
    samples: int
    reference: str
    ran: bool = True
    layers: int = 0


class Search(_Row):
    """How well the plan was chosen: proven bound of the loss, rounds, validation accuracies.

    `validation_seen`: the given network is as good on validation as on training images, so it was
    probably trained on both; the loss on validation is then overstated.
    """

    rounds: int
    loss: float
    bound: float
    gap: float
    validation_dense: float
    validation_fitted: float
    validation_seen: bool = False


class Peer(_Row):
    """A runtime on the dense network, timed in turn with both of our programs in one run.

    `latency_s` is None where the runtime is absent; `note` says its version and settings, or why.
    `dense_s` and `fitted_s` are what our programs took in that run.
    """

    name: str
    latency_s: float | None
    dense_s: float
    fitted_s: float
    note: str


class DataRow(_Row):
    """Sizes of the splits."""

    name: str
    train: int
    validation: int
    test: int


class Summary(_Row):
    """Everything a fit found out. Times are seconds, sizes bytes, fractions of one.

    `seconds` is the wall-clock time of the fit over all processes it took; of a process that was
    killed, what came after its last whole stage is not counted.
    """

    format: Literal["cofit.summary"] = "cofit.summary"
    version: Literal[1] = 1
    name: str
    target: str
    device: dict[str, str]
    budget: str
    met: bool
    verdict: str
    limits: tuple[LimitRow, ...]
    accuracy_given: float
    dense: Side
    fitted: Side
    plan: tuple[PlanRow, ...]
    tried: tuple[Tried, ...]
    memory: Memory
    verification: Verification
    search: Search
    peers: tuple[Peer, ...]
    data: DataRow
    seed: int
    seconds: float
    versions: dict[str, str]
    config: str

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))

    @staticmethod
    def read(path: Path) -> Summary:
        """Read what `save` wrote."""
        return Summary.model_validate(read_json(path))
