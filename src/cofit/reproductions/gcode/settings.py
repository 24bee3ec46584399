"""How much is done."""

from __future__ import annotations

from dataclasses import dataclass

BETWEEN = "sample:knn aggregate:target|relative/max"


@dataclass(frozen=True)
class Settings:
    """Sizes of everything.

    Attributes:
        data: name of the images that become clouds.
        train: clouds to train on.
        test: clouds of the test part.
        scored: clouds of the validation part on which a design's accuracy is found.
        n: points per cloud.
        k: neighbours per point, itself included.
        base: widths of the fixed network's blocks, each with a graph of its own.
        combines: widths that a searched combine may have.
        widest: features of a point.
        positions: operations of a design, up to two transfers among them.
        batch: clouds of a training step.
        shared_epochs: of the supernet.
        epochs: of the fixed network and of the winner.
        measured: designs that are timed for the predictor.
        held: share of them that it is judged on.
        predictor_epochs: of its training.
        frames: timed of each design.
        chunk: designs that the edge holds at a time.
        slowdown: of the device against this machine.
        bandwidths_Mbps: of the links; the search is for `bandwidth_Mbps`.
        bandwidth_Mbps: see above.
        trace_Mbps: of the dispatcher: before, during and after the breakdown.
        bound_share: latency bound of the search over the fixed network's best; the cheapest designs
            take 0.64 of that.
        candidates: accuracies that a search may evaluate.
        contests: of co-search and the sequential way, each with draws of its own.
    """

    data: str = "fashion_mnist"
    train: int = 4800
    test: int = 2000
    scored: int = 200
    n: int = 128
    k: int = 10
    base: tuple[int, ...] = (32, 32, 64, 128)
    combines: tuple[int, ...] = (8, 16, 32, 64, 128)
    widest: int = 256
    positions: int = 12
    batch: int = 32
    shared_epochs: int = 4
    epochs: int = 3
    measured: int = 1000
    held: float = 0.3
    predictor_epochs: int = 120
    frames: int = 5
    chunk: int = 1100
    slowdown: float = 8.0
    bandwidths_Mbps: tuple[float, ...] = (10.0, 40.0, 100.0)
    bandwidth_Mbps: float = 40.0
    trace_Mbps: tuple[float, ...] = (100.0, 1.0, 100.0)
    bound_share: float = 0.8
    candidates: int = 150
    contests: int = 5

    @property
    def fixed(self) -> str:
        """The fixed network, as DGCNN: a graph of the latest features before every block."""
        blocks = " ".join(f"{BETWEEN} combine:{width}" for width in self.base)
        return f"{blocks} pool:max|mean"
