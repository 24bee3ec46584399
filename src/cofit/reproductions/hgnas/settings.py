"""How much is done at each scale."""

from __future__ import annotations

from dataclasses import dataclass

from cofit.reproductions.hgnas.measuring import Setting
from cofit.reproductions.hgnas.space import Limits


@dataclass(frozen=True)
class Settings:
    """Of one scale.

    Attributes:
        data: the first is searched on; winners are trained on all.
        n: points of a cloud.
        k: neighbours, the point itself included.
        positions: operations of a design.
        combine: widths of combines.
        widest: most features of a point.
        train: training clouds.
        held: validation clouds.
        tested: test clouds.
        measured: designs measured for the predictor; 30 % are held out.
        most: runs of a measurement at most.
        predictor_width: of hidden layers.
        predictor_epochs: passes over the measured designs.
        supernet_epochs: of each of the two supernets.
        function_settings: pairs of settings tried in stage 1.
        function_designs: designs per pair.
        evaluations: of a search.
        population: of evolution.
        contest: evaluations of each of the contests of evolution and random search.
        contests: seeds of them.
        ranked: designs trained alone to check the supernet's order.
        epochs: of trainings from scratch.
        rounds: of the race.
        latency_share: bound of latency over the rewritten DGCNN's.
        memory_share: bound of peak memory over the rewritten DGCNN's.
    """

    data: tuple[str, ...]
    n: int
    k: int
    positions: int
    combine: tuple[int, ...]
    widest: int
    train: int
    held: int
    tested: int
    measured: int
    most: int
    predictor_width: int
    predictor_epochs: int
    supernet_epochs: int
    function_settings: int
    function_designs: int
    evaluations: int
    population: int
    contest: int
    contests: int
    ranked: int
    epochs: int
    rounds: int
    latency_share: float = 0.33
    memory_share: float = 0.5

    @property
    def setting(self) -> Setting:
        """What all designs share; ten classes in all data."""
        limits = Limits(self.positions, tuple(self.combine), self.widest)
        return Setting(limits, self.n, self.k, 10, self.most)
