"""One round: plan under the limits, train into the plan, lower, price, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cofit.core import Cost
from cofit.fit.planning import Plan
from cofit.fit.precision import Precision


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
        totals = self.cost.totals()
        found: dict[str, float] = {}
        for metric, limit in limits.items():
            if metric == "accuracy_drop":
                found[metric] = 1 + (dense_accuracy - self.accuracy) - limit
            else:
                found[metric] = float(totals[metric] or 0) / limit
        return found

    def rank(self, limits: Mapping[str, float], dense_accuracy: float) -> tuple[float, ...]:
        """Sort key, best first: hardware limits met, then accuracy met, then accuracy, latency."""
        over = self.overruns(limits, dense_accuracy)
        hardware = max((v for m, v in over.items() if m != "accuracy_drop"), default=0.0)
        drop = over.get("accuracy_drop", 0.0)
        excess = max(hardware, 1.0)
        return (excess, max(drop, 1.0), -self.accuracy, self.cost.latency_s)


def tightened(
    margins: Mapping[str, float], overruns: Mapping[str, float], slack: float = 0.99
) -> dict[str, float]:
    """Planning margins of the next round: what overran by f is planned for 1/f of its limit."""
    return {
        metric: margin * (slack / overruns[metric] if overruns.get(metric, 0) > 1 else 1.0)
        for metric, margin in margins.items()
    }
