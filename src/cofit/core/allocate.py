"""Exact choice of one option per item under additive limits (multiple-choice knapsack by MILP)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
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

Charges = Mapping[str, Mapping[str, float]]
"""By metric: by thing, what it costs once."""


@dataclass(frozen=True)
class Choice:
    """One option of one item.

    Attributes:
        loss: it adds.
        costs: it adds, by metric.
        uses: what it shares with other choices; each thing is charged once (see `allocate`).
    """

    loss: float
    costs: Mapping[str, float]
    uses: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Allocation:
    """The chosen index per item, and how far from the optimum it can be at most.

    Attributes:
        picks: index of the chosen option, per item.
        loss: sum of the chosen losses.
        bound: proven lower bound of the loss of any feasible choice.
        totals: cost by metric, with fixed costs and charges.
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
    charges: Charges | None = None,
) -> Allocation:
    """Pick one option per item with the least total loss within every limit.

    Args:
        items: options per item; all options state the same metrics.
        limits: upper bound per metric on fixed plus chosen costs.
        fixed: cost by metric that no choice changes.
        charges: cost by metric and thing, not below zero, that is added once where at least one
            chosen option uses that thing, however many do.

    Raises:
        InfeasibleError: no pick meets the limits; names the metrics that bind (alone or
            jointly) and the least value each can reach.
    """
    problem = _Problem(items, fixed or {}, charges or {})
    solution = problem.solve(limits)
    if solution is None:
        raise InfeasibleError(_explain(problem, limits))
    picks, bound = solution
    loss = sum(choice.loss for choice in problem.chosen(picks))
    metrics = items[0][0].costs if items else {}
    totals = {metric: problem.total(metric, picks) for metric in metrics}
    return Allocation(picks, loss, min(bound, loss), totals)


def least(
    items: Sequence[Sequence[Choice]],
    metric: str,
    fixed: Mapping[str, float] | None = None,
    charges: Charges | None = None,
) -> float:
    """The least total of one metric that any pick reaches."""
    found = _Problem(items, fixed or {}, charges or {}).least(metric, {})
    assert found is not None  # without limits every pick will do
    return found


@dataclass(frozen=True)
class _Problem:
    items: Sequence[Sequence[Choice]]
    fixed: Mapping[str, float]
    charges: Charges

    def chosen(self, picks: Sequence[int]) -> list[Choice]:
        return [item[pick] for item, pick in zip(self.items, picks, strict=True)]

    def total(self, metric: str, picks: Sequence[int]) -> float:
        """Cost of a pick: what no choice changes, what the choices add, and what they share."""
        chosen = self.chosen(picks)
        used = frozenset[str]().union(*(choice.uses for choice in chosen))
        shared = sum(value for thing, value in self._charges_of(metric).items() if thing in used)
        return self.fixed.get(metric, 0.0) + sum(c.costs[metric] for c in chosen) + shared

    def least(self, metric: str, limits: Mapping[str, float]) -> float | None:
        """The least total of a metric within limits of others, None where nothing meets these."""
        if not limits and not self._charges_of(metric):
            mildest = (min(choice.costs[metric] for choice in item) for item in self.items)
            return self.fixed.get(metric, 0.0) + sum(mildest)
        solution = self.solve(limits, metric)
        return None if solution is None else self.total(metric, solution[0])

    def solve(
        self, limits: Mapping[str, float], of: str | None = None
    ) -> tuple[tuple[int, ...], float] | None:
        """The best picks and a bound of their objective: the loss, or the metric `of`.

        Beside a variable per option there is one per thing that options use, not below the share of
        any single item's options that use it: 1 as soon as one of these is chosen.
        """
        if not self.items:
            within = all(self.fixed.get(m, 0.0) <= limit for m, limit in limits.items())
            return ((), 0.0) if within else None
        choices = [choice for item in self.items for choice in item]
        starts = np.cumsum([0, *(len(item) for item in self.items)])
        owner = np.repeat(np.arange(len(self.items)), np.diff(starts))
        things = sorted({t for by_thing in self.charges.values() for t in by_thing})
        count, width = len(choices), len(choices) + len(things)
        places = (owner, np.arange(count))
        one_each = csr_array((np.ones(count), places), shape=(len(self.items), width))
        constraints = [LinearConstraint(one_each, 1, 1)]
        if (used := self._used(choices, owner, things)) is not None:
            constraints.append(LinearConstraint(used, -np.inf, 0))

        def row(metric: str) -> NDArray[np.float64]:
            shared = self._charges_of(metric)
            costs = [choice.costs[metric] for choice in choices]
            return np.array([*costs, *(shared.get(thing, 0.0) for thing in things)])

        for metric, limit in limits.items():
            room = limit - self.fixed.get(metric, 0.0)
            costs = row(metric)
            scale = max(float(np.abs(costs).max()), abs(room), 1e-300)  # HiGHS is absolute
            constraints.append(LinearConstraint(costs[None] / scale, -np.inf, room / scale))
        losses = np.array([*(choice.loss for choice in choices), *[0.0] * len(things)])
        objective = losses if of is None else row(of)
        unit = max(float(np.abs(objective).max()), 1e-300)
        result = milp(
            objective / unit,
            integrality=np.ones(width),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"time_limit": TIME_LIMIT_S, "mip_rel_gap": 1e-9},
        )
        if result.x is None:
            return None
        picks = tuple(int(np.argmax(result.x[a:b])) for a, b in itertools.pairwise(starts))
        bound = result.mip_dual_bound if result.mip_dual_bound is not None else result.fun
        return picks, float(bound) * unit

    def _charges_of(self, metric: str) -> Mapping[str, float]:
        return self.charges.get(metric, {})

    def _used(
        self, choices: Sequence[Choice], owner: NDArray[np.int64], things: Sequence[str]
    ) -> csr_array | None:
        """Rows (item, thing) of: options of the item that use the thing, less the thing."""
        rows: dict[tuple[int, int], int] = {}
        entries: list[tuple[float, int, int]] = []
        for option, choice in enumerate(choices):
            for index, thing in enumerate(things):
                if thing in choice.uses:
                    pair = (int(owner[option]), index)
                    if pair not in rows:
                        rows[pair] = len(rows)
                        entries.append((-1.0, rows[pair], len(choices) + index))
                    entries.append((1.0, rows[pair], option))
        if not entries:
            return None
        values, down, across = zip(*entries, strict=True)
        shape = (len(rows), len(choices) + len(things))
        return csr_array((values, (down, across)), shape=shape)


def _explain(problem: _Problem, limits: Mapping[str, float]) -> str:
    texts = []
    for metric, limit in limits.items():
        reach = problem.least(metric, {})
        if reach is not None and reach > limit:
            texts.append(_binding(metric, limit, reach))
    if not texts:  # each limit alone can be met: state the least of each under the others
        for metric, limit in limits.items():
            reach = problem.least(metric, {m: v for m, v in limits.items() if m != metric})
            if reach is not None:
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
