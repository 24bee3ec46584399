"""From a graph, a budget and a priority to a guideline: profile, predict, explore, decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError, InfeasibleError, UnknownNameError, format_quantity
from cofit.graphs import Graph, GraphRecipe, evaluate, train_graph
from cofit.graphs.minibatch import (
    TEMPLATES,
    CachedLoader,
    ClosedForm,
    Configuration,
    Device,
    Measurement,
    measure,
    network,
)
from cofit.reproductions.gnnavigator.estimator import FOLDS, Estimator, Profile
from cofit.reproductions.gnnavigator.grid import ORDER, Grid
from cofit.search import (
    Candidate,
    Decision,
    Ledger,
    Outcome,
    Pruned,
    RandomSearch,
    Space,
    depth_first,
    explore,
)

Progress = Callable[[str, int, int], None]
PRIORITIES: dict[str, tuple[float, float, float]] = {
    "balanced": (1 / 3, 1 / 3, 1 / 3),
    "time": (1.0, 0.0, 0.0),
    "time-memory": (0.45, 0.45, 0.1),
    "memory-accuracy": (0.1, 0.45, 0.45),
    "time-accuracy": (0.45, 0.1, 0.45),
}
"""Weights of time, memory and error over the default's: Bal, the least time, Ex-TM,
Ex-MA and Ex-TA."""
DEFAULT = "PyG"
PROFILED_BATCHES = 4
SAFE = 1 - 1e-12
"""Factor of bounds, for the rounding of what they bound."""
EXTRA_EPOCHS_SEED = 1_000_003
"""Added to the seed of profiling, so that it sees other batches than training."""


@dataclass(frozen=True)
class Task:
    """What is to be trained, and how it is judged.

    Args:
        graph: with features, labels and masks, without self-loops.
        device: of the training; its memory is the budget.
        grid: of the configurations.
        epochs: after which accuracies are compared.
        learning_rate: of Adam.
        seed: of everything.
    """

    graph: Graph
    device: Device
    grid: Grid
    epochs: int = 5
    learning_rate: float = 0.01
    seed: int = 0

    @property
    def open_device(self) -> Device:
        """The device without an end of its memory, for profiling."""
        return Device(self.device.bandwidth_Bps, self.device.latency_s)

    def measured(self, configuration: Configuration) -> Measurement:
        """A few batches, without a budget."""
        seed = self.seed + EXTRA_EPOCHS_SEED
        return measure(self.graph, configuration, self.open_device, PROFILED_BATCHES, seed)

    def validated(self, configuration: Configuration) -> float:
        """Accuracy on validation nodes after the epochs, with a link that takes no time."""
        device = Device(math.inf, 0.0)
        seed = self.seed + EXTRA_EPOCHS_SEED
        loader = CachedLoader(self.graph, configuration, device, seed)
        recipe = GraphRecipe(self.epochs, self.learning_rate, evaluate_every=self.epochs)
        trained = train_graph(
            network(self.graph, configuration, seed), loader, recipe,
            evaluate=partial(evaluate, graph=self.graph), seed=seed,
        )  # fmt: skip
        assert trained.scores is not None
        return trained.scores.validation

    def profiled(self, configuration: Configuration) -> Outcome:
        """What the ledger keeps of a configuration."""
        accuracy = self.validated(configuration)
        return Outcome(accuracy, {**self.measured(configuration).document(), "accuracy": accuracy})


@dataclass(frozen=True)
class Explored:
    """The model of a task after profiling, and what it was learned from."""

    task: Task
    closed: ClosedForm
    estimator: Estimator
    default: tuple[float, float, float]
    profiling_s: float
    _known: dict[Candidate, NDArray[np.float64]] = field(default_factory=dict)
    _found: dict[tuple[float, bool], Pruned] = field(default_factory=dict)

    def bound(self, prefix: Candidate) -> tuple[float, float, float]:
        """Of time, memory and error of all that begins with a prefix."""
        grid, closed = self.task.grid, self.closed
        memory = self.estimator.least_memory(grid.cheapest(prefix, closed.least_bytes))
        steps, place = 1, ORDER.index("batch_size")
        if len(prefix) > place:
            steps = -(-closed.expectation.training // grid.table[place][prefix[place]])
        least = steps * self.estimator.rates.least_step_s
        values = (least * math.exp(self.estimator.time.low), memory, self.estimator.least_error)
        return values[0] * SAFE, values[1] * SAFE, values[2] * SAFE

    def evaluate(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        """(m, 3) predicted time, memory and error."""
        new = [c for c in candidates if c not in self._known]
        if new:
            chosen = [self.task.grid.configuration(c) for c in new]
            rows = self.estimator.predict(self.closed, chosen).objectives
            self._known.update(zip(new, rows, strict=True))
        return np.stack([self._known[c] for c in candidates])

    def search(self, memory_bytes: float, pruned: bool = True) -> Pruned:
        """The front within a budget."""
        key = (memory_bytes, pruned)
        if key not in self._found:
            limits = (math.inf, memory_bytes, math.inf)
            # without a budget bounds cut next to nothing
            bound = self.bound if pruned and memory_bytes < math.inf else None
            self._found[key] = depth_first(self.task.grid.space, self.evaluate, limits, bound)
        return self._found[key]

    def decide(self, found: Pruned, priority: str) -> Candidate:
        """The member of a front with the least weighted sum of objectives over the default's."""
        weights = np.array(weights_of(priority)) / np.array(self.default)
        return found.front[int((np.array(found.objectives) @ weights).argmin())]


