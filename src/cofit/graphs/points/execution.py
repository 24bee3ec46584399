"""Running operations one by one: the state between them, and what of it the rest still needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

import torch

from cofit.core import DataError, torch_generator
from cofit.graphs.nearest import nearest
from cofit.graphs.points.genotype import Gene
from cofit.graphs.points.messages import reduce_messages

Need: TypeAlias = Literal["batch", "neighbours", "previous"]


@dataclass(frozen=True)
class State:
    """What stands between two operations; features always, the rest while it is needed.

    Attributes:
        x: (points, d) features, those of one cloud side by side; (clouds, d) after pooling.
        batch: (points,) int64 cloud of each point, ascending; clouds are of one size.
        neighbours: (points, k) int64 rows of `x`, the latest graph.
        previous: features before the latest change, for a skip.
    """

    x: torch.Tensor
    batch: torch.Tensor | None = None
    neighbours: torch.Tensor | None = None
    previous: torch.Tensor | None = None

    def only(self, needs: frozenset[Need]) -> State:
        """Without what is not needed, so that its memory is free."""
        return State(self.x, *(getattr(self, n) if n in needs else None for n in _PARTS))


_PARTS: tuple[Need, ...] = ("batch", "neighbours", "previous")


def begin(clouds: torch.Tensor, k: int) -> State:
    """The state before the first operation.

    Args:
        clouds: (clouds, n, d) points.
        k: neighbours of the graphs that will be made.

    Raises:
        DataError: another shape, fewer than `k` points, or points that are not finite.
    """
    if clouds.dim() != 3 or not len(clouds):
        raise DataError(f"clouds of shape {tuple(clouds.shape)}; give (clouds, points, d)")
    if clouds.shape[1] < k:
        raise DataError(f"clouds of {clouds.shape[1]} points for k = {k}; give at least k points")
    if not torch.isfinite(clouds).all():
        raise DataError("clouds hold NaN or infinite points; give finite ones")
    number, n, d = clouds.shape
    batch = torch.arange(number).repeat_interleave(n)
    return State(clouds.reshape(number * n, d), batch)


def needs(genes: Sequence[Gene]) -> frozenset[Need]:
    """What a state must hold besides its features for these operations to run."""
    found = set[Need]()
    graph, changed = False, False
    for gene in genes:
        if gene.op == "sample" or gene.op == "pool":
            found.add("batch")
        if gene.uses_graph and not graph:
            found.add("neighbours")
        if gene == Gene("connect", "skip") and not changed:
            found.add("previous")
        graph |= gene.op == "sample"
        changed |= gene.op not in ("sample", "communicate")
        if gene.op == "pool":
            break
    return frozenset(found)


def execute(
    gene: Gene, state: State, k: int, combine: Callable[[torch.Tensor], torch.Tensor]
) -> State:
    """One operation of a canonical sequence.

    Args:
        gene: the operation.
        state: before it.
        k: neighbours of a point, itself included.
        combine: what a combine computes.
    """
    if gene.op == "communicate":
        return state
    if gene.op == "sample":
        return replace(state, neighbours=_graph(gene, state, k))
    return replace(state, x=_features(gene, state, k, combine), previous=state.x)


def _features(
    gene: Gene, state: State, k: int, combine: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    if gene.op == "combine":
        return combine(state.x)
    if gene.op == "connect":
        assert state.previous is not None
        return state.x + state.previous
    if gene.op == "pool":
        return _pool(gene, _clouds(state))
    if not gene.uses_graph:
        return state.x * k  # k messages, each the target itself, added
    assert state.neighbours is not None
    return reduce_messages(state.x, state.neighbours, gene.message, gene.reducer)


def _clouds(state: State) -> torch.Tensor:
    assert state.batch is not None
    return state.x.view(int(state.batch[-1]) + 1, -1, state.x.shape[1])


def _graph(gene: Gene, state: State, k: int) -> torch.Tensor:
    clouds = _clouds(state.only(frozenset({"batch"}))).detach()
    number, n, _ = clouds.shape
    within = nearest(clouds, k, loops=True) if gene.attribute == "knn" else _random(n, k)[None]
    first = torch.arange(0, number * n, n)[:, None, None]
    return (within + first).view(number * n, k)


@lru_cache(maxsize=8)
def _random(n: int, k: int) -> torch.Tensor:
    """The same draw in every network and cloud, a point itself first."""
    order = torch.rand(n, n, generator=torch_generator(0, "random graph", n, k))
    order.fill_diagonal_(-1)
    return order.topk(k, largest=False).indices


def _pool(gene: Gene, clouds: torch.Tensor) -> torch.Tensor:
    found = {"max": lambda: clouds.amax(1), "mean": lambda: clouds.mean(1)}
    columns = [found[p]() if p in found else clouds.sum(1) for p in gene.pools]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)
