"""Every evaluation of a search, in one SQLite file, so that a killed search goes on."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cofit.core import FileError
from cofit.search.space import Candidate, Space
from cofit.search.strategy import Outcome, Strategy

_TABLE = """
create table if not exists evaluations (
    study text not null, number integer not null, candidate text not null, score real,
    vals text not null, reason text not null, seconds real not null, at real not null,
    primary key (study, number)
) strict
"""


@dataclass(frozen=True)
class Evaluation:
    """One evaluated candidate.

    Attributes:
        candidate: what was evaluated.
        outcome: what it gave.
        seconds: wall time of the evaluation.
        at: when it ended, in seconds since 1970.
    """

    candidate: Candidate
    outcome: Outcome
    seconds: float
    at: float


class Ledger:
    """The evaluations of named studies.

    Args:
        path: the file; made with its folders if absent. ":memory:" keeps nothing.

    Raises:
        FileError: it cannot be opened, or is no ledger.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self.path = path
        try:
            if isinstance(path, Path):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, isolation_level=None)
            self._file.execute("pragma journal_mode = wal")
            self._file.execute(_TABLE)
        except (sqlite3.Error, OSError) as error:
            raise FileError(
                f"ledger {str(path)!r} cannot be used ({error}); give another path"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def add(self, study: str, number: int, evaluation: Evaluation) -> None:
        """Store one evaluation, whole or not at all."""
        outcome = evaluation.outcome
        self._file.execute(
            "insert into evaluations values (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                study, number, json.dumps(evaluation.candidate), outcome.score,
                json.dumps(dict(outcome.values)), outcome.reason, evaluation.seconds,
                evaluation.at,
            ),
        )  # fmt: skip

    def evaluations(self, study: str) -> Iterator[Evaluation]:
        """Those of a study in their order."""
        rows = self._file.execute(
            "select candidate, score, vals, reason, seconds, at from evaluations"
            " where study = ? order by number",
            (study,),
        )
        with closing(rows):
            for candidate, score, values, reason, seconds, at in rows:
                outcome = Outcome(score, json.loads(values), reason)
                yield Evaluation(tuple(json.loads(candidate)), outcome, seconds, at)


def explore(
    space: Space,
    strategy: Strategy,
    evaluate: Callable[[Candidate], Outcome],
    evaluations: int,
    ledger: Ledger,
    study: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Evaluation]:
    """Evaluate what a strategy asks for, going on where the ledger ends.

    The strategy is told the stored outcomes first. It must be new and of the same seed as before.

    Args:
        space: of the candidates; each is checked against it.
        strategy: what proposes them.
        evaluate: gives the outcome of one candidate.
        evaluations: number of them, those found in the ledger included.
        ledger: where they are kept.
        study: their name in it.
        progress: called after each with (done, all).

    Returns:
        All evaluations in order.

    Raises:
        FileError: the ledger holds another search under this name.
    """
    found = list(ledger.evaluations(study))[:evaluations]
    for number in range(evaluations):
        candidate = strategy.ask()
        if number < len(found):
            if found[number].candidate != candidate:
                raise FileError(
                    f"ledger {str(ledger.path)!r} holds another search under {study!r}; "
                    "choose another name, or remove the file"
                )
        else:
            if not space.contains(candidate):
                raise ValueError(f"{type(strategy).__name__} asked for {candidate}, outside")
            start = time.perf_counter()
            outcome = evaluate(candidate)
            found.append(Evaluation(candidate, outcome, time.perf_counter() - start, time.time()))
            ledger.add(study, number, found[-1])
        strategy.tell(candidate, found[number].outcome)
        progress(number + 1, evaluations)
    return found


def best(evaluations: list[Evaluation]) -> Evaluation | None:
    """The one of the highest score, the first among equals; None if all broke a constraint."""
    scored = [each for each in evaluations if each.outcome.score is not None]
    return max(scored, key=lambda each: each.outcome.score or 0.0, default=None)
