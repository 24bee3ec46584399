"""Partitions of a chip into sub-accelerators: their costs, and where to look for good ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cofit.core import ConfigError, InfeasibleError, UnknownNameError
from cofit.targets.heterogeneous.chip import Chip
from cofit.targets.heterogeneous.costs import CostTable, cost_table
from cofit.targets.heterogeneous.dataflows import dataflow
from cofit.targets.heterogeneous.networks import Mix
from cofit.targets.heterogeneous.scheduler import best_schedule
from cofit.targets.heterogeneous.workload import Schedule, Workload

SAMPLINGS = ("grid", "binary", "random")


@dataclass(frozen=True)
class Part:
    """A sub-accelerator.

    Attributes:
        dataflow: its name.
        units: its share of the chip's, in steps.
        bandwidth: its share of the chip's, in steps.
    """

    dataflow: str
    units: int
    bandwidth: int


Design = tuple[Part, ...]


@dataclass(frozen=True)
class Bench:
    """A mix on partitions of a chip; costs are computed once for all sizes of an array.

    A layer may use an equal part of the buffer on each sub-accelerator.

    Attributes:
        mix: what runs.
        chip: what is divided.
        steps: in which units and bandwidth are divided.
        objective: by which mappings are chosen: "edp", "cycles" or "energy".
        static_pj: energy of a unit per cycle, busy or not.
    """

    mix: Mix
    chip: Chip
    steps: int = 8
    objective: str = "edp"
    static_pj: float = 0.0
    _tables: dict[tuple[str, int], CostTable] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.steps < 1 or self.chip.units < self.steps:
            raise ConfigError(
                f"{self.chip.units} units of {self.chip.name!r} cannot be divided into "
                f"{self.steps} steps; give at least one unit to a step"
            )

    @property
    def static_chip_pj(self) -> float:
        """Energy of all units per cycle."""
        return self.static_pj * self.chip.units

    def table(self, name: str, parts: int) -> CostTable:
        """Costs (layers of the mix, units, bandwidths) of a dataflow with 1 to all steps each.

        Args:
            name: of the dataflow.
            parts: sub-accelerators that share the buffer.

        Raises:
            UnknownNameError: there is no such dataflow.
        """
        if (name, parts) not in self._tables:
            shares = range(1, self.steps + 1)
            self._tables[name, parts] = cost_table(
                self.mix.layers,
                dataflow(name),
                [self.chip.units * share // self.steps for share in shares],
                [self.chip.bandwidth * share / self.steps for share in shares],
                self.chip,
                self.chip.buffer_bits / parts,
                self.objective,
            )
        return self._tables[name, parts]

    def workload(self, design: Design) -> Workload:
        """The mix with the costs of a partition.

        Raises:
            ConfigError: no parts, a part without units or bandwidth, or more than there is.
        """
        self._check(design)
        columns = []
        for part in design:
            table = self.table(part.dataflow, len(design))
            at = part.units - 1, part.bandwidth - 1
            columns.append(
                [c[:, at[0], at[1]] for c in (table.cycles, table.energy_pj, table.buffer_bits)]
            )
        cycles, energy, held = (np.stack(column, axis=1) for column in zip(*columns, strict=True))
        return self.mix.workload(cycles, energy, held)

    def schedule(self, design: Design) -> Schedule:
        """The best schedule of a partition.

        Raises:
            ConfigError: see `workload`.
            InfeasibleError: a layer runs on none of its parts.
        """
        return best_schedule(
            self.workload(design), self.chip.buffer_bits, self.static_chip_pj, self.objective
        )

    def _check(self, design: Design) -> None:
        if not design:
            raise ConfigError("a design has no sub-accelerator; give at least one")
        for what in ("units", "bandwidth"):
            shares = [getattr(part, what) for part in design]
            if min(shares) < 1 or sum(shares) > self.steps:
                raise ConfigError(
                    f"sub-accelerators with {', '.join(map(str, shares))} of {self.steps} steps of "
                    f"{what}; each needs at least 1, all together no more than there are"
                )


def designs(
    dataflows: Sequence[str],
    steps: int = 8,
    sampling: str = "grid",
    count: int = 16,
    generator: np.random.Generator | None = None,
) -> Iterator[Design]:
    """Partitions of all units and all bandwidth.

    Args:
        dataflows: of the sub-accelerators.
        steps: of units and of bandwidth.
        sampling: "grid" for all, "binary" for shares that come from halving, "random" for some.
        count: of random ones, at most as many as there are.
        generator: of random ones.

    Raises:
        UnknownNameError: another sampling.
        ConfigError: random ones without a generator.
    """
    if sampling not in SAMPLINGS:
        raise UnknownNameError("sampling", sampling, SAMPLINGS)
    shares = list(_shares(len(dataflows), steps))
    if sampling == "binary":
        halves = {steps >> k for k in range(steps.bit_length())}
        halves |= {steps - half for half in halves}
        shares = [share for share in shares if halves.issuperset(share)]
    pairs = list(itertools.product(shares, shares))
    if sampling == "random":
        if generator is None:
            raise ConfigError("random partitions need a generator; pass one")
        drawn = generator.permutation(len(pairs))[:count]
        pairs = [pairs[index] for index in drawn]
    for units, bandwidth in pairs:
        yield tuple(Part(*part) for part in zip(dataflows, units, bandwidth, strict=True))


def _shares(parts: int, steps: int) -> Iterator[tuple[int, ...]]:
    """All ways to divide steps into so many positive parts."""
    for cuts in itertools.combinations(range(1, steps), parts - 1):
        edges = (0, *cuts, steps)
        yield tuple(b - a for a, b in itertools.pairwise(edges))


def explore(bench: Bench, among: Iterable[Design]) -> dict[Design, Schedule]:
    """The best schedule of every design on which all layers run."""
    found = {}
    for design in among:
        try:
            found[design] = bench.schedule(design)
        except InfeasibleError:
            continue
    return found
