"""Designs measured on this machine by wall clock, and what is learned of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cofit.core import DataError, derive_seed, torch_generator
from cofit.graphs.points import (
    DesignPredictor,
    Genes,
    OpTable,
    PointNetwork,
    PredictorReport,
    allocated_peak_bytes,
    design_costs,
    encode,
    linear_fit,
    macs,
    mape,
    parse,
    peak_bytes,
    report,
    time_beside,
)
from cofit.regimes import Batches, Checkpoint, Recipe, fit
from cofit.reproductions.hgnas.space import Limits, genes_of
from cofit.search import Candidate, Evaluation, Ledger, Outcome, RandomSearch, Space, explore

FLOOR = parse("sample:knn aggregate:source/max pool:max|mean")
"""The cheapest design that has a graph: no other can be faster. It runs beside all others."""
QUIET = 0.1
"""Quantile of its times that stands for a machine that nobody else uses."""
AGREEMENT = 0.3
"""A predicted peak further from the analytic one is replaced by the larger of both."""


@dataclass(frozen=True)
class Setting:
    """What all networks of a comparison have in common.

    Attributes:
        limits: of designs.
        n: points of a cloud.
        k: neighbours, the point itself included.
        classes: outputs.
        most: runs of one measurement at most.
    """

    limits: Limits
    n: int
    k: int
    classes: int
    most: int


def measure_design(genes: Genes, setting: Setting) -> Outcome:
    """Latency and allocator peak of a design with random weights on one cloud."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "measured"))
        network = PointNetwork(genes, setting.classes, setting.k)
    return measure_network(network, setting)


def measure_network(network: nn.Module, setting: Setting) -> Outcome:
    """Latency, also over that of `FLOOR` in runs between, and allocator peak on one cloud."""
    network, floor = network.eval(), PointNetwork(FLOOR, setting.classes, setting.k).eval()
    cloud = torch.randn(1, setting.n, 3, generator=torch_generator(0, "measured"))
    with torch.no_grad():
        timing, ratio = time_beside(
            lambda: network(cloud), lambda: floor(cloud), most=setting.most
        )  # fmt: skip
        peak = allocated_peak_bytes(lambda: network(cloud))
    values = {"latency_s": timing.latency_s, "ratio": ratio, "spread": timing.spread,
              "runs": float(timing.runs), "peak_bytes": float(peak)}  # fmt: skip
    return Outcome(0.0, values)


def floor_s(evaluations: Sequence[Evaluation]) -> float:
    """Seconds of `FLOOR` where the machine was quiet; times a ratio, a latency there."""
    values = [each.outcome.values for each in evaluations]
    return float(np.quantile([v["latency_s"] / v["ratio"] for v in values], QUIET))


def measure_designs(
    space: Space,
    setting: Setting,
    number: int,
    ledger: Ledger,
    progress: Callable[[int, int], None] = lambda done, total: None,
    measure: Callable[[Genes, Setting], Outcome] = measure_design,
) -> list[Evaluation]:
    """Distinct random designs, each measured; goes on where the ledger ends."""

    def evaluate(candidate: Candidate) -> Outcome:
        return measure(genes_of(space, candidate), setting)

    found = explore(space, RandomSearch(space, 0), evaluate, number, ledger, "measured", progress)
    unique = {each.candidate: each for each in found}
    return list(unique.values())


def check_measured(evaluations: Sequence[Evaluation]) -> None:
    """Refuse figures that no clock can have given.

    Raises:
        DataError: an evaluation ended before the one ahead of it, took less time than its runs,
            or no run differs from another.
    """
    at = [each.at for each in evaluations]
    if any(b < a for a, b in pairwise(at)):
        raise DataError("measurements are not in the order of their time stamps; measure anew")
    for each in evaluations:
        values = each.outcome.values
        if each.seconds < 0.5 * values["runs"] * values["latency_s"]:  # outliers are not averaged
            raise DataError(
                f"a latency of {values['latency_s']:.3g} s over {values['runs']:.0f} runs in "
                f"{each.seconds:.3g} s; latencies must be measured, not computed"
            )
    if all(each.outcome.values["spread"] == 0 for each in evaluations):
        raise DataError("all runs of all designs took the same time; measure with a clock")


