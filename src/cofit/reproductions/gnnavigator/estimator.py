"""Gray-box prediction: closed forms, corrected by trees that have seen measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

from cofit.core import derive_seed
from cofit.graphs.minibatch import (
    FAMILIES,
    POLICIES,
    ClosedForm,
    Configuration,
    Device,
    Measurement,
    Rates,
    Terms,
    fit_rates,
)

Reals = NDArray[np.float64]
FOLDS = 5
COVERED = 0.9
"""Share of held-out errors within the intervals."""


@dataclass(frozen=True)
class Profile:
    """One configuration as it was measured on one graph.

    Attributes:
        closed: forms of the graph.
        configuration: what ran.
        measured: on the device.
        accuracy: on validation nodes after the agreed epochs; None where it was not trained.
    """

    closed: ClosedForm
    configuration: Configuration
    measured: Measurement
    accuracy: float | None = None


@dataclass(frozen=True)
class Predicted:
    """Of several configurations, one row each: value, and the ends of an interval.

    Attributes:
        epoch_s: (m, 3).
        memory_bytes: (m, 3) peak on the device.
        accuracy: (m, 3) on validation nodes.
    """

    epoch_s: Reals
    memory_bytes: Reals
    accuracy: Reals

    @property
    def objectives(self) -> Reals:
        """(m, 3), smaller is better: time, the upper end of memory, error."""
        return np.stack([self.epoch_s[:, 0], self.memory_bytes[:, 2], 1 - self.accuracy[:, 0]], 1)


class Corrected:
    """A closed form times a factor learned from measurements, never outside the factors seen.

    Args:
        analytic: (m,) closed form.
        features: (m, k) what the factor may depend on.
        measured: (m,) positive.
        seed: of the trees.
    """

    def __init__(self, analytic: Reals, features: Reals, measured: Reals, seed: int) -> None:
        ratio = np.log(measured / analytic)
        self.low, self.high = float(ratio.min()), float(ratio.max())
        """Least and greatest logarithm of the factor."""
        self.middle = float(np.median(ratio))
        """Logarithm of the one factor that would do without trees."""
        self._trees = _shallow(seed).fit(features, ratio)
        self._seen = features, ratio, seed

    @cached_property
    def _misses(self) -> Reals:
        features, ratio, seed = self._seen
        return ratio - np.clip(
            _held_out(_shallow(seed), features, ratio, seed), self.low, self.high
        )

    @cached_property
    def error(self) -> float:
        """Logarithm of the interval's half width, from held-out profiles."""
        return float(np.quantile(np.abs(self._misses), COVERED))

    @cached_property
    def worst(self) -> float:
        """Logarithm of the largest underestimate of a held-out profile."""
        return float(max(0.0, self._misses.max()))

    def above(self, analytic: Reals, predicted: Reals) -> Reals:
        """(m,) what the measured value stays below, as far as any profile tells.

        That is the prediction raised by the largest underestimate of a held-out profile, or the
        closed form by the largest factor that was ever measured, whichever is less.
        """
        raised = np.minimum(predicted * math.exp(self.worst), analytic * math.exp(self.high))
        found: Reals = np.maximum(raised, predicted)
        return found

    @property
    def least_above(self) -> float:
        """Factor of the closed form that `above` is never below."""
        return math.exp(min(self.low + self.worst, self.high))

    def predict(self, analytic: Reals, features: Reals) -> Reals:
        """(m,) in the unit of what was measured."""
        ratio = np.clip(self._trees.predict(features), self.low, self.high)
        corrected: Reals = analytic * np.exp(ratio)
        return corrected


