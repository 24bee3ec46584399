"""Which platform gets more frames out of a joule, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cofit.core import ConfigError, numpy_generator
from cofit.targets.platforms.model import PRUNED_SHARE, Draws, Estimate, estimate
from cofit.targets.platforms.tables import Parameters
from cofit.targets.platforms.work import LayerWork

DRAWS = 1000
SPREAD = 0.3
"""Every number that is not published varies by a factor of 1.3 either way, log-uniformly."""

MEASURES = ("model", "board")


@dataclass(frozen=True, eq=False)
class Entry:
    """One bar of a comparison: a network, compressed somehow, on a platform."""

    label: str
    estimate: Estimate
    accuracy: float | None = None

    def efficiency(self, measure: str = "model") -> Draws:
        """Frames per joule, one per draw; by energies ("model") or by the board's power."""
        found = self.estimate
        return found.frames_per_j if measure == "model" else found.board_frames_per_j

    def interval(self, measure: str = "model") -> tuple[float, float, float]:
        """Undrawn value, 5th and 95th percentile of the draws."""
        values = self.efficiency(measure)
        low, high = np.percentile(values, [5, 95])
        return float(values[0]), float(low), float(high)


@dataclass(frozen=True)
class Ranking:
    """A statement about an order, which is never made without its frequency.

    Attributes:
        labels: best first, by the undrawn values.
        share: of draws in which they stand in this order.
        draws: how many there were.
    """

    labels: tuple[str, ...]
    share: float
    draws: int

    def __str__(self) -> str:
        order = " before ".join(self.labels)
        return f"{order} in {100 * self.share:.0f} % of {self.draws} draws"


def draw(found: Parameters, count: int = DRAWS, seed: int = 0) -> dict[str, Draws]:
    """Factors on every number of a platform that is not published.

    Energies of operations are the same numbers on all platforms, and so are their factors.

    Raises:
        ConfigError: fewer than one draw.
    """
    if count < 1:
        raise ConfigError(f"{count} draws; give at least 1")
    top = math.log(1 + SPREAD)
    factors = {}
    for name, tag in found.tags.items():
        if tag != "published":
            owner = "" if name.startswith("energy.") else found.name
            generator = numpy_generator(seed, "platforms", owner, name)
            factors[name] = np.exp(generator.uniform(-top, top, count))
    return factors


def entry(
    label: str,
    found: Parameters,
    works: Sequence[LayerWork],
    accuracy: float | None = None,
    draws: int = DRAWS,
    pruned_share: Mapping[str, float] = PRUNED_SHARE,
) -> Entry:
    """A network on a platform, with its draws."""
    return Entry(label, estimate(found, works, draw(found, draws), pruned_share), accuracy)


def rank(entries: Sequence[Entry], measure: str = "model") -> Ranking:
    """Entries by efficiency, and how often the draws agree with the whole order.

    Raises:
        ConfigError: fewer than two, no draws, or no such measure.
    """
    if len(entries) < 2 or measure not in MEASURES:
        raise ConfigError(
            f"{len(entries)} entries by {measure!r}; give two or more, by {' or '.join(MEASURES)}"
        )
    ordered = sorted(entries, key=lambda e: -float(e.efficiency(measure)[0]))
    values = np.stack([e.efficiency(measure)[1:] for e in ordered])
    if not values.shape[1]:
        raise ConfigError("a ranking is stated with its frequency only; estimate with draws")
    holds = (values[:-1] >= values[1:]).all(0)
    return Ranking(tuple(e.label for e in ordered), float(holds.mean()), values.shape[1])


def pareto(entries: Sequence[Entry], measure: str = "model") -> tuple[str, ...]:
    """Labels of entries that none beats in both accuracy and efficiency."""
    known = [(e.label, e.accuracy, float(e.efficiency(measure)[0])) for e in entries]
    points = [(label, a, v) for label, a, v in known if a is not None]

    def beaten(accuracy: float, value: float) -> bool:
        return any(
            a >= accuracy and v >= value and (a > accuracy or v > value) for _, a, v in points
        )

    return tuple(label for label, a, v in points if not beaten(a, v))


def implied_power_w(operations_per_s: float, operations_per_j: float) -> float:
    """Watts that an efficiency accounts for."""
    return operations_per_s / operations_per_j


def power_statement(operations_per_s: float, operations_per_j: float, board_power_w: float) -> str:
    """Whether a published efficiency can be the board's, in words.

    An efficiency above what the board's power allows counts the power of something less: the chip,
    or a rail of it.
    """
    implied = implied_power_w(operations_per_s, operations_per_j)
    text = (
        f"{operations_per_s / 1e9:.0f} Gop/s at {operations_per_j / 1e9:.0f} Gop/s/W is "
        f"{implied:.1f} W"
    )
    if implied < board_power_w:
        return f"{text}: not board power, which is {board_power_w:g} W"
    return f"{text}: within the board's {board_power_w:g} W"
