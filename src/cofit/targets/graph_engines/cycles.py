"""Cycles of aggregation: one engine, one that follows islands, and two branches side by side.

An addition here is of one number; a row of width d is d of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cofit.core import ConfigError, TargetError
from cofit.targets.graph_engines.engine import GraphEngine


@dataclass(frozen=True)
class Work:
    """What an engine or a branch does.

    Attributes:
        additions: of numbers.
        bytes: that come from outside or go there.
        utilisation: share of its processing elements that work, above 0 and at most 1.
    """

    additions: float
    bytes: float
    utilisation: float = 1.0

    def __post_init__(self) -> None:
        if self.additions < 0 or self.bytes < 0 or not 0 < self.utilisation <= 1:
            raise ConfigError(f"{self}: work is not below 0, its utilisation above 0 and up to 1")


@dataclass(frozen=True)
class Cycles:
    """Of one engine or branch; arithmetic and memory overlap.

    Attributes:
        compute: cycles of arithmetic, with what its pieces wait for memory.
        memory: cycles of traffic.
        hidden: cycles of what runs beside both, such as finding islands.
        elements: processing elements that it has.
    """

    compute: float
    memory: float
    hidden: float
    elements: float

    @property
    def total(self) -> float:
        """The longest of them."""
        return max(self.compute, self.memory, self.hidden)


def single_cycles(work: Work, engine: GraphEngine) -> Cycles:
    """One engine with all processing elements and all bandwidth."""
    elements = engine.processing_elements
    compute = work.additions / (elements * work.utilisation)
    return Cycles(compute, work.bytes / engine.bytes_per_cycle, 0.0, elements)


def island_cycles(
    additions: ArrayLike, traffic: ArrayLike, visits: int, compared: int, engine: GraphEngine
) -> Cycles:
    """Islands one after the other; each waits for the longer of its arithmetic and its traffic.

    Args:
        additions: (islands + 1,) of numbers; what is between hubs comes last.
        traffic: (islands + 1,) bytes.
        visits: edges that the locator looks at.
        compared: nodes whose degree it compares, over all rounds.
        engine: with a locator.

    Raises:
        TargetError: the engine has no locator.
    """
    if engine.locator is None:
        raise TargetError(f"graph engine {engine.name!r} has no locator of islands")
    locator, elements = engine.locator, engine.processing_elements
    compute = np.asarray(additions, float) / elements
    memory = np.asarray(traffic, float) / engine.bytes_per_cycle
    search = visits / (locator.searches * locator.edges_per_cycle)
    return Cycles(
        float(np.maximum(compute, memory).sum()),
        float(memory.sum()),
        search + compared / locator.detectors,
        elements,
    )


def branch_cycles(branches: Sequence[Work], engine: GraphEngine) -> tuple[Cycles, ...]:
    """Branches side by side; the slowest decides.

    Each has processing elements in proportion to its additions and bandwidth in proportion to its
    bytes, so that only its utilisation sets it back.

    Raises:
        ConfigError: no branch adds anything.
    """
    additions = sum(branch.additions for branch in branches)
    if additions <= 0:
        raise ConfigError("branches without additions; give at least one that adds")
    memory = sum(branch.bytes for branch in branches) / engine.bytes_per_cycle
    found = []
    for branch in branches:
        elements = engine.processing_elements * branch.additions / additions
        compute = branch.additions / (elements * branch.utilisation) if elements else 0.0
        found.append(Cycles(compute, memory if branch.bytes else 0.0, 0.0, elements))
    return tuple(found)


def balance(work: ArrayLike) -> float:
    """Mean over maximum: the utilisation of units that do one piece each and wait for the last."""
    pieces = np.asarray(work, float)
    return float(pieces.mean() / pieces.max()) if pieces.size and pieces.max() > 0 else 1.0


def dealt(work: ArrayLike, units: int) -> float:
    """Utilisation of `units` that get pieces in turn, without regard to their size."""
    pieces = np.asarray(work, float)
    return balance(np.bincount(np.arange(len(pieces)) % units, pieces, units))
