"""What predictions and choices are worth, from stored measurements alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.model_selection import KFold

from cofit.core import ConfigError
from cofit.graphs.minibatch import Device
from cofit.reproductions.gnnavigator.estimator import FOLDS, Estimator, Profile, tree_only
from cofit.search import Outcome, Space, Strategy

Reals = NDArray[np.float64]
TARGETS = ("epoch_s", "peak_bytes")
WAYS = ("gray-box", "analytic", "trees")


@dataclass
class Held:
    """Predictions of held-out profiles beside what was measured.

    Attributes:
        measured: by target.
        predicted: by (way, target).
        groups: of each row, such as its graph; order is judged within groups.
    """

    measured: dict[str, list[float]] = field(default_factory=lambda: {t: [] for t in TARGETS})
    predicted: dict[tuple[str, str], list[float]] = field(
        default_factory=lambda: {(w, t): [] for w in WAYS for t in TARGETS}
    )
    groups: list[int] = field(default_factory=list)

    def error(self, way: str, target: str) -> float:
        """Mean absolute percentage error, as a fraction."""
        found, true = (np.array(v) for v in (self.predicted[way, target], self.measured[target]))
        return float(np.mean(np.abs(found / true - 1)))

    def order(self, way: str, target: str) -> float:
        """Kendall's tau, the mean over groups."""
        groups, found = np.array(self.groups), np.array(self.predicted[way, target])
        true = np.array(self.measured[target])
        return float(np.mean([
            kendalltau(found[groups == g], true[groups == g]).statistic for g in np.unique(groups)
        ]))  # fmt: skip


def hold_out(profiles: Sequence[Profile], device: Device, seed: int) -> Held:
    """Every profile predicted from four fifths of the others, graphs mixed."""
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    return _held(profiles, [test for _, test in folds.split(np.arange(len(profiles)))],
                 device, seed)  # fmt: skip


def leave_one_graph_out(profiles: Sequence[Profile], device: Device, seed: int) -> Held:
    """Every graph's profiles predicted from those of the other graphs.

    Raises:
        ConfigError: there is one graph only.
    """
    numbers = _graphs(profiles)
    if len(set(numbers)) < 2:
        raise ConfigError("profiles of one graph; leaving one out needs two or more")
    parts = [np.flatnonzero(np.array(numbers) == g) for g in sorted(set(numbers))]
    return _held(profiles, parts, device, seed)


def _graphs(profiles: Sequence[Profile]) -> list[int]:
    known: dict[int, int] = {}
    return [known.setdefault(id(p.closed), len(known)) for p in profiles]


def _held(
    profiles: Sequence[Profile], parts: Sequence[NDArray[np.int64]], device: Device, seed: int
) -> Held:
    result, numbers = Held(), _graphs(profiles)
    for part in parts:
        inside = set(part.tolist())
        known = [p for i, p in enumerate(profiles) if i not in inside]
        asked = [profiles[i] for i in part]
        estimator = Estimator(known, device, seed)
        result.groups += [numbers[i] for i in part]
        for target in TARGETS:
            result.measured[target] += [float(getattr(p.measured, target)) for p in asked]
            trees = tree_only(known, asked, target, seed)
            result.predicted["trees", target] += [float(v) for v in trees]
        for p in asked:
            time, memory, _ = estimator.central(p.closed, [p.configuration])
            result.predicted["gray-box", "epoch_s"].append(float(time[0]))
            result.predicted["gray-box", "peak_bytes"].append(float(memory[0]))
            seconds, nbytes = estimator.analytic(p.closed, p.configuration)
            result.predicted["analytic", "epoch_s"].append(seconds)
            result.predicted["analytic", "peak_bytes"].append(nbytes)
    return result


@dataclass(frozen=True)
class Choice:
    """A point of an exhaustively measured grid that some method chose within a budget.

    Attributes:
        regret: its time over the best feasible one's, less one; infinite if it does not fit.
        memory: its measured peak over the budget.
    """

    regret: float
    memory: float


def choose(predicted: Reals, times: Reals, memory: Reals, budget: float) -> Choice | None:
    """The regret of taking the least predicted time among what is predicted to fit.

    Args:
        predicted: (m, 2) time and memory.
        times: (m,) measured.
        memory: (m,) measured peaks.
        budget: of memory; something measured must fit it.

    Returns:
        None if nothing is predicted to fit.
    """
    within = np.flatnonzero(predicted[:, 1] <= budget)
    if not len(within):
        return None
    taken = int(within[predicted[within, 0].argmin()])
    return judged(taken, times, memory, budget)


def judged(taken: int, times: Reals, memory: Reals, budget: float) -> Choice:
    """One point's regret."""
    best = float(times[memory <= budget].min())
    fits = memory[taken] <= budget
    return Choice(float(times[taken]) / best - 1 if fits else math.inf,
                  float(memory[taken]) / budget)  # fmt: skip


def searched(
    space: Space, strategy: Strategy, evaluations: int, times: Reals, memory: Reals, budget: float
) -> int | None:
    """The fastest feasible point that a strategy finds by looking measurements up.

    Args:
        space: of the grid; its candidates in order are the rows.
        strategy: asks for them, told less time as the higher score.
        evaluations: looked up.
        times: (m,) measured.
        memory: (m,) measured peaks.
        budget: of memory.

    Returns:
        The row, or None if none that fits was seen.
    """
    rows = {candidate: i for i, candidate in enumerate(space)}
    best: int | None = None
    for _ in range(evaluations):
        candidate = strategy.ask()
        row = rows[candidate]
        fits = memory[row] <= budget
        score = -math.log(times[row]) if fits else None
        strategy.tell(candidate, Outcome(score, reason="" if fits else "memory"))
        if fits and (best is None or times[row] < times[best]):
            best = row
    return best
