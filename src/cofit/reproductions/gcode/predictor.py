"""The latency of a design before it is run: sum of a table, or learned from measured designs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cofit.core import torch_generator
from cofit.graphs.points import (
    DesignPredictor,
    Genes,
    PredictorReport,
    encode,
    linear_fit,
    mape,
    report,
)
from cofit.graphs.points.coinference import Lut, cuts_of
from cofit.regimes import Batches, Recipe, fit
from cofit.reproductions.harness import Step, seeded
from cofit.targets.links import Link


@dataclass(frozen=True)
class Placed:
    """A machine pair and the link between, for `placed_times`."""

    lut: Lut
    link: Link
    slowdown: float
    overhead_s: float

    def sum_s(self, genes: Genes) -> float:
        """End-to-end latency as the sum of the table's entries."""
        return self.lut.estimate(genes, self.slowdown, self.overhead_s).latency_s(self.link)

    def times_s(self, genes: Genes) -> list[float]:
        """Of every operation where it runs, of transfers, and of the classifier with the return."""
        times = self.lut.placed_times_s(genes, self.slowdown)
        crossings = [
            seconds + self.link.transfer_s(nbytes) + self.overhead_s / 2
            for nbytes, seconds in self.lut.transfers(genes, self.slowdown)
        ]
        moves = [place for place, gene in enumerate(genes) if gene.op == "communicate"]
        if moves and cuts_of(genes).edge_classifies:
            moves.append(len(genes))
        for place, seconds in zip(moves, crossings, strict=True):
            times[place] += seconds
        return times


def train_predictor(
    step: Step, x: torch.Tensor, latencies_s: torch.Tensor, epochs: int, seed: int
) -> DesignPredictor:
    """Learn measured latencies; the graphs of `encode` are (designs, nodes, features)."""
    model = seeded(DesignPredictor, seed, "gcode predictor")
    model.standardise(x, latencies_s)
    batches = Batches(
        x, latencies_s / float(model.unit), size=min(64, len(x)), seed=seed, channels_last=False
    )
    fit(
        model, batches, Recipe(epochs, 3e-3, "adam", weight_decay=1e-4),
        criterion=mape, checkpoint=step.checkpoint("predictor"), progress=step.progress,
        stage="predictor",
    )  # fmt: skip
    return model


@dataclass(frozen=True)
class Judged:
    """A predictor and what it is compared with, on designs it has not seen.

    Attributes:
        learned: the predictor.
        summed: the sum of the table.
        fitted: the sum, corrected by a line through the designs that were seen.
        shuffled: the control: the predictor, told another design's operations.
    """

    learned: PredictorReport
    summed: PredictorReport
    fitted: PredictorReport
    shuffled: PredictorReport


def judge(
    step: Step,
    genes: Sequence[Genes],
    placed: Placed,
    latencies_s: np.ndarray,
    positions: int,
    held: float,
    epochs: int,
    seed: int,
) -> tuple[DesignPredictor, Judged]:
    """Train on one part of measured designs and judge on the rest."""
    x = encoded(genes, placed, positions)
    sums = np.array([placed.sum_s(each) for each in genes])
    generator = torch_generator(seed, "gcode predictor split")
    order = torch.randperm(len(genes), generator=generator).numpy()
    cut = int(len(genes) * (1 - held))
    seen, unseen = order[:cut], order[cut:]
    true = torch.from_numpy(latencies_s).float()
    model = train_predictor(step, x[seen], true[seen], epochs, seed)
    others = np.roll(unseen, 1)
    found = {
        "learned": model.predict(x[unseen]).double().numpy(),
        "summed": sums[unseen],
        "fitted": linear_fit(sums[seen], latencies_s[seen], sums[unseen]),
        "shuffled": model.predict(x[others]).double().numpy(),
    }
    judged = {name: report(values, latencies_s[unseen]) for name, values in found.items()}
    return model, Judged(**judged)


def encoded(genes: Sequence[Genes], placed: Placed, positions: int) -> torch.Tensor:
    """(designs, nodes, features)."""
    _, n, inputs = placed.lut.clouds.shape
    return torch.stack([
        encode(each, placed.times_s(each), positions, n, placed.lut.k, inputs) for each in genes
    ])  # fmt: skip