@dataclass(frozen=True)
class Guideline:
    """What to do, what it will cost, and why.

    Attributes:
        configuration: chosen.
        priority: it was chosen by.
        memory_budget_bytes: of the device; None for no end.
        epoch_s: predicted seconds per epoch, and an interval.
        memory_bytes: predicted peak and an interval; the upper end is within the budget.
        accuracy: predicted on validation nodes after `epochs`, and an interval.
        default_epoch_s: predicted of the default, which is measured.
        default_memory_bytes: see above.
        default_accuracy: see above.
        bound: what limits the choice: the budget, or the phase that takes longest.
        reason: in words.
        epochs: of the accuracies.
        profiling_s: spent on measuring.
        break_even_epochs: after which profiling has paid; None if it never does.
        size: configurations of the grid.
        visited: prefixes and configurations looked at.
        evaluated: configurations predicted.
        link: emulated.
    """

    configuration: Configuration
    priority: str
    memory_budget_bytes: int | None
    epoch_s: tuple[float, float, float]
    memory_bytes: tuple[float, float, float]
    accuracy: tuple[float, float, float]
    default_epoch_s: float
    default_memory_bytes: float
    default_accuracy: float
    bound: str
    reason: str
    epochs: int
    profiling_s: float
    break_even_epochs: float | None
    size: int
    visited: int
    evaluated: int
    link: str

    def document(self) -> dict[str, Any]:
        """JSON values by field."""
        return {**asdict(self), "configuration": self.configuration.document()}


def weights_of(priority: str) -> tuple[float, float, float]:
    """Weights of time, memory and error.

    Raises:
        UnknownNameError: no such priority.
    """
    if priority not in PRIORITIES:
        raise UnknownNameError("priority", priority, PRIORITIES)
    return PRIORITIES[priority]


def prepare(
    task: Task,
    profiles: int,
    ledger: Ledger,
    progress: Progress = lambda stage, done, total: None,
    profile: Callable[[Configuration], Outcome] | None = None,
) -> Explored:
    """Profile the default and random configurations, and learn from them.

    Args:
        task: what is trained.
        profiles: random configurations; at least `FOLDS`.
        ledger: of what was measured; profiling goes on where it ends.
        progress: called with (stage, done, total).
        profile: measures a configuration; `task.profiled` if absent.

    Raises:
        ConfigError: too few profiles.
        FileError: the ledger holds profiles of another task.
    """
    if profiles < FOLDS:
        raise ConfigError(f"{profiles} profiles; give at least {FOLDS}")
    measured_by = task.profiled if profile is None else profile
    closed, space = ClosedForm(task.graph), task.grid.space
    default = default_of(task)
    single = Space([Decision("configuration", (default.text,))])
    first = explore(
        single, RandomSearch(single, 0), lambda _: measured_by(default), 1, ledger, "default",
        partial(progress, "default"),
    )  # fmt: skip
    found = explore(
        space, RandomSearch(space, task.seed),
        lambda c: measured_by(task.grid.configuration(c)), min(profiles, space.size), ledger,
        "profiles", partial(progress, "profile"),
    )  # fmt: skip
    made = [profile_of(closed, default, first[0].outcome)]
    made += [profile_of(closed, task.grid.configuration(e.candidate), e.outcome) for e in found]
    values = made[0]
    assert values.accuracy is not None
    spent = sum(e.seconds for e in [*first, *found])
    own = (values.measured.epoch_s, float(values.measured.peak_bytes),
           max(1 - values.accuracy, 1e-3))  # fmt: skip
    return Explored(task, closed, Estimator(made, task.open_device, task.seed), own, spent)


