"""One round: plan under the limits, train into the plan, lower, price, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cofit.core import Cost
from cofit.fit.planning import Plan
from cofit.fit.precision import Precision

SLACK = 0.99
"""Share of a limit that a corrected plan aims at."""

ROOM = 0.85
"""Below this share of every hardware limit, a plan gave away more than it had to."""


@dataclass(frozen=True)
class Outcome:
    """A network that was trained, compiled and priced.

    Attributes:
        label: name of its files in the state folder.
        plan: what was chosen.
        precision: of the program.
        removed: channels removed, by the weight they were outputs of.
        cost: rows on the target.
        accuracy: on the validation split.
    """

    label: str
    plan: Plan
    precision: Precision
    removed: Mapping[str, int]
    cost: Cost
    accuracy: float

    def overruns(self, limits: Mapping[str, float], dense_accuracy: float) -> dict[str, float]:
        """Value over limit by budget word; at most 1 where the limit is met.

        An accuracy drop counts as 1 + (drop - limit) so that it compares in points.
        """
        hardware = {metric: v for metric, v in limits.items() if metric != "accuracy_drop"}
        found = overruns_of(self.cost, hardware)
        if "accuracy_drop" in limits:
            found["accuracy_drop"] = 1 + self.drop(dense_accuracy) - limits["accuracy_drop"]
        return found

    def drop(self, dense_accuracy: float) -> float:
        """Accuracy lost to the dense network."""
        return dense_accuracy - self.accuracy

    def rank(self, limits: Mapping[str, float], dense_accuracy: float) -> tuple[float, ...]:
        """Sort key, best first: hardware limits met, then accuracy met, then accuracy, latency."""
        over = self.overruns(limits, dense_accuracy)
        hardware = max((v for m, v in over.items() if m != "accuracy_drop"), default=0.0)
        drop = over.get("accuracy_drop", 0.0)
        excess = max(hardware, 1.0)
        return (excess, max(drop, 1.0), -self.accuracy, self.cost.latency_s)


def overruns_of(cost: Cost, limits: Mapping[str, float]) -> dict[str, float]:
    """Value over limit by budget word; at most 1 where the limit is met."""
    totals = cost.totals()
    return {metric: float(totals[metric] or 0) / limit for metric, limit in limits.items()}


def adjusted(margins: Mapping[str, float], overruns: Mapping[str, float]) -> dict[str, float]:
    """Planning margins of the next plan.

    What overran its limit by a factor f is planned for 1/f of it; if everything was met with room
    to spare, all are planned for as much more as the tightest allows.
    """
    hardware = {metric: overruns[metric] for metric in margins}
    if max(hardware.values()) < ROOM:
        return {metric: m * SLACK / max(hardware.values()) for metric, m in margins.items()}
    return {
        metric: m * (SLACK / hardware[metric] if hardware[metric] > 1 else 1.0)
        for metric, m in margins.items()
    }
