"""The part of a training step that the loop does, timed and counted without changing it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from cofit.graphs.minibatch.loader import CachedLoader
from cofit.regimes import Handle, Regime


class Metered(Regime):
    """Times the loop's part of each step and counts the memory it takes; changes nothing.

    Args:
        loader: of the batches; its arena and its log take the figures.
    """

    def __init__(self, loader: CachedLoader) -> None:
        self._loader = loader
        self._watch = ExitStack()
        self._begin = 0.0

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Occupy the weights."""
        nbytes = sum(parameter.nbytes for parameter in model.parameters())
        self._loader.arena.hold(nbytes)
        return Handle(partial(self._loader.arena.release, nbytes), self._watch.close)

    def before_step(self, step: int, total: int) -> None:
        """Begin."""
        self._watch.enter_context(self._loader.arena.watch())
        self._begin = time.perf_counter()

    def after_step(self) -> None:
        """End."""
        if self._loader.now is not None:
            self._loader.now.compute_s = time.perf_counter() - self._begin
        self._watch.close()