def default_of(task: Task) -> Configuration:
    """PyG's usual configuration, with the layers and the width of the grid."""
    usual, grid = TEMPLATES[DEFAULT], task.grid
    layers = len(grid.fanouts[0])
    fanouts = (usual.fanouts[0],) * (layers - 1) + usual.fanouts[-1:]
    return Configuration(
        usual.batch_size, fanouts, model=grid.model, layers=layers, hidden=grid.hidden[-1]
    )


def profile_of(closed: ClosedForm, configuration: Configuration, outcome: Outcome) -> Profile:
    """The profile that an outcome of the ledger is."""
    values: dict[str, Any] = dict(outcome.values)
    accuracy = values.pop("accuracy", None)
    whole = {name: int(values[name]) for name in ("steps", "row_bytes", "peak_bytes")}
    return Profile(closed, configuration, Measurement(**{**values, **whole}), accuracy)


def navigate(explored: Explored, priority: str = "balanced") -> Guideline:
    """Explore all configurations in the model and choose by a priority.

    Raises:
        UnknownNameError: no such priority.
        InfeasibleError: nothing fits the device; the text says what would.
    """
    weights_of(priority)
    task, closed = explored.task, explored.closed
    budget = task.device.memory_bytes
    found = explored.search(math.inf if budget is None else budget)
    if not found.front:
        free = explored.search(math.inf)
        least = min(values[1] for values in free.objectives)
        raise InfeasibleError(
            f"no configuration fits {format_quantity(budget, 'bytes')}: the smallest is predicted "
            f"to need up to {format_quantity(least, 'bytes')}; give at least that"
        )
    candidate = explored.decide(found, priority)
    chosen = task.grid.configuration(candidate)
    predicted = explored.estimator.predict(closed, [chosen])
    bound, reason = _why(explored, candidate, priority, chosen)
    saved = explored.default[0] - float(predicted.epoch_s[0, 0])
    return Guideline(
        configuration=chosen,
        priority=priority,
        memory_budget_bytes=budget,
        epoch_s=_three(predicted.epoch_s),
        memory_bytes=_three(predicted.memory_bytes),
        accuracy=_three(predicted.accuracy),
        default_epoch_s=explored.default[0],
        default_memory_bytes=explored.default[1],
        default_accuracy=1 - explored.default[2],
        bound=bound,
        reason=reason,
        epochs=task.epochs,
        profiling_s=explored.profiling_s,
        break_even_epochs=explored.profiling_s / saved if saved > 0 else None,
        size=sum(1 for _ in task.grid.space),
        visited=found.visited,
        evaluated=found.evaluated,
        link=task.device.text,
    )


def _three(row: NDArray[np.float64]) -> tuple[float, float, float]:
    value, low, high = map(float, row[0])
    return value, low, high


def _why(
    explored: Explored, candidate: Candidate, priority: str, chosen: Configuration
) -> tuple[str, str]:
    """The active bound, and the reason in words."""
    task, terms = explored.task, explored.closed.terms(chosen)
    free = explored.decide(explored.search(math.inf), priority)
    parts = explored.estimator.rates.phases_s(terms, task.device)
    longest = max(parts, key=lambda name: parts[name])
    share = parts[longest] / sum(parts.values())
    phases = f"{longest} takes {share:.0%} of the predicted phases"
    if free != candidate:
        other = task.grid.configuration(free)
        budget = format_quantity(task.device.memory_bytes, "bytes")
        return "memory budget", f"without the budget of {budget} it would be {other.text}; {phases}"
    return longest, f"the budget does not bind; {phases}"