class Estimator:
    """Time, memory and accuracy of any configuration on any graph.

    Args:
        profiles: what was measured, on one graph or several; at least `FOLDS`, as many of them
            with an accuracy.
        device: of the profiles.
        seed: of the trees.
    """

    def __init__(self, profiles: Sequence[Profile], device: Device, seed: int = 0) -> None:
        self._device = device
        measured = [p.measured for p in profiles]
        self.rates: Rates = fit_rates([_terms(p) for p in profiles], measured, device)
        features = self._features(profiles)
        time = np.array([self._epoch(p) for p in profiles])
        self.time = Corrected(
            time, _with(features, time), np.array([m.epoch_s for m in measured]), seed
        )
        memory = np.array([p.closed.memory_bytes(p.configuration) for p in profiles])
        self.memory = Corrected(
            memory, _with(features, memory), np.array([m.peak_bytes for m in measured]), seed
        )
        known = [i for i, p in enumerate(profiles) if p.accuracy is not None]
        self._accuracies = np.array([profiles[i].accuracy for i in known], float)
        self._accuracy = _trees(seed).fit(features[known], self._accuracies)
        self._known = features[known], seed

    @cached_property
    def _accuracy_error(self) -> float:
        features, seed = self._known
        held = _held_out(_trees(seed), features, self._accuracies, seed)
        return float(np.quantile(np.abs(held - self._accuracies), COVERED))

    def central(
        self, closed: ClosedForm, configurations: Sequence[Configuration]
    ) -> tuple[Reals, Reals, Reals]:
        """(m,) times, memory and accuracy of some configurations on one graph."""
        asked = [_Asked(closed, c) for c in configurations]
        features = self._features(asked)
        time = np.array([self._epoch(a) for a in asked])
        memory = np.array([closed.memory_bytes(c) for c in configurations])
        low, high = float(self._accuracies.min()), float(self._accuracies.max())
        return (
            self.time.predict(time, _with(features, time)),
            self.memory.predict(memory, _with(features, memory)),
            np.clip(self._accuracy.predict(features), low, high),
        )

    def predict(self, closed: ClosedForm, configurations: Sequence[Configuration]) -> Predicted:
        """As `central`, with intervals."""
        epoch, peak, accuracy = self.central(closed, configurations)
        width = math.exp(self.time.error)
        above = self.memory.above(np.array([closed.memory_bytes(c) for c in configurations]), peak)
        return Predicted(
            np.stack([epoch, epoch / width, epoch * width], 1),
            np.stack([peak, peak / math.exp(self.memory.error), above], 1),
            np.stack([accuracy, np.clip(accuracy - self._accuracy_error, 0, 1),
                      np.clip(accuracy + self._accuracy_error, 0, 1)], 1),
        )  # fmt: skip

    def analytic(self, closed: ClosedForm, configuration: Configuration) -> tuple[float, float]:
        """The baseline: seconds per epoch and memory by closed forms, each times one factor."""
        time = self._epoch(_Asked(closed, configuration))
        memory = closed.memory_bytes(configuration)
        return time * math.exp(self.time.middle), memory * math.exp(self.memory.middle)

    def least_memory(self, analytic_bytes: float) -> float:
        """A bound of the upper end of memory, from a bound of its closed form."""
        return analytic_bytes * self.memory.least_above

    @property
    def least_error(self) -> float:
        """One less the best accuracy that any prediction can have."""
        return 1 - float(self._accuracies.max())

    def _epoch(self, of: Profile | _Asked) -> float:
        return self.rates.epoch_s(*_terms(of), self._device)

    def _features(self, rows: Sequence[Profile | _Asked]) -> Reals:
        return np.array([features(row.closed, row.configuration) for row in rows])


@dataclass(frozen=True)
class _Asked:
    closed: ClosedForm
    configuration: Configuration


def _terms(of: Profile | _Asked) -> tuple[Terms, Terms | None]:
    """Of a full batch, and of an epoch's last one where it is smaller."""
    last = of.closed.tail(of.configuration)
    return of.closed.terms(of.configuration), None if last is None else of.closed.terms(last)


def features(closed: ClosedForm, configuration: Configuration) -> list[float]:
    """What corrections may depend on: the graph, the variables, and the closed forms' parts."""
    c, terms = configuration, closed.terms(configuration)
    return [
        *plain_features(closed, configuration), terms.hit_rate, math.log(terms.rows),
        math.log(terms.edges + 1), math.log(terms.transfer_bytes + 1), math.log(terms.flops),
        math.log(c.batch_size * terms.steps),
    ]  # fmt: skip


def plain_features(closed: ClosedForm, configuration: Configuration) -> list[float]:
    """The graph and the variables alone."""
    c, expected = configuration, closed.expectation
    fanouts = [math.log(expected.nodes if k is None else k) for k in c.fanouts]
    return [
        math.log(c.batch_size), sum(fanouts), fanouts[0], c.bias, c.cache_ratio,
        *(float(c.cache_policy == policy) for policy in POLICIES[1:]),
        *(float(c.family == family) for family in FAMILIES[1:]), math.log(c.hidden),
        float(c.prefetch), float(c.feature_bits == 16), math.log(expected.nodes),
        math.log(expected.training), math.log(closed.features), *expected.degree_stats,
    ]  # fmt: skip


def _with(features: Reals, analytic: Reals) -> Reals:
    return np.column_stack([features, np.log(analytic)])


def _trees(seed: int) -> GradientBoostingRegressor:
    return GradientBoostingRegressor(
        n_estimators=100, max_depth=3, learning_rate=0.1, subsample=0.8, min_samples_leaf=2,
        random_state=derive_seed(seed, "trees") % 2**32,
    )  # fmt: skip


def _shallow(seed: int) -> GradientBoostingRegressor:
    """Trees of what closed forms leave over, which is little but for rare outliers.

    These are steps that go another way (the order of a layer's products turns over) or were
    disturbed, and must not bend what is predicted of others: hence Huber's loss.
    """
    return GradientBoostingRegressor(
        loss="huber", n_estimators=100, max_depth=2, learning_rate=0.05, subsample=0.8,
        min_samples_leaf=4, random_state=derive_seed(seed, "shallow trees") % 2**32,
    )  # fmt: skip


def _held_out(trees: GradientBoostingRegressor, features: Reals, aim: Reals, seed: int) -> Reals:
    """Predictions of each row by trees that have not seen it."""
    folds = KFold(FOLDS, shuffle=True, random_state=derive_seed(seed, "folds") % 2**32)
    found: Reals = cross_val_predict(trees, features, aim, cv=folds)
    return found


def tree_only(
    profiles: Sequence[Profile], asked: Sequence[Profile], target: str, seed: int
) -> Reals:
    """The baseline: `epoch_s` or `peak_bytes` from the graph and the variables by trees alone."""
    known = np.array([plain_features(p.closed, p.configuration) for p in profiles])
    aim = np.log([getattr(p.measured, target) for p in profiles])
    wanted = np.array([plain_features(p.closed, p.configuration) for p in asked])
    found: Reals = np.exp(_trees(seed).fit(known, aim).predict(wanted))
    return found
