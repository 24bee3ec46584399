"""The latency of a design before it is run: sum of a table, or learned from measured designs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cofit.core import InfeasibleError, torch_generator
from cofit.graphs.points import (
    DesignPredictor,
    Genes,
    PredictorReport,
    encode,
    linear_fit,
    report,
)
from cofit.graphs.points.coinference import Lut, cuts_of
from cofit.reproductions.gcode.bench import setting_of
from cofit.reproductions.gcode.networks import Results, Shared, frame_of
from cofit.reproductions.gcode.search import Predicted
from cofit.reproductions.gcode.settings import Settings
from cofit.reproductions.harness import Step
from cofit.reproductions.hgnas.measuring import train_predictor
from cofit.targets.links import Link, link_device

DEVICE = "jetson-tx2"
LUT_REPEATS = 5
WIDTH = 64
"""Of the predictor's hidden layers; chosen, 1024 as published."""


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
    model = train_predictor(
        x[seen], latencies_s[seen], epochs, WIDTH, step.checkpoint("predictor"), step.progress
    )
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


class Predictor:
    """Latency and energy of designs, from what `measure` found.

    The latency is the learned one where that was the better of the two on designs it had not seen.
    """

    def __init__(self, settings: Settings, found: Results, shared: Shared) -> None:
        lut = Lut(frame_of(settings), settings.k, shared.network, LUT_REPEATS)
        lut.restore(found["entries"])
        self._settings = settings
        self._placed = Placed(lut, setting_of(settings).link, settings.slowdown, found["hop_s"])
        self._model = DesignPredictor(WIDTH)
        self._model.load_state_dict({
            k: v for k, v in found.items() if isinstance(v, torch.Tensor)
        })  # fmt: skip
        reports = found["reports"]
        self.learned = reports["learned"]["mape"] < reports["summed"]["mape"]
        self._power = link_device(DEVICE)
        self._known: dict[Genes, Predicted | None] = {}

    def __call__(self, genes: Genes) -> Predicted | None:
        """None: the device's memory does not hold it."""
        if genes not in self._known:
            self._known[genes] = self._predict(genes)
        return self._known[genes]

    def quick(self, genes: Genes) -> Predicted | None:
        """By the table alone."""
        placed = self._placed
        try:
            estimate = placed.lut.estimate(genes, placed.slowdown, placed.overhead_s)
        except InfeasibleError:
            return None
        energy_j = estimate.energy_j(self._power, placed.link)
        return Predicted(estimate.latency_s(placed.link), energy_j)

    def _predict(self, genes: Genes) -> Predicted | None:
        found = self.quick(genes)
        if found is None or not self.learned:
            return found
        x = encoded([genes], self._placed, self._settings.positions)
        return replace(found, latency_s=float(self._model.predict(x)[0]))
