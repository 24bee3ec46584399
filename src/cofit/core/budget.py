"""Budgets: "latency<=20ms, flash<=256KB, accuracy_drop<=1%"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cofit.core.errors import BudgetError, ConfigError
from cofit.core.units import Dimension, format_quantity, parse_quantity

METRICS: dict[str, tuple[Dimension, str]] = {
    # budget word: (dimension, key of Cost.totals())
    "latency": ("time", "latency_s"),
    "flash": ("bytes", "flash_bytes"),
    "ram": ("bytes", "ram_bytes"),
    "energy": ("energy", "energy_j"),
    "accuracy_drop": ("fraction", "accuracy_drop"),
}
_TERM = re.compile(r"\s*([a-z_]+)\s*(<=|≤)\s*(.+?)\s*")
_RATIO = re.compile(r"([0-9]*\.?[0-9]+)\s*x")


@dataclass(frozen=True)
class Limit:
    """One upper bound. `value` is SI, or a factor of the dense program's value if `relative`."""

    metric: str
    value: float
    relative: bool = False

    def __str__(self) -> str:
        if self.relative:
            return f"{self.metric}<={self.value:g}x"
        value = format_quantity(self.value, METRICS[self.metric][0]).replace(" ", "")
        return f"{self.metric}<={value}"


@dataclass(frozen=True)
class Budget:
    """Upper bounds, one per metric; accuracy_drop is a fraction of one (0.01 = one point)."""

    limits: tuple[Limit, ...]

    @staticmethod
    def parse(text: str) -> Budget:
        """Read a comma-separated list of `metric<=value`.

        Values are absolute ("20ms", "256KB", "1%") or, except accuracy_drop, relative to the dense
        program on the same target ("0.5x").

        Raises:
            BudgetError: naming the term, what is allowed and an example.
        """
        limits: dict[str, Limit] = {}
        for term in filter(str.strip, text.split(",")):
            match = _TERM.fullmatch(term)
            if match is None:
                raise BudgetError(
                    f"cannot read budget term {term.strip()!r}; write metric<=value, "
                    "for example latency<=20ms"
                )
            metric, value = match[1], match[3]
            if metric not in METRICS:
                raise BudgetError(f"unknown budget metric {metric!r}; known: {', '.join(METRICS)}")
            if metric in limits:
                raise BudgetError(f"budget names {metric!r} twice; keep one of them")
            limits[metric] = _limit(metric, value)
        if not limits:
            raise BudgetError(
                "the budget is empty; write for example latency<=0.5x, accuracy_drop<=1%"
            )
        return Budget(tuple(limits.values()))

    def resolve(
        self, dense: Mapping[str, float | None], target: str = "this target"
    ) -> dict[str, float]:
        """Absolute bound per metric, in SI units.

        Args:
            dense: the dense program's totals by budget word ("latency", "flash", ...); None where
                the target has no such quantity.
            target: its name, for the error.

        Raises:
            BudgetError: a metric the target cannot state.
        """
        bounds: dict[str, float] = {}
        for limit in self.limits:
            base = dense.get(limit.metric)
            if limit.metric != "accuracy_drop" and base is None:
                known = ", ".join(name for name, value in dense.items() if value is not None)
                raise BudgetError(f"{target} states no {limit.metric}; it states: {known}")
            bounds[limit.metric] = (
                limit.value * base if limit.relative and base is not None else limit.value
            )
        return bounds

    def __str__(self) -> str:
        return ", ".join(map(str, self.limits))


def _limit(metric: str, value: str) -> Limit:
    ratio = _RATIO.fullmatch(value)
    if ratio is not None:
        if metric == "accuracy_drop":
            raise BudgetError(
                "accuracy_drop is absolute; write it in percent, for example accuracy_drop<=1%"
            )
        limit = Limit(metric, float(ratio[1]), relative=True)
    else:
        try:
            limit = Limit(metric, parse_quantity(value, METRICS[metric][0]))
        except ConfigError as error:
            raise BudgetError(f"budget term {metric}<={value}: {error}") from error
    if limit.value <= 0 and metric != "accuracy_drop":
        raise BudgetError(f"budget {metric}<={value} can never be met; give a value above zero")
    return limit
