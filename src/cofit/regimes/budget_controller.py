"""Meeting a budget: a multiplier that follows a differentiable cost, and bisection on a dial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cofit.core import ConfigError, InfeasibleError


class BudgetController:
    """A Lagrange multiplier for cost <= budget, moved by dual ascent on a running mean.

    lambda <- max(0, lambda + rate (mean / budget - 1)), mean <- decay mean + (1 - decay) cost.

    Args:
        budget: bound on the cost, in the cost's unit, > 0.
        rate: step of lambda per update.
        decay: of the running mean, in [0, 1).
    """

    def __init__(self, budget: float, rate: float = 0.01, decay: float = 0.9) -> None:
        if budget <= 0 or rate <= 0 or not 0 <= decay < 1:
            raise ConfigError(
                f"budget controller got budget={budget}, rate={rate}, decay={decay}; "
                "budget and rate must be positive, decay in [0, 1)"
            )
        self.weight = 0.0
        self.mean: float | None = None
        self._budget = budget
        self._rate = rate
        self._decay = decay

    def loss(self, cost: torch.Tensor) -> torch.Tensor:
        """The product lambda cost / budget, a scalar in float32, at the present lambda."""
        return self.weight * cost.float() / self._budget

    def update(self, cost: float) -> None:
        """Move the mean and lambda by one observed cost."""
        self.mean = (
            cost if self.mean is None else self._decay * self.mean + (1 - self._decay) * cost
        )
        self.weight = max(0.0, self.weight + self._rate * (self.mean / self._budget - 1))

    def state_dict(self) -> dict[str, Any]:
        """Lambda and the running mean."""
        return {"weight": self.weight, "mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.weight, self.mean = state["weight"], state["mean"]


def bisect(
    cost: Callable[[float], float],
    budget: float,
    least: float,
    most: float,
    tolerance: float = 1e-3,
) -> float:
    """The smallest dial in [least, most], within a tolerance, whose cost meets the budget.

    Args:
        cost: falls (not strictly) as the dial rises, for example the latency by pruning rate.
        budget: bound on the cost.
        least: lower end of the dial.
        most: upper end.
        tolerance: greatest distance to the smallest feasible dial.

    Returns:
        A dial with cost(dial) <= budget.

    Raises:
        InfeasibleError: even cost(most) exceeds the budget.
    """
    if not (least <= most and tolerance > 0):
        raise ConfigError(f"bisection from {least} to {most} with tolerance {tolerance}")
    if cost(least) <= budget:
        return least
    if (reachable := cost(most)) > budget:
        raise InfeasibleError(f"budget {budget:g} is out of reach; the least cost is {reachable:g}")
    while most - least > tolerance:
        middle = 0.5 * (least + most)
        if middle in (least, most):
            break
        if cost(middle) <= budget:
            most = middle
        else:
            least = middle
    return most
