"""Measured times of single operations by their width; straight lines in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from cofit.core import ConfigError, torch_generator
from cofit.graphs.points.execution import State, begin, execute
from cofit.graphs.points.genotype import Gene, Genes, widths
from cofit.graphs.points.measure import time_call
from cofit.graphs.points.network import Classifier, Combine

GRID = (3, 8, 16, 32, 64, 128, 256, 512)
CLASSIFIER = "classifier"


@dataclass(frozen=True)
class OpTable:
    """Times of operations on one cloud.

    Attributes:
        times_s: by operation before and, with a leading "1 ", after pooling: one time for each
            width of `grid`.
        grid: widths of the input.
    """

    times_s: Mapping[str, tuple[float, ...]]
    grid: tuple[int, ...] = GRID

    def op_times_s(self, genes: Genes, inputs: int = 3) -> list[float]:
        """Of each operation of a canonical design, and of the classifier; transfers take none.

        Raises:
            ConfigError: an operation is not in the table.
        """
        found: list[float] = []
        pooled = False
        for gene, d in zip(genes, widths(genes, inputs), strict=False):
            name = f"1 {gene}" if pooled else str(gene)
            found.append(0.0 if gene.op == "communicate" else self._at(name, d))
            pooled |= gene.op == "pool"
        return [*found, self._at(CLASSIFIER, widths(genes, inputs)[-1])]

    def _at(self, name: str, d: int) -> float:
        if name not in self.times_s:
            raise ConfigError(f"operation {name!r} is not in the table; measure it too")
        return float(np.interp(d, self.grid, self.times_s[name]))


def measure_table(
    genes: Sequence[Gene], n: int, k: int, classes: int, most: int, grid: tuple[int, ...] = GRID
) -> OpTable:
    """Time every operation on every width, one cloud of random points.

    Args:
        genes: operations that act before pooling.
        n: points.
        k: neighbours.
        classes: outputs of the classifier.
        most: runs of each at most.
        grid: widths.
    """
    found: dict[str, tuple[float, ...]] = {}
    with torch.no_grad():
        states = [_state(n, k, d) for d in grid]
        for gene in genes:
            found[str(gene)] = tuple(_time(gene, state, k, most) for state in states)
            if gene.op == "combine":
                found[f"1 {gene}"] = tuple(_time(gene, State(s.x[:1]), k, most) for s in states)
        heads = [Classifier(d, classes).eval() for d in grid]
        rows = [torch.randn(1, d, generator=torch_generator(0, "row", d)) for d in grid]
        found[CLASSIFIER] = tuple(
            time_call(partial(h, x), warm_up=3, most=most).latency_s
            for h, x in zip(heads, rows, strict=True)
        )
    return OpTable(found, grid)


def _state(n: int, k: int, d: int) -> State:
    state = begin(torch.randn(1, n, d, generator=torch_generator(0, "cloud", d)), k)
    state = execute(Gene("sample", "knn"), state, k, torch.nn.Identity())
    return State(state.x, state.batch, state.neighbours, state.x)


def _time(gene: Gene, state: State, k: int, most: int) -> float:
    d = state.x.shape[1]
    combine = Combine(d, gene.width(d)).eval() if gene.op == "combine" else torch.nn.Identity()
    call = partial(execute, gene, state, k, combine)
    return time_call(call, warm_up=3, most=most).latency_s
