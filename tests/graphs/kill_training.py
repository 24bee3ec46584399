"""Trains with a checkpoint until it kills itself with SIGKILL; run by test_graph_training."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

from cofit.graphs import (
    GraphRecipe,
    Sampled,
    Trained,
    build_gnn,
    evaluate,
    stochastic_block_model,
    train_graph,
)
from cofit.regimes import Checkpoint

STEPS = 15  # 5 epochs of 3 batches
DEATH = 8  # in the middle of an epoch, two steps after a save


def train(path: Path | None, death: int | None = None) -> Trained:
    graph = stochastic_block_model(300, classes=3, degree=8, homophily=0.8, features=8, seed=0)
    model = build_gnn("sage", [8, 16, 3], seed=0, dropout=0.5)

    def progress(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("train", STEPS)
        if done == death:
            os.kill(os.getpid(), signal.SIGKILL)

    return train_graph(
        model,
        Sampled(graph, (4, 4), 60, seed=1),
        GraphRecipe(epochs=5, learning_rate=0.02),
        evaluate=partial(evaluate, graph=graph),
        checkpoint=None if path is None else Checkpoint(path, every=3),
        progress=progress,
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]), DEATH)
