"""Exact choice of one option per item under additive limits (multiple-choice knapsack by MILP)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from cofit.core.errors import InfeasibleError
from cofit.core.units import Dimension, format_quantity

TIME_LIMIT_S = 20.0
_DIMENSION: dict[str, Dimension] = {
    "latency": "time",
    "flash": "bytes",
    "ram": "bytes",
    "energy": "energy",
}


@dataclass(frozen=True)
class Choice:
    """One option of one item: the loss it adds and what it costs, by metric."""

    loss: float
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Allocation:
    """The chosen index per item, and how far from the optimum it can be at most.

    Attributes:
        picks: index of the chosen option, per item.
        loss: sum of the chosen losses.
        bound: proven lower bound of the loss of any feasible choice.
        totals: cost by metric, fixed costs included.
    """

    picks: tuple[int, ...]
    loss: float
    bound: float
    totals: Mapping[str, float]

    @property
    def gap(self) -> float:
        """(loss - bound) / |loss|: zero when proven optimal."""
        return relative_gap(self.loss, self.bound)


def relative_gap(loss: float, bound: float) -> float:
    """(loss - bound) / |loss|, not below zero; zero where both are."""
    return max(0.0, loss - bound) / max(abs(loss), 1e-12)


def allocate(
    items: Sequence[Sequence[Choice]],
    limits: Mapping[str, float],
    fixed: Mapping[str, float] | None = None,
) -> Allocation:
    """Pick one option per item with the least total loss within every limit.

    Args:
        items: options per item; all options state the same metrics.
        limits: upper bound per metric on fixed plus chosen costs.
        fixed: cost by metric that no choice changes.

    Raises:
        InfeasibleError: no pick meets the limits; names the metrics that bind (alone or
            jointly) and the least value each can reach.
    """
    base = {metric: (fixed or {}).get(metric, 0.0) for metric in limits}
    solution = _solve(items, [choice.loss for item in items for choice in item], limits, base)
    if solution is None:
        raise InfeasibleError(_explain(items, limits, base))
    picks, bound = solution
    chosen = [item[pick] for item, pick in zip(items, picks, strict=True)]
    loss = sum(choice.loss for choice in chosen)
    metrics = items[0][0].costs if items else {}
    totals = {
        metric: (fixed or {}).get(metric, 0.0) + sum(choice.costs[metric] for choice in chosen)
        for metric in metrics
    }
    return Allocation(picks, loss, min(bound, loss), totals)


def least(
    items: Sequence[Sequence[Choice]], metric: str, fixed: Mapping[str, float] | None = None
) -> float:
    """The least total of one metric that any pick reaches."""
    start = (fixed or {}).get(metric, 0.0)
    return start + sum(min(choice.costs[metric] for choice in item) for item in items)


def _solve(
    items: Sequence[Sequence[Choice]],
    objective: Sequence[float],
    limits: Mapping[str, float],
    base: Mapping[str, float],
) -> tuple[tuple[int, ...], float] | None:
    if not items:
        return ((), 0.0) if all(base[m] <= limits[m] for m in limits) else None
    starts = np.cumsum([0, *(len(item) for item in items)])
    count = int(starts[-1])
    owner = np.repeat(np.arange(len(items)), np.diff(starts))
    one_each = csr_array((np.ones(count), (owner, np.arange(count))), shape=(len(items), count))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for metric, limit in limits.items():
        row = np.array([choice.costs[metric] for item in items for choice in item])
        room = limit - base[metric]
        scale = max(float(np.abs(row).max()), abs(room), 1e-300)  # HiGHS tolerances are absolute
        constraints.append(LinearConstraint(row[None] / scale, -np.inf, room / scale))
    losses = np.asarray(objective, float)
    unit = max(float(np.abs(losses).max()), 1e-300)
    result = milp(
        losses / unit,
        integrality=np.ones(count),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"time_limit": TIME_LIMIT_S, "mip_rel_gap": 1e-9},
    )
    if result.x is None:
        return None
    picks = tuple(int(np.argmax(result.x[a:b])) for a, b in itertools.pairwise(starts))
    bound = result.mip_dual_bound if result.mip_dual_bound is not None else result.fun
    return picks, float(bound) * unit


def _explain(
    items: Sequence[Sequence[Choice]], limits: Mapping[str, float], base: Mapping[str, float]
) -> str:
    texts = []
    for metric, limit in limits.items():
        reach = least(items, metric, base)
        if reach > limit:
            texts.append(_binding(metric, limit, reach))
    if not texts:  # each limit alone can be met: state the least of each under the others
        for metric, limit in limits.items():
            others = {m: v for m, v in limits.items() if m != metric}
            costs = [choice.costs[metric] for item in items for choice in item]
            solved = _solve(items, costs, others, base)
            if solved is not None:
                reach = base[metric] + sum(
                    item[p].costs[metric] for item, p in zip(items, solved[0], strict=True)
                )
                texts.append(_binding(metric, limit, reach) + " with the other limits held")
    return (
        f"no plan meets the budget: {'; '.join(texts)}; raise that limit or allow more structures "
        "and higher rates"
    )


def _binding(metric: str, limit: float, reach: float) -> str:
    dimension = _DIMENSION.get(metric)
    if dimension is None:
        return f"{metric} binds: limit {limit:g}, reachable minimum {reach:g}"
    return (
        f"{metric} binds: limit {format_quantity(limit, dimension)}, "
        f"reachable minimum {format_quantity(reach, dimension)}"
    )
