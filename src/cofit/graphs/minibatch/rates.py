"""Seconds of a configuration on this machine: a few rates, found by least squares from profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from cofit.graphs.minibatch.closed_form import Terms
from cofit.graphs.minibatch.device import Device
from cofit.graphs.minibatch.measure import Measurement

PHASES = {"sampling": "sample_s", "transfer": "transfer_s", "replacement": "replace_s",
          "computing": "compute_s"}  # fmt: skip
"""Names of a step's phases, and of their times in a `Measurement`."""

SHORTEST_S = 1e-7
"""What is measured to be shorter counts as this."""
ROUNDS = 5
"""Of reweighting."""


def work(terms: Terms) -> dict[str, tuple[float, ...]]:
    """What each phase of a step does, in units that have a rate; the first one is the step."""
    t = terms
    return {
        "sampling": (1.0, t.rows, t.edges, t.draws, t.comparisons, t.biased_draws, t.split_edges),
        "transfer": (1.0, t.rows, t.rows * t.row_bytes, t.looked_up_rows),
        "replacement": (float(t.replaced_rows > 0), t.replaced_rows, t.replaced_rows * t.row_bytes),
        "computing": (1.0, t.rows, t.edges, t.twin_edges, t.flops, t.gather_bytes, t.output_bytes,
                      float(t.model_bytes)),
    }  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Of this machine.

    Attributes:
        seconds: per unit of `work`, by phase; the link's time is not in them.
        hidden: share of the preparation's work that runs beside the computation where they overlap:
            1 with a core to spare, 0 on one core, where only the link's time can be hidden.
    """

    seconds: dict[str, tuple[float, ...]]
    hidden: float

    def phases_s(self, terms: Terms, device: Device) -> dict[str, float]:
        """Of one step, by phase, each alone on the machine."""
        found = {
            phase: float(np.dot(self.seconds[phase], amounts))
            for phase, amounts in work(terms).items()
        }
        found["transfer"] += device.transfer_s(terms.transfer_bytes)
        return found

    def epoch_s(self, terms: Terms, last: Terms | None, device: Device) -> float:
        """Of one epoch.

        Phases add up; where batches are prepared ahead, each is prepared while the one before it
        computes, but for the first.

        Args:
            terms: of a full batch.
            last: of the epoch's last batch, where that one is smaller.
            device: whose link.
        """
        full = terms.steps - (last is not None)
        prepare, link, compute = self._sides(terms, device)
        then = self._sides(last, device) if last is not None else None
        if not terms.prefetch:
            return full * (prepare + compute) + (0.0 if then is None else then[0] + then[2])
        total = prepare + (full - 1) * self._beside(prepare, link, compute)
        if then is None:
            return total + compute
        return total + self._beside(then[0], then[1], compute) + then[2]

    @property
    def least_step_s(self) -> float:
        """No step takes less."""
        before = self.seconds["sampling"][0] + self.seconds["transfer"][0]
        return max(before, self.seconds["computing"][0])

    def _sides(self, terms: Terms, device: Device) -> tuple[float, float, float]:
        """Seconds to prepare a batch, the link's part of them, and those to compute it."""
        parts = self.phases_s(terms, device)
        compute = parts["computing"]
        return sum(parts.values()) - compute, device.transfer_s(terms.transfer_bytes), compute

    def _beside(self, prepare: float, link: float, compute: float) -> float:
        return max(prepare, compute + (1 - self.hidden) * (prepare - link))


def fit_rates(
    terms: Sequence[tuple[Terms, Terms | None]], measured: Sequence[Measurement], device: Device
) -> Rates:
    """Non-negative least squares, nearly of logarithms, phase by phase.

    Phases that overlap slow each other down, so rates come from the profiles without prefetching
    (from all if there is none), and the others tell what overlapping hides.

    Args:
        terms: of the configurations: of full batches, and of the last one of an epoch.
        measured: what was measured of each, in the mean over an epoch; at least one.
        device: whose link time is known and subtracted.
    """
    every = list(zip(terms, measured, strict=True))
    alone = [(t, m) for t, m in every if not t[0].prefetch] or every
    seconds = {}
    for phase, name in PHASES.items():
        chosen = alone
        if phase == "replacement":
            chosen = [(t, m) for t, m in alone if t[0].replaced_rows > 0]
        aims = [getattr(m, name) for _, m in chosen]
        if phase == "transfer":
            aims = [a - device.transfer_s(m.feature_bytes)
                    for a, (_, m) in zip(aims, chosen, strict=True)]  # fmt: skip
        rows = [_mean_work(t, phase) for t, _ in chosen]
        width = len(work(terms[0][0])[phase])
        seconds[phase] = _least_squares(np.array(rows), np.array(aims)) if rows else (0.0,) * width

    def miss(hidden: float) -> float:
        rates = Rates(seconds, hidden)
        return sum(
            abs(math.log(rates.epoch_s(full, last, device) / m.epoch_s))
            for (full, last), m in every if full.prefetch
        )  # fmt: skip

    return Rates(seconds, min(np.linspace(0, 1, 21).tolist(), key=miss))


def _mean_work(terms: tuple[Terms, Terms | None], phase: str) -> list[float]:
    """Of a step, in the mean over an epoch."""
    full, last = terms
    amounts = np.array(work(full)[phase])
    if last is not None:
        amounts = amounts + (np.array(work(last)[phase]) - amounts) / full.steps
    return [float(v) for v in amounts]


def _least_squares(
    amounts: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    seconds: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> tuple[float, ...]:
    """Rates whose errors weigh by the geometric mean of what is measured and predicted.

    By the measured value alone, a slow outlier would count for less than a fast one, and rates
    come out too low.
    """
    aim = np.maximum(seconds, SHORTEST_S)
    scale = np.maximum(np.abs(amounts).max(0), 1e-30)
    weight = aim
    for _ in range(ROUNDS):
        found, _ = nnls(amounts / scale / weight[:, None], aim / weight)
        weight = np.sqrt(aim * np.maximum(amounts / scale @ found, SHORTEST_S))
    return tuple(float(v) for v in found / scale)
