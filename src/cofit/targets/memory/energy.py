"""Energy of a simulated run: how often things happened times what each takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cofit.targets.memory.placement import Placement
from cofit.targets.memory.simulate import Run
from cofit.targets.memory.system import EnergySet


@dataclass(frozen=True)
class Energy:
    """Picojoules by part; standby and refresh are not counted.

    Attributes:
        activate_pj: of opening rows.
        read_pj: of reading DRAM.
        io_pj: of the channel's pins.
        cache_pj: of caches.
        arithmetic_pj: of adding, and multiplying where lookups have weights.
    """

    activate_pj: float
    read_pj: float
    io_pj: float
    cache_pj: float
    arithmetic_pj: float

    @property
    def total_pj(self) -> float:
        """Sum of all parts."""
        return float(sum(asdict(self).values()))


def energy_of(
    run: Run, placement: Placement, energies: EnergySet, weighted: bool = False
) -> Energy:
    """Energy of a run, whose operands are float32.

    Args:
        run: what happened.
        placement: says how wide a vector is.
        energies: the set, chosen by name.
        weighted: whether every operand is multiplied.
    """
    burst_bits = 8 * placement.memory.geometry.burst_bytes
    values = run.lookups * placement.vector_bytes // 4
    operation = energies.add_pj + (energies.multiply_pj if weighted else 0.0)
    return Energy(
        activate_pj=run.activates * energies.activate_pj,
        read_pj=run.bursts * burst_bits * energies.read_pj_per_bit,
        io_pj=run.bursts_returned * burst_bits * energies.io_pj_per_bit,
        cache_pj=run.cache_accesses * placement.bursts * energies.cache_access_pj,
        arithmetic_pj=values * operation,
    )
