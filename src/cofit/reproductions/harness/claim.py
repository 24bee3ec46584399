"""A claim: what was published, what was measured here, and by which stated rule it holds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, computed_field, model_validator

from cofit.core import Basis


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)  # computed fields are read back, so extras pass


class Measured(_Frozen):
    """What was measured: one value per seed, or a single one.

    Attributes:
        values: in `unit`; finite.
        unit: "x" for ratios, "%" or "points" for shares, else an SI unit or a noun.
    """

    values: tuple[float, ...]
    unit: str

    @model_validator(mode="after")
    def _finite(self) -> Measured:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise ValueError(f"measured values are {self.values}; give finite ones, at least one")
        return self

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over seeds; None of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def text(self) -> str:
        """Mean, spread and unit, for example "8.21 ± 0.30 x"."""
        spread = "" if self.spread is None else f" ± {_digits(self.spread)}"
        return f"{_digits(self.mean)}{spread} {self.unit}".rstrip()


def measured(values: float | Iterable[float], unit: str) -> Measured:
    """One value, or one per seed."""
    several = (values,) if isinstance(values, int | float) else tuple(values)
    return Measured(values=tuple(map(float, several)), unit=unit)


class Rule(_Frozen):
    """When a claim holds: its mean lies between `low` and `high`, those included.

    With `beyond_spread` it must lie beyond them by more than the spread over seeds.
    """

    low: float | None = None
    high: float | None = None
    beyond_spread: bool = False

    @property
    def text(self) -> str:
        """For example ">= 2" or "> 0 by more than the spread"."""
        if self.beyond_spread:
            sign, bound = (">", self.low) if self.low is not None else ("<", self.high)
            return f"{sign} {_digits(bound or 0.0)} by more than the spread"
        if self.low is not None and self.high is not None:
            return f"{_digits(self.low)} to {_digits(self.high)}"
        if self.low is not None:
            return f">= {_digits(self.low)}"
        return f"<= {_digits(self.high or 0.0)}"

    def holds(self, found: Measured) -> bool:
        """Whether what was measured satisfies the rule.

        A rule about spread cannot hold on a single value.
        """
        over = math.inf if self.low is None else found.mean - self.low
        under = math.inf if self.high is None else self.high - found.mean
        least = min(over, under)
        if self.beyond_spread:
            return found.spread is not None and least > found.spread
        return least >= 0


def at_least(low: float) -> Rule:
    """The mean is `low` or more."""
    return Rule(low=low)


def at_most(high: float) -> Rule:
    """The mean is `high` or less."""
    return Rule(high=high)


def between(low: float, high: float) -> Rule:
    """The mean lies in a window."""
    return Rule(low=low, high=high)


def above_spread(low: float = 0.0) -> Rule:
    """The mean exceeds `low` by more than the standard deviation over seeds."""
    return Rule(low=low, beyond_spread=True)


def below_spread(high: float = 0.0) -> Rule:
    """The mean is under `high` by more than the standard deviation over seeds."""
    return Rule(high=high, beyond_spread=True)


class Claim(_Frozen):
    """One row of a reproduction.

    Attributes:
        claim: what is claimed, in the field's terms, with its baseline.
        published: the published figure and where it stands; "not published" for our own bars.
        measured: what came out here.
        limit: the closed form or physical bound that the figure cannot pass.
        basis: how it was obtained.
        rule: decides `holds`; stated before the run.
        note: the setting.
        reason: why it does not hold, as far as known; shown where it does not.
    """

    claim: str
    published: str
    measured: Measured
    limit: str
    basis: Basis
    rule: Rule
    note: str = ""
    reason: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def holds(self) -> bool:
        """By the rule, never by hand."""
        return self.rule.holds(self.measured)

    @property
    def why_not(self) -> str:
        """Why the claim does not hold, as far as known; "" if it does."""
        if self.holds:
            return ""
        if self.rule.beyond_spread and self.measured.spread is None:
            return "one seed has no spread to exceed"
        return self.reason or "the cause is not known"


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
