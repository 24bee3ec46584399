"""The configurations that are searched, as a space with bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cofit.core import ConfigError
from cofit.graphs.minibatch import POLICIES, Configuration
from cofit.search import Candidate, Decision, Space

ORDER = (
    "cache_policy", "cache_ratio", "batch_size", "fanouts", "family", "hidden", "feature_bits",
    "prefetch", "bias",
)  # fmt: skip
"""Of the decisions: what memory depends on most comes first."""


@dataclass(frozen=True)
class Grid:
    """Options of every variable, cheapest in memory first.

    Args:
        batch_size: rising.
        fanouts: per layer; no other one is below the first in any layer.
        family: of sampling.
        cache_policy: "none" is added where it is missing.
        cache_ratio: above 0, rising; 0 goes with "none".
        bias: rising, from 0.
        hidden: rising.
        feature_bits: rising.
        prefetch: rising.
        model: kind of layer.

    Raises:
        ConfigError: options out of order, or a configuration that cannot be.
    """

    batch_size: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    fanouts: tuple[tuple[int | None, ...], ...] = (
        (5, 5), (5, 10), (10, 10), (10, 15), (10, 25), (None, None),
    )  # fmt: skip
    family: tuple[str, ...] = ("node",)
    cache_policy: tuple[str, ...] = POLICIES
    cache_ratio: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5)
    bias: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    hidden: tuple[int, ...] = (64,)
    feature_bits: tuple[int, ...] = (16, 32)
    prefetch: tuple[int, ...] = (0, 1)
    model: str = "sage"

    def __post_init__(self) -> None:
        rising = ("batch_size", "cache_ratio", "bias", "hidden", "feature_bits", "prefetch")
        for name in rising:
            options = getattr(self, name)
            if not options or list(options) != sorted(set(options)):
                raise ConfigError(f"options of {name} are {options}; give rising ones, at least 1")
        least = self.fanouts[0]
        for other in self.fanouts:
            pairs = zip(least, other, strict=True) if len(other) == len(least) else [(1, 0)]
            if not all(b is None or (a is not None and a <= b) for a, b in pairs):
                raise ConfigError(
                    f"fan-outs {other} after {least}; begin with the least, of as many layers"
                )
        if self.bias[0] != 0 or self.cache_ratio[0] <= 0:
            raise ConfigError("bias must begin at 0 and cache_ratio above it")

    @cached_property
    def table(self) -> tuple[tuple[Any, ...], ...]:
        """Options of every decision of `ORDER`."""
        return tuple(self.options(name) for name in ORDER)

    def options(self, name: str) -> tuple[Any, ...]:
        """Of one decision."""
        if name == "cache_policy":
            return ("none", *(p for p in self.cache_policy if p != "none"))
        if name == "cache_ratio":
            return (0.0, *self.cache_ratio)
        found: tuple[Any, ...] = getattr(self, name)
        return found

    @property
    def space(self) -> Space:
        """Without a cache there is neither ratio nor bias."""

        def allowed(prefix: Candidate) -> list[bool]:
            name = ORDER[len(prefix)]
            options = self.table[len(prefix)]
            if name == "cache_ratio":
                return [(option == 0) == (prefix[0] == 0) for option in options]
            if name == "bias":
                return [option == 0 or prefix[0] != 0 for option in options]
            return [True] * len(options)

        return Space([Decision(name, self.options(name)) for name in ORDER], allowed)

    def configuration(self, candidate: Candidate) -> Configuration:
        """Of a candidate, or of the prefix of one with the cheapest options in memory."""
        chosen: dict[str, Any] = {}
        for place, name in enumerate(ORDER):
            options = self.table[place]
            if place < len(candidate):
                chosen[name] = options[candidate[place]]
            elif name == "cache_ratio":
                chosen[name] = options[0 if chosen["cache_policy"] == "none" else 1]
            else:
                chosen[name] = options[0]
        return Configuration(**chosen, model=self.model, layers=len(self.fanouts[0]))

    def cheapest(self, prefix: Candidate, memory: Callable[[Configuration], float]) -> float:
        """The least memory of any configuration that begins with a prefix."""
        place = ORDER.index("family")
        if len(prefix) > place:
            return memory(self.configuration(prefix))
        first = self.configuration(prefix)
        named = {name: getattr(first, name) for name in first.__dataclass_fields__}
        return min(memory(Configuration(**{**named, "family": each})) for each in self.family)
