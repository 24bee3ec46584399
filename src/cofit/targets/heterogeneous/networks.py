"""Networks as layers that wait for each other, and mixes of several of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

import numpy as np

from cofit.core import ConfigError
from cofit.ir import Graph
from cofit.targets.dataflow import Layer
from cofit.targets.dataflow.network import layers_of
from cofit.targets.heterogeneous.workload import Array, Workload


@dataclass(frozen=True)
class Network:
    """Layers in an order in which they can run.

    Attributes:
        name: of the network.
        layers: what runs on arrays; other ops are taken to be free.
        before: for each layer, those whose outputs it reads; earlier ones.
    """

    name: str
    layers: tuple[Layer, ...]
    before: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(name: str, layers: Sequence[Layer], before: Sequence[Sequence[int]]) -> Network:
        """A network of layers in any order; one in which they can run is kept.

        Raises:
            ConfigError: there are none, or some wait for each other or for one that is not there.
        """
        if not layers or len(before) != len(layers):
            raise ConfigError(f"network {name!r} has {len(layers)} layers, {len(before)} lists")
        for layer, needed in zip(layers, before, strict=True):
            if any(not 0 <= other < len(layers) for other in needed):
                raise ConfigError(
                    f"network {name!r}: layer {layer.name!r} waits for {tuple(needed)}; there are "
                    f"layers 0 to {len(layers) - 1}"
                )
        try:
            order = list(TopologicalSorter(dict(enumerate(before))).static_order())
        except CycleError as error:
            names = ", ".join(repr(layers[index].name) for index in error.args[1])
            raise ConfigError(
                f"network {name!r}: layers {names} wait for each other; cut the cycle"
            ) from error
        if all(other < at for at, needed in enumerate(before) for other in needed):
            order = list(range(len(layers)))
        place = {layer: at for at, layer in enumerate(order)}
        return Network(
            name,
            tuple(layers[layer] for layer in order),
            tuple(tuple(sorted({place[o] for o in before[layer]})) for layer in order),
        )

    @staticmethod
    def chain(name: str, layers: Sequence[Layer]) -> Network:
        """A network in which each layer waits for the one before, as a list of layers says."""
        return Network.of(name, layers, [[at - 1] if at else [] for at in range(len(layers))])

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(layer.macs for layer in self.layers)


def network_of(graph: Graph, name: str, float_bits: int = 8, psum_bits: int = 24) -> Network:
    """The layers of a traced network; ops without multiply-accumulates only pass on what waits.

    Raises:
        ConfigError: no op has multiply-accumulates.
    """
    carried: dict[str, frozenset[int]] = {}
    layers: list[Layer] = []
    before: list[tuple[int, ...]] = []
    for op in graph.ops:
        needed = frozenset[int]().union(*(carried.get(name, ()) for name in op.inputs))
        for layer in layers_of(graph, op, float_bits, psum_bits):
            before.append(tuple(sorted(needed)))
            needed = frozenset((len(layers),))
            layers.append(layer)
        carried[op.output] = needed
    return Network.of(name, layers, before)


@dataclass(frozen=True)
class Job:
    """Instances of a network that run independently of each other.

    Attributes:
        network: what runs.
        count: instances.
        releases: cycle at which each instance arrives; all at once if empty.
    """

    network: Network
    count: int = 1
    releases: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 1 or len(self.releases) not in (0, self.count):
            raise ConfigError(
                f"{self.count} instances of {self.network.name!r} with {len(self.releases)} "
                "releases; give one each, or none"
            )


@dataclass(frozen=True)
class Mix:
    """Jobs that share a chip.

    Raises:
        ConfigError: there are none.
    """

    jobs: tuple[Job, ...]

    def __post_init__(self) -> None:
        if not self.jobs:
            raise ConfigError("no networks are given; give at least one")

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Layers of one instance of each job."""
        return tuple(layer for job in self.jobs for layer in job.network.layers)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Network of each instance."""
        return tuple(job.network.name for job in self.jobs for _ in range(job.count))

    def workload(self, cycles: Array, energy_pj: Array, buffer_bits: Array) -> Workload:
        """All instances, from costs (layers of `layers`, units)."""
        before: list[tuple[int, ...]] = []
        instance: list[int] = []
        rows: list[int] = []
        release: list[float] = []
        first = instances = 0
        for job in self.jobs:
            size = len(job.network.layers)
            for at in range(job.count):
                base = len(rows)
                before += [tuple(base + o for o in needed) for needed in job.network.before]
                rows += range(first, first + size)
                instance += [instances] * size
                release += [job.releases[at] if job.releases else 0.0] * size
                instances += 1
            first += size
        at_rows = np.array(rows)
        return Workload(
            tuple(before),
            tuple(instance),
            cycles[at_rows],
            energy_pj[at_rows],
            buffer_bits[at_rows],
            tuple(release),
        )
