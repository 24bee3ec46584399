"""What the accuracies of all arms say: winning tickets or not, and which regime to use."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from cofit.core import ConfigError

LEVEL = 0.05
"""Of the one-sided t tests over seeds."""


@dataclass(frozen=True)
class Margins:
    """In points of accuracy, 100 times the fraction.

    Attributes:
        dense: how far below the dense network a ticket may be.
        again: how far above the re-initialised network it must be.
    """

    dense: float = 0.5
    again: float = 0.5


def significant(differences: Sequence[float]) -> bool:
    """Whether the mean over seeds is above zero by a one-sided t test.

    Raises:
        ConfigError: fewer than three seeds.
    """
    if len(differences) < 3:
        raise ConfigError(f"{len(differences)} seeds; a verdict needs three or more")
    if statistics.stdev(differences) == 0:
        return differences[0] > 0
    return bool(stats.ttest_1samp(differences, 0.0, alternative="greater").pvalue < LEVEL)


def wins(accuracies: Mapping[str, Sequence[float]], margins: Margins) -> bool:
    """Whether tickets win: as accurate as the dense network, and above new weights.

    Args:
        accuracies: fractions per seed, of "dense", "ticket" and "again".
        margins: what counts as a difference.
    """
    ticket = accuracies["ticket"]
    near = [100 * (a - d) + margins.dense for a, d in zip(ticket, accuracies["dense"], strict=True)]
    over = [100 * (a - b) - margins.again for a, b in zip(ticket, accuracies["again"], strict=True)]
    return significant(near) and significant(over)


def verdict(
    accuracies: Mapping[float, Mapping[str, Sequence[float]]], margins: Margins | None = None
) -> str:
    """One line per mask source.

    Args:
        accuracies: by learning rate, then by arm, fractions per seed.
        margins: see `Margins`.

    Raises:
        ConfigError: fewer than three seeds, or a value that is not finite.
    """
    margins = margins or Margins()
    if not all(math.isfinite(v) for arms in accuracies.values() for a in arms.values() for v in a):
        raise ConfigError("an accuracy is not finite; the training diverged, lower the rate")
    rates = sorted(accuracies)
    dense = [statistics.fmean(accuracies[rate]["dense"]) for rate in rates]
    if len(rates) > 1 and dense[0] >= dense[-1]:
        return "rates not separating: the small rate trains the dense network as well"
    winning = [rate for rate in rates if wins(accuracies[rate], margins)]
    best = accuracies[rates[-1]]
    finetune = statistics.fmean(best["finetune"]) >= statistics.fmean(best["ticket"])
    advice = "use prune+fine-tune" if finetune else "use the ticket"
    if not winning:
        return f"no winning property: {advice}"
    where = ", ".join(f"{rate:g}" for rate in winning)
    if rates[-1] in winning:
        return f"winning tickets at learning rate {where}: {advice}"
    return f"winning tickets at learning rate {where} only, where training is too slow: {advice}"