@dataclass(frozen=True)
class Examples:
    """Measured designs as a predictor takes them.

    Attributes:
        genes: of each design.
        x: (designs, nodes, features).
        latency_s: (designs,).
        peak_bytes: (designs,).
        macs: (designs,) of products and distances.
        table_s: (designs,) sums of the operations' times.
    """

    genes: list[Genes]
    x: torch.Tensor
    latency_s: NDArray[np.float64]
    peak_bytes: NDArray[np.float64]
    macs: NDArray[np.float64]
    table_s: NDArray[np.float64]

    def rows(self, part: slice) -> Examples:
        """Some of them."""
        return Examples(
            self.genes[part], self.x[part], self.latency_s[part], self.peak_bytes[part],
            self.macs[part], self.table_s[part],
        )  # fmt: skip


def examples(
    evaluations: Sequence[Evaluation], space: Space, table: OpTable, setting: Setting
) -> Examples:
    """From measurements that pass `check_measured`; latencies as on the quiet machine."""
    check_measured(evaluations)
    unit_s = floor_s(evaluations)
    genes = [genes_of(space, each.candidate) for each in evaluations]
    costs = [design_costs(g, setting.n, setting.k, setting.classes) for g in genes]
    return Examples(
        genes,
        features(genes, table, setting),
        unit_s * np.array([each.outcome.values["ratio"] for each in evaluations]),
        np.array([each.outcome.values["peak_bytes"] for each in evaluations]),
        np.array([float(macs(c) + macs(c, selection=True)) for c in costs]),
        np.array([sum(table.op_times_s(g)) for g in genes]),
    )


def features(genes: Sequence[Genes], table: OpTable, setting: Setting) -> torch.Tensor:
    """(designs, nodes, features)."""
    length = setting.limits.length
    rows = [encode(g, table.op_times_s(g), length, setting.n, setting.k) for g in genes]
    return torch.stack(rows)


def train_predictor(
    x: torch.Tensor,
    values: NDArray[np.float64],
    epochs: int,
    width: int,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> DesignPredictor:
    """Fit a predictor to measured values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "predictor"))
        predictor = DesignPredictor(width)
    targets = torch.from_numpy(values).float()
    predictor.standardise(x, targets)
    size = min(32, max(2, len(x) // 4))
    data = Batches(x, targets / predictor.unit, size, channels_last=False)
    recipe = Recipe(epochs, 3e-3, "adam", weight_decay=1e-4)
    fit(predictor, data, recipe, criterion=mape, checkpoint=checkpoint, progress=progress,
        stage="predictor")  # fmt: skip
    return predictor


@dataclass(frozen=True)
class Comparison:
    """Reports on held-out designs: the predictor's, its baselines', and a control's.

    Attributes:
        predictor: trained on the designs' own features.
        shuffled: trained on features of other designs; it must be worse.
        macs: a line through MACs.
        table: the sum of the operations' times, corrected by a line.
        margin: share by which 95 % of held-out latencies stay below prediction times (1 + margin).
    """

    predictor: PredictorReport
    shuffled: PredictorReport
    macs: PredictorReport
    table: PredictorReport
    margin: float


def compare(
    train: Examples, held: Examples, predictor: DesignPredictor, shuffled: DesignPredictor
) -> Comparison:
    """The predictor beside lines through MACs and table sums, on designs it has not seen."""

    def predicted(model: DesignPredictor) -> NDArray[np.float64]:
        return model.predict(held.x).double().numpy()

    true, ours = held.latency_s, predicted(predictor)
    return Comparison(
        report(ours, true),
        report(predicted(shuffled), true),
        report(linear_fit(train.macs, train.latency_s, held.macs), true),
        report(linear_fit(train.table_s, train.latency_s, held.table_s), true),
        max(0.0, float(np.quantile(true / ours, 0.95)) - 1),
    )


def shuffle_features(x: torch.Tensor) -> torch.Tensor:
    """Every design gets the features of another one."""
    return x[torch.randperm(len(x), generator=torch_generator(0, "shuffled features"))]


def robust_peak_bytes(predicted: float, genes: Genes, setting: Setting) -> float:
    """The predicted peak, or the larger of it and the analytic one where they disagree."""
    costs = design_costs(genes, setting.n, setting.k, setting.classes)
    analytic = peak_bytes(costs, weights=False)
    near = abs(predicted - analytic) <= AGREEMENT * analytic
    return predicted if near else max(predicted, float(analytic))
