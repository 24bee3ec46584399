"""Bayesian search by Optuna's tree-structured Parzen estimator, as a strategy of this room."""

from __future__ import annotations

from typing import Any

from cofit.core import MissingDependencyError, derive_seed, numpy_generator
from cofit.search.space import Candidate, Decision, Space
from cofit.search.strategy import ATTEMPTS, Outcome


class Bayesian:
    """Candidates where good ones have been more likely than bad ones.

    Options that are rising numbers are searched as such, others as categories. What a mask forbids
    is drawn anew from what it allows, and the sampler is told what was evaluated instead.

    Source: J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.

    Args:
        space: of the candidates.
        seed: of all draws.
        startup: candidates that are drawn at random first.

    Raises:
        MissingDependencyError: Optuna is not installed.
    """

    def __init__(self, space: Space, seed: int, startup: int = 10) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MissingDependencyError("optuna", "bayesian", "Bayesian search") from error
        self._optuna: Any = optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study
        sampler = optuna.samplers.TPESampler(
            seed=derive_seed(seed, "bayesian") % 2**32, n_startup_trials=startup
        )
        self._study: Any = optuna.create_study(direction="maximize", sampler=sampler)
        self._space, self._seen = space, set[Candidate]()
        self._generator = numpy_generator(seed, "bayesian repair")
        self._distributions = {d.name: self._distribution(d) for d in space.decisions}

    def ask(self) -> Candidate:
        """A candidate that is new, if one is found."""
        state = self._optuna.trial.TrialState.FAIL
        for attempt in range(ATTEMPTS):
            trial = self._study.ask(self._distributions)
            wanted = tuple(trial.params[d.name] for d in self._space.decisions)
            self._study.tell(trial, state=state)  # known by what is told of it, see below
            candidate = self._space.repair(wanted, self._generator)
            if attempt > REPEATS:  # it insists: anything else
                candidate = self._space.sample(self._generator)
            if candidate not in self._seen:
                break
        return candidate

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        """Candidates that break a constraint count as the worst."""
        self._seen.add(candidate)
        states = self._optuna.trial.TrialState
        params = {d.name: i for d, i in zip(self._space.decisions, candidate, strict=True)}
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params=params,
                distributions=self._distributions,
                value=outcome.score,
                state=states.PRUNED if outcome.score is None else states.COMPLETE,
            )
        )

    def _distribution(self, decision: Decision) -> Any:
        options = decision.options
        numbers = [o for o in options if isinstance(o, int | float)]
        if len(numbers) == len(options) and numbers == sorted(numbers):
            return self._optuna.distributions.IntDistribution(0, len(options) - 1)
        return self._optuna.distributions.CategoricalDistribution(tuple(range(len(options))))


REPEATS = 20
"""Proposals in a row that are known already, before one is drawn at random."""
